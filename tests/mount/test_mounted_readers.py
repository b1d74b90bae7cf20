"""The programs that people load models with read them from a mounted archive, by mapping them."""

from __future__ import annotations

from kit.mounts import Mounted, python

from archiver.demo.checkpoints import write_dense

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_safetensors_gives_the_tensors_of_the_file(held, mounted, tmp_path):
    (tmp_path / "same").write_bytes(held.files[f"org/model/{held.first}"]["model.safetensors"])
    code = """
import sys
import torch
from safetensors import safe_open
with safe_open(sys.argv[1], 'pt') as here, safe_open(sys.argv[2], 'pt') as there:
    assert sorted(here.keys()) == sorted(there.keys())
    for name in there.keys():
        one, other = here.get_tensor(name), there.get_tensor(name)
        assert one.dtype == other.dtype
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8)), name
    one, other = (each.get_slice('embed.weight')[4000:4010] for each in (here, there))
    assert torch.equal(one, other)
print('equal')
"""
    path = mounted.folder / "org/model" / held.first / "model.safetensors"
    assert python(code, path, tmp_path / "same") == "equal\n"


def test_gguf_gives_the_tensors_of_the_file(held, mounted, tmp_path):
    (tmp_path / "same").write_bytes(held.files[f"org/model/{held.first}"]["model.gguf"])
    code = """
import sys
import numpy as np
from gguf import GGUFReader
here, there = map(GGUFReader, sys.argv[1:])
assert list(here.fields) == list(there.fields)
assert [tensor.name for tensor in here.tensors] == [tensor.name for tensor in there.tensors] != []
for one, other in zip(here.tensors, there.tensors):
    assert np.array_equal(one.data.view(np.uint8), other.data.view(np.uint8)), one.name
print('equal')
"""
    path = mounted.folder / "org/model/main/model.gguf"
    assert python(code, path, tmp_path / "same") == "equal\n"


def test_a_hub_client_takes_the_mount_for_its_cache(held, mounted):
    code = """
import os, sys
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
path = hf_hub_download('org/model', 'config.json')
print(open(path).read().strip())
print(open(hf_hub_download('org/model', 'config.json', revision='v1/old')).read().strip())
print(os.path.realpath(snapshot_download('org/model')))
print(sorted(os.listdir(snapshot_download('org/data', repo_type='dataset'))))
"""
    lines = python(code, HF_HUB_CACHE=str(mounted.folder / ".hub"), **OFFLINE).splitlines()
    assert lines == [
        '{"version": 2}',
        '{"version": 1}',
        str(mounted.folder / "org/model" / held.second),
        "['data']",
    ]


def test_a_model_computes_what_the_restored_one_does(cli, archive, tmp_path):
    folder = write_dense(tmp_path / "dense", shards=3, vision=False)
    words = ("--as", "org/dense", "--min-free", "0B")
    assert cli("import", "-C", archive, folder, *words).code == 0
    code = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
transformers.utils.logging.disable_progress_bar()
told = []
for name in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    ids = tokenizer('The archive is intact.', return_tensors='pt').input_ids
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    with torch.no_grad():
        told.append((ids, model(input_ids=ids).logits))
for ids, logits in told:
    assert torch.equal(ids, told[0][0]) and torch.equal(logits, told[0][1]) and logits.std() > 0
print('the same')
"""
    with Mounted(archive, tmp_path / "m") as running:
        cache = {"HF_HUB_CACHE": str(running.folder / ".hub"), "HF_HOME": str(tmp_path / "home")}
        names = (folder, running.folder / "org/dense/main", "org/dense")
        assert python(code, *names, **cache, **OFFLINE) == "the same\n"
