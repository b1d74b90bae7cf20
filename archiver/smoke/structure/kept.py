"""Which modules a quantized model keeps in its plain dtype, as its config says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.smoke.config import ModelConfig

_LISTS = ("modules_to_not_convert", "ignored_layers")


def kept_modules(config: ModelConfig) -> Callable[[str], bool]:
    """Tells of a tensor's name whether its module, or one around it, was left as it was.

    A listed name may be a whole path or the end of one, with or without ``language_model``
    (transformers' ``should_convert_module``). Looked up part by part: lists have thousands of names.
    """
    listed = {_plain(name) for name in _listed(config)}
    return lambda tensor: any(part in listed for part in _parts(_plain(tensor)))


def _listed(config: ModelConfig) -> Iterator[str]:
    for key in _LISTS:
        names = (config.quantization or {}).get(key)
        if isinstance(names, list):
            yield from (name for name in names if isinstance(name, str))


def _plain(name: str) -> str:
    return name.replace("language_model.", "").removesuffix(".weight").removesuffix(".")


def _parts(name: str) -> Iterator[str]:
    """Every run of the name's parts; a name has about ten."""
    words = name.split(".")[:32]
    for begin in range(len(words)):
        for end in range(begin + 1, len(words) + 1):
            yield ".".join(words[begin:end])
