"""The Hugging Face Hub as an upstream; importing this loads the hub's client."""

from archiver.upstream.huggingface.client import HuggingFace

__all__ = ["HuggingFace"]
