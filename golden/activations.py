"""Hidden states of golden models, layer by layer, as transformers computes them: golden/activations.safetensors.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    python golden/activations.py

For each model NAME below, NAME.ids are the first tokens of the first prompt of its golden.json, and NAME.0, NAME.1 ... the hidden
states `[tokens, hidden_size]` that `output_hidden_states` returns: embeddings, what each layer makes of them, and last those after
the last norm. The folder is loaded in float32 on the CPU with eager attention.
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

NAMES = ["bitnet-online", "command-r", "deepseek2", "gemma3", "gpt2", "llama", "mixtral", "olmo2", "phi2", "qwen3", "stablelm-parallel"]
TOKENS = 8

if __name__ == "__main__":
    here, tensors = Path(__file__).parent, {}
    for name in NAMES:
        folder = here / "models" / name
        prompt = json.loads((folder / "golden.json").read_text())["prompts"][0]
        ids = torch.tensor([prompt["ids"][:TOKENS]])
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        tensors[f"{name}.ids"] = ids[0].to(torch.int32)
        tensors |= {f"{name}.{i}": state[0].contiguous().clone() for i, state in enumerate(states)}
    save_file(tensors, here / "activations.safetensors")
