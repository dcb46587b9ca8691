"""The mixtures of `trine quantize` beside those of llama-quantize: the same format for each tensor.

    mixes.py TRINE LLAMA_QUANTIZE MODEL [IMATRIX]

MODEL is a GGUF file of F16 or F32. Needs the Python package `gguf`.
"""

import pathlib
import subprocess
import sys
import tempfile

import gguf

TRINE, QUANTIZE, MODEL = sys.argv[1:4]
IMATRIX = ["--imatrix", sys.argv[4]] if len(sys.argv) > 4 else []
MIXES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS
    IQ3_M IQ3_S IQ3_XS IQ3_XXS IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S MXFP4_MOE F16""".split()


def formats(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


different = 0
with tempfile.TemporaryDirectory() as folder:
    ours, theirs = (str(pathlib.Path(folder) / name) for name in ("ours.gguf", "theirs.gguf"))
    for mix in MIXES:
        known = subprocess.run([QUANTIZE, "--allow-requantize", *IMATRIX, MODEL, theirs, mix], capture_output=True, text=True)
        if known.returncode:
            print(f"{mix:10} llama-quantize refuses: {(known.stdout + known.stderr).strip().splitlines()[-1][:100]}")
            continue
        subprocess.run([TRINE, "quantize", MODEL, ours, "--format", mix, "--force", *IMATRIX], check=True, capture_output=True)
        found, expected = formats(ours), formats(theirs)
        wrong = [(name, found.get(name), expected[name]) for name in expected if found.get(name) != expected[name]]
        different += len(wrong)
        print(f"{mix:10} {len(expected) - len(wrong)} of {len(expected)} tensors alike", *wrong[:4])
sys.exit(f"{different} tensors differ" if different else 0)
