"""Which files the hub keeps in LFS, and what their pointers look like."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING

from archiver.digest import git_blob_hasher

if TYPE_CHECKING:
    from archiver.loopback.content import Content

_LARGEST_PLAIN = 10 * 1024 * 1024
_PATTERNS = (
    # The .gitattributes that the Hub writes into a new model repository, and tokenizer.json, which
    # its clients add to it.
    *("*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib"),
    *("*.lfs.*", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.tar"),
    *("*.parquet", "*.pb", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors"),
    *("*.tar.*", "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*"),
    *("tokenizer.json", "*/tokenizer.json"),
)


def default_rule(path: str, size: int) -> bool:
    """Whether the Hub would keep ``path`` in LFS: by its name, or because it is above 10 MiB."""
    return size > _LARGEST_PLAIN or any(fnmatch(path, pattern) for pattern in _PATTERNS)


def pointer(content: Content) -> bytes:
    """The pointer file that git holds in place of ``content`` (LFS specification, version 1)."""
    return (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{content.sha256}\n"
        f"size {content.size}\n"
    ).encode()


def pointer_oid(content: Content) -> str:
    """The git object id of ``content``'s pointer."""
    text = pointer(content)
    hasher = git_blob_hasher(len(text))
    hasher.update(text)
    return hasher.hexdigest()
