"""The tokenizer as transformers loads it, from the small files alone."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from archiver.errors import SkippedError
from archiver.smoke.guard import reason
from archiver.smoke.loading.architecture import transformers_config
from archiver.smoke.tokens.tokenizer_file import TOKENIZER
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.smoke.trial import Trial

SENTENCE_PIECE: Final = (".model", ".spm")
"""What files of SentencePiece end in; some are lists of tiktoken."""
_READERS: Final = ("sentencepiece", "google.protobuf")
_ADVICE: Final = "pip install"


def load_tokenizer(trial: Trial) -> Any:
    """The tokenizer of the model, by the class that transformers takes.

    Raises:
        SkippedError: It needs a library that is not there.
        FailedError: transformers refuses ``config.json``.
        Exception: Whatever transformers raises on account of the tokenizer's files.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - of the extra

    try:
        return AutoTokenizer.from_pretrained(
            str(trial.folder), trust_remote_code=False, local_files_only=True
        )
    except ImportError as error:
        raise _needs(str(error).strip().partition("\n")[0].partition(". ")[0]) from error
    except Exception as error:
        _require_readers(trial, error)
        with suppress(SkippedError):  # it has a reading of its own of a family that is not known
            transformers_config(trial)  # the tokenizer's loader reads config.json as well
        raise


def _needs(what: str) -> SkippedError:
    told = printable(what.rstrip("."), 200) or "one is missing"
    return SkippedError(f"The tokenizer needs more libraries: {told}.")


def _require_readers(trial: Trial, error: Exception) -> None:
    """Without what reads it, transformers takes one format of a vocabulary for the other."""
    files = [path for path in trial.checkpoint.files if path.endswith(SENTENCE_PIECE)]
    missing = [name for name in _READERS if not _is_there(name)]
    if files and TOKENIZER not in trial.checkpoint.files and (missing or _ADVICE in str(error)):
        names = " and ".join(name.rpartition(".")[2] for name in missing)
        told = f"{names} to read {files[0]}" if missing else reason(error)
        raise _needs(told) from error


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
