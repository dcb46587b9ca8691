"""`trine quantize` beside llama-quantize: error, divergence, size, time and peak memory of every mixture.

    quantize.py TRINE LLAMA_QUANTIZE MODEL TEXT [IMATRIX] [--only MIX,...]

MODEL is a GGUF file of F16 or F32, TEXT what both files are judged with. Prints a table in Markdown: for each mixture the squared error of the
quantized matrices as a part of their squares (weighted by IMATRIX, the mean of all matrices), the mean KL divergence of either file from MODEL with
its 95 % interval, as `trine eval kl` measures it, and of the two commands the wall time, the CPU time and the peak memory. Both run one after the
other, in turn, three times; times are medians. Needs PyPI `gguf` and `numpy`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np

arguments = sys.argv[1:]
only = arguments.index("--only") if "--only" in arguments else None
ONLY = arguments.pop(only + 1).upper().split(",") if only is not None else None
arguments = [argument for argument in arguments if argument != "--only"]
TRINE, QUANTIZE, MODEL, TEXT = arguments[:4]
IMATRIX = ["--imatrix", arguments[4]] if len(arguments) > 4 else []
MIXES = """Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S IQ3_XS
    IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S""".split()
MIXES = ONLY or MIXES
RUNS = 3


def tensors(path):
    """The tensors of a file by their names: what they are, and their format."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def weights(tensor):
    """[rows, cols] as f32."""
    return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1, tensor.shape[0])


ORIGINAL = {name: weights(tensor) for name, tensor in tensors(MODEL).items() if len(tensor.shape) > 1}
SUMS = tensors(arguments[4]) if IMATRIX else {}


def error(path):
    """The mean over matrices of their weighted squared error as a part of their weighted squares."""
    parts = []
    for name, tensor in tensors(path).items():
        if name in ORIGINAL and tensor.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            sums = SUMS.get(f"{name}.in_sum2")
            weight = 1.0 if sums is None else np.array(sums.data).reshape(-1)
            original = ORIGINAL[name]
            parts.append(float((weight * (weights(tensor) - original) ** 2).sum() / (weight * original**2).sum()))
    return f"{statistics.mean(parts):.3g}"


def run(command):
    """Wall seconds, CPU seconds and peak MiB of a command; None if it fails."""
    start = time.monotonic()
    with open(os.devnull, "w") as null:
        child = subprocess.Popen(command, stdout=null, stderr=null)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        return None
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def divergence(path):
    command = [TRINE, "eval", "kl", MODEL, path, TEXT, "--context", "256", "--chunks", "20", "--json", "--quiet"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return f"{found['mean_kl']:.5f} [{found['mean_kl_low']:.5f}, {found['mean_kl_high']:.5f}]"


print("| Mixture | Error | llama-quantize | KL | llama-quantize | MiB | llama-quantize | s (CPU s) | llama-quantize | Peak MiB | llama-quantize |")
print("|---|---|---|---|---|---|---|---|---|---|---|")
with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, name) for name in ("ours.gguf", "theirs.gguf")]
    for mix in MIXES:
        commands = [
            [TRINE, "quantize", MODEL, paths[0], "--format", mix, "--force", *IMATRIX],
            [QUANTIZE, "--allow-requantize", *IMATRIX, MODEL, paths[1], mix],
        ]
        runs = [[run(command) for command in commands] for _ in range(RUNS)]
        cells = []
        for which in (0, 1):
            known = [pair[which] for pair in runs if pair[which]]
            if not known:
                cells.append(("refused", "", "", "", ""))
                continue
            wall, cpu, peak = (statistics.median(part) for part in zip(*known))
            size = os.path.getsize(paths[which]) / 2**20
            cells.append((error(paths[which]), divergence(paths[which]), f"{size:.2f}", f"{wall:.2f} ({cpu:.2f})", f"{peak:.0f}"))
        print("| " + " | ".join([mix] + [cell for pair in zip(*cells) for cell in pair]) + " |", flush=True)
