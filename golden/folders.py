"""Folders that `trine convert` made of GGUF files, loaded by transformers: the logits are those of the folder that they come from.

usage: python golden/folders.py TRINE [NAMES...]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODELS = Path(__file__).parent / "models"
TEXT = "Once upon a time, 123 dogs; isn't it?"


def logits(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return ids, model(ids).logits


def main():
    trine, names = sys.argv[1], sys.argv[2:]
    for source in sorted(MODELS.iterdir()):
        if names and source.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            file, out = f"{folder}/model.gguf", f"{folder}/model"
            for command in ([source, file], [file, out, "--format", "f32", "--shard-size", "50KB"]):
                ran = subprocess.run([trine, "convert", *command], capture_output=True, text=True)
                if ran.returncode:
                    print(f"{source.name}: {ran.stderr.strip().splitlines()[0]}")
                    break
            else:
                try:
                    (ids, expected), (others, found) = logits(source), logits(out)
                    same = "the same ids" if torch.equal(ids, others) else f"ids {others} for {ids}"
                    print(f"{source.name}: {same}, logits differ by {(expected - found).abs().max():.1e}", flush=True)
                except Exception as error:
                    print(f"{source.name}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)


main()
