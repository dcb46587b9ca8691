"""Dumps what transformers and sentence-transformers make of folders that people's tools write: golden/cases.json.

    python golden/cases.py FOLDER_OF_CASES

The folders are not part of the project; a test that does not find them says that it was skipped. The golden models and encoders of the
same kinds are part of it (models.py, encoders.py).
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import json
import sys
from importlib.metadata import version
from pathlib import Path

import sentence_transformers
import torch
import transformers

IDS = [39, 72, 100, 281, 283, 78]
LOGITS = ["bn_not", "bn_llama_rms", "savemodel-tied"]
TEXTS = {"st62": "The cat sleeps.", "e_gamma": "The cat sleeps.", "e_prompt": "The cat"}


def rounded(tensor):
    return [float(f"{x:.7g}") for x in tensor.tolist()]


def main():
    cases = Path(sys.argv[1])
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = {"versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")}, "ids": IDS}
    with torch.no_grad():
        for name in LOGITS:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                cases / name, dtype=torch.float32, attn_implementation="eager"
            )
            found[name] = rounded(model(torch.tensor([IDS])).logits[0, -1])
        for name, text in TEXTS.items():
            model = sentence_transformers.SentenceTransformer(str(cases / name), device="cpu")
            found[name] = dict(text=text, embedding=rounded(model.encode(text, convert_to_tensor=True)))
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    (Path(__file__).parent / "cases.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
