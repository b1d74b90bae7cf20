"""The head, mostly ``lm_head.weight``: there, or shared with the embedding as the config says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.report import Proof

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.archive.findings import Code
    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig

HEAD: Final = "lm_head.weight"
# families that call their embedding otherwise call their head otherwise, too
EMBEDDINGS: Final = ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight")
_HEADS: Final = (HEAD, "head.weight")
"""DeepSeek-V4's is the second, also beside an embedding of the usual name, as transformers saves it."""
_GENERATES: Final = ("ForCausalLM", "ForConditionalGeneration")
_HINT: Final = "Compare with upstream's files; a shard may be of another model."


def check_tied(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """That a model which generates has a head of its own, or an embedding to share."""
    if not config.architecture.endswith(_GENERATES) or config.tied is None:
        return Proof(())
    embedding = next((tensors[name] for name in EMBEDDINGS if name in tensors), None)
    head = next((tensors[name] for name in _HEADS if name in tensors), None)
    if not config.tied:
        return _own(head, embedding)
    if head is None:
        return _shared(embedding, config)
    if embedding and head.shape != embedding.shape:
        message = "The head is tied to the embedding and has another shape."
        return Proof((), (_finding("model-tensor-shape", message, head.name, head.file),))
    return Proof(("the head has the shape of the embedding that it is tied to",))


def _own(head: StoredTensor | None, embedding: StoredTensor | None) -> Proof:
    if head is not None:
        return Proof(("the head is there",))
    if embedding is None:
        return Proof(())
    message = "The head is not tied to the embedding, and it is not there."
    return Proof((), (_finding("model-tensor-missing", message, HEAD),))


def _shared(embedding: StoredTensor | None, config: ModelConfig) -> Proof:
    if embedding is not None:
        return Proof(("the head is the embedding",))
    if not config.model_type.startswith("qwen3_5"):
        return Proof(())
    name = EMBEDDINGS[0 if config.text is not config.raw else 1]
    message = "The embedding is not there, which is the head as well."
    return Proof((), (_finding("model-tensor-missing", message, name),))


def _finding(code: Code, message: str, tensor: str, path: str = "") -> Finding:
    return Finding(code, message, path=path, tensor=tensor, hint=_HINT)
