"""A hub cache that was restored, loaded by transformers with the variables that the end names."""

from __future__ import annotations

import os
import subprocess
import sys

from publishedkit import write_llama

from archiver.smoke import libraries

LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM
restored = AutoModelForCausalLM.from_pretrained("org/model")
own = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tensors, others = restored.state_dict(), own.state_dict()
assert tensors.keys() == others.keys() and tensors
assert all(torch.equal(tensors[name], others[name]) for name in tensors)
print("the same", len(tensors))
"""


def test_transformers_loads_it_offline_by_its_name(cli, archive, tmp_path):
    libraries.require("torch", "transformers")
    folder = write_llama(tmp_path / "model", shards=True)
    words = ("--as", "org/model", "--min-free", "0B")
    assert cli("import", "-C", archive, folder, *words).code == 0
    cache = tmp_path / "a cache"
    done = cli("restore", "-C", archive, "org/model", cache, "--layout", "hf-cache")
    assert done.code == 0
    last = done.out.splitlines()[-1]
    assert last == (f"Hub clients load it offline with HF_HUB_CACHE='{cache}' HF_HUB_OFFLINE=1.")
    # Nothing else is set: there is no network, and no cache but this one.
    environ = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, folder],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "the same" in ran.stdout
