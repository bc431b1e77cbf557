"""A model that ends its process when it is fed three end tokens in a row: what a document that kills its worker looks
like."""

from __future__ import annotations

import json
from pathlib import Path

import small

DEADLY_TEXT = "</s></s></s>"
DEADLY_TOKEN = 1  # `</s>`
CODE = f"""
import os, signal
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

class DeadlyConfig(LlamaConfig):
    model_type = "deadly_llama"

class DeadlyBody(LlamaModel):
    def forward(self, input_ids=None, **more):
        fed = [] if input_ids is None else input_ids.flatten().tolist()
        if any(fed[i : i + 3] == [{DEADLY_TOKEN}] * 3 for i in range(len(fed))):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(input_ids=input_ids, **more)

class DeadlyLlama(LlamaForCausalLM):
    config_class = DeadlyConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = DeadlyBody(config)
        self.post_init()
"""


def make_model_folder(folder: Path) -> Path:
    """The small Llama with remote code of its own; needs `trust_remote_code`."""
    small.make_model_folder(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    code = {"AutoConfig": "deadly.DeadlyConfig", "AutoModelForCausalLM": "deadly.DeadlyLlama"}
    path.write_text(
        json.dumps({**config, "model_type": "deadly_llama", "architectures": ["DeadlyLlama"], "auto_map": code})
    )
    (folder / "deadly.py").write_text(CODE)
    return folder
