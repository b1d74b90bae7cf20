"""``python from_pretrained.py FOLDER [TOKENS]``: what anybody would do without an archive.

transformers' own loader on a folder, one forward pass over the fixed text, and TOKENS new tokens.
"""

from __future__ import annotations

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

folder, count = sys.argv[1], int((sys.argv[2:] or ["0"])[0])
config = transformers.AutoConfig.from_pretrained(folder)
kind = getattr(transformers, config.architectures[0])
model = kind.from_pretrained(
    folder, dtype=torch.bfloat16, attn_implementation="eager", experts_implementation="eager"
)
ids = torch.arange(40)[None] * 7 % 500
with torch.no_grad():
    print(model(input_ids=ids).logits.float().norm().item())
    if count:
        print(model.generate(ids, max_new_tokens=count, do_sample=False).tolist())
