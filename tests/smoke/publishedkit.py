"""Small checkpoints laid out as other families publish theirs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA = WIDTHS | {"num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
SPECIAL = ("<unk>", "<s>", "</s>")
INDEX = "model.safetensors.index.json"


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def write_model(
    folder: Path, cls: str, config: str, settings: dict[str, Any], **saving: Any
) -> None:
    """A random model, in bfloat16 unless ``saving`` says otherwise, as ``save_pretrained`` writes it."""
    import torch
    import transformers

    dtype = saving.pop("dtype", torch.bfloat16)
    torch.manual_seed(1)
    model = getattr(transformers, cls)(getattr(transformers, config)(**settings))
    model.to(dtype).save_pretrained(folder, **saving)


def write_llama(folder: Path, *, shards: bool = False, **settings: Any) -> Path:
    """A Llama with a tokenizer that was converted from SentencePiece, as Llama 2 has one."""
    vocab = write_tokenizer(folder)
    saving = {"max_shard_size": "30KB"} if shards else {}
    settings = LLAMA | {"vocab_size": len(vocab)} | settings
    write_model(folder, "LlamaForCausalLM", "LlamaConfig", settings, **saving)
    return folder


def write_tokenizer(folder: Path) -> dict[str, int]:
    """``tokenizer.json`` and ``tokenizer_config.json``; the vocabulary."""
    letters = sorted({chr(code) for code in range(33, 127)} | {"\u2581"})
    merges = [["\u2581", one] for one in "abcdefghij"] + [["t", "h"], ["th", "e"]]
    tokens = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        *map("".join, merges),
    ]
    vocab = {token: number for number, token in enumerate(tokens)}
    kinds = {"byte_fallback": True, "fuse_unk": True, "unk_token": SPECIAL[0]}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    file = {
        "version": "1.0",
        "added_tokens": [added(number, token) for number, token in enumerate(SPECIAL)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
        },
        "model": {"type": "BPE", "vocab": vocab, "merges": merges} | kinds,
    }
    write_json(folder / "tokenizer.json", file)
    roles = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False} | roles
    write_json(folder / "tokenizer_config.json", settings)
    return vocab


def added(number: int, token: str, *, special: bool = True) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, "special": special} | flags


def copy_weights(folder: Path, to: str) -> None:
    """The same weights once more, under another name."""
    (folder / to).parent.mkdir(exist_ok=True)
    source = next(path for path in sorted(folder.glob("model*.safetensors")))
    (folder / to).write_bytes(source.read_bytes())
