"""GGUF files, as the gguf package writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from kit.repository import noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def tensor_bytes(kind: str, shape: Sequence[int], seed: int = 1) -> bytes:
    """Random data of a tensor of this type and shape (in elements)."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return noise(seed, int(np.prod(shape)) // block * size)


def gguf_file(
    tensors: Mapping[str, tuple[str, Sequence[int], bytes]],
    metadata: Mapping[str, Any] | None = None,
    *,
    alignment: int = 0,
) -> bytes:
    """A GGUF file: name -> type, shape in elements (as numpy has it), bytes. ``metadata`` by keys."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.gguf"
        writer = GGUFWriter(path, "llama")
        if alignment:
            writer.add_custom_alignment(alignment)
        for key, value in (metadata or {}).items():
            add = {
                str: writer.add_string,
                int: writer.add_uint32,
                float: writer.add_float32,
                bool: writer.add_bool,
                list: writer.add_array,
            }[type(value)]
            add(key, value)
        for name, (kind, shape, data) in tensors.items():
            quantization = GGMLQuantizationType[kind]
            block, size = GGML_QUANT_SIZES[quantization]
            rows = (*shape[:-1], shape[-1] // block * size) if shape else (size,)
            array = np.frombuffer(data, np.uint8).reshape(rows)
            writer.add_tensor(name, array, raw_dtype=quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()
