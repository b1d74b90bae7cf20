"""The Hugging Face Hub as an upstream; importing this loads the hub's client."""

from archiver.upstream.huggingface.endpoint import chosen_endpoint

# The client reads the variable as it is imported, and an odd address ends that in its own words.
chosen_endpoint()

from archiver.upstream.huggingface.client import HuggingFace  # noqa: E402 - see above

__all__ = ["HuggingFace"]
