"""The formats that llama-quantize gives each tensor: mixes.json, read by lab/tests/mixes.rs.

    mixes.py LLAMA_QUANTIZE TRINE

Needs the Python package `gguf`. Runs all mixtures with an importance matrix, which `trine imatrix` makes, and those that need none without,
over golden models of several kinds, and a synthetic one whose rows are whole blocks of 256.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf

QUANTIZE, TRINE = sys.argv[1:3]
here = pathlib.Path(__file__).parent
MODELS = ["llama", "mixtral", "deepseek2", "gemma2", "gpt2", "qwen2"]
MIXES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS
    IQ3_M IQ3_S IQ3_XS IQ3_XXS IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S MXFP4_MOE F16""".split()


def formats(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


found = {}
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    text, out, imatrix = (str(folder / name) for name in ("text.txt", "out.gguf", "imatrix.gguf"))
    pathlib.Path(text).write_text("The miller counted his sacks, and the cat slept in the sun all day long. " * 60)
    wide = str(folder / "wide.gguf")
    subprocess.run([TRINE, "bench", "--shape", "tiny", "--format", "f16", "--write-model", wide], check=True, capture_output=True)
    models = {"wide": wide} | {name: str(here / "models" / name / "model.gguf") for name in MODELS}
    for name, model in models.items():
        measured = [TRINE, "imatrix", model, text, "-o", imatrix, "--context", "64", "--chunks", "4", "--force", "--quiet"]
        subprocess.run(measured, check=True, capture_output=True)
        before = formats(model)
        for options in ([], ["--imatrix", imatrix]):
            for mix in MIXES:
                command = [QUANTIZE, "--allow-requantize", *options, model, out, mix]
                if subprocess.run(command, capture_output=True).returncode == 0:
                    changed = {tensor: to for tensor, to in formats(out).items() if to != before[tensor]}
                    found.setdefault(name, {}).setdefault("imatrix" if options else "plain", {})[mix] = changed
(here / "mixes.json").write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")
