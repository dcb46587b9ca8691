"""Why bitstories3M's golden continuations differ from what its files say, and by how much rounding alone moves its logits.

    pip install gguf==0.19.0 numpy==2.4.6
    python golden/bitstories.py FOLDER        # the folder with bitstories3M-f32.gguf, -tq2_0.gguf and golden_numpy.json

A forward pass of our own in numpy, fed the golden ids. For every variant it prints the largest difference from the golden
logits of the first eight steps of each prompt, and every step whose best token is not the golden one, with the distance
between the two logits. The variants differ in precision, file, and the epsilons of the norms: the golden was computed as
the model's source does, with none inside the layers and 1e-5 before the head, while the files have 1e-12 for all.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize

HEADS, KV_HEADS, HEAD_DIM, LAYERS = 8, 4, 32, 8
VARIANTS = [  # file, precision, epsilon in layers, epsilon before the head
    ("f32", np.float64, 0, 1e-5),
    ("f32", np.float32, 0, 1e-5),
    ("f32", np.float64, 1e-12, 1e-12),
    ("f32", np.float32, 1e-12, 1e-12),
    ("tq2_0", np.float64, 1e-12, 1e-12),
    ("tq2_0", np.float32, 1e-12, 1e-12),
]


def weights(path, dtype):
    return {t.name: dequantize(np.array(t.data), t.tensor_type).astype(dtype) for t in GGUFReader(path).tensors}


def norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps).astype(x.dtype) * gain


def bit_linear(x, w):
    scale = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
    return (np.clip(np.rint(x * scale), -128, 127) / scale).astype(x.dtype) @ w.T


def rope(x):
    angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = np.cos(angles).astype(x.dtype)[:, None], np.sin(angles).astype(x.dtype)[:, None]
    a, b = np.split(x, 2, -1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def forward(w, ids, eps, head_eps):
    x, n = w["token_embd.weight"][ids], len(ids)
    mask = np.where(np.tril(np.ones((n, n))), 0, -np.inf).astype(x.dtype)
    for i in range(LAYERS):
        part = lambda name: w[f"blk.{i}.{name}.weight"]
        h = norm(x, part("attn_norm"), eps)
        q = rope(bit_linear(h, part("attn_q")).reshape(n, HEADS, HEAD_DIM))
        k = rope(bit_linear(h, part("attn_k")).reshape(n, KV_HEADS, HEAD_DIM)).repeat(HEADS // KV_HEADS, 1)
        v = bit_linear(h, part("attn_v")).reshape(n, KV_HEADS, HEAD_DIM).repeat(HEADS // KV_HEADS, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / x.dtype.type(HEAD_DIM**0.5) + mask
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = np.einsum("hqk,khd->qhd", p, v).reshape(n, HEADS * HEAD_DIM)
        x = x + bit_linear(norm(o, part("attn_sub_norm"), eps), part("attn_output"))
        h = norm(x, part("ffn_norm"), eps)
        gate = bit_linear(h, part("ffn_gate"))
        h = gate / (1 + np.exp(-gate)) * bit_linear(h, part("ffn_up"))
        x = x + bit_linear(norm(h, part("ffn_sub_norm"), eps), part("ffn_down"))
    return norm(x, w["output_norm.weight"], head_eps) @ w["token_embd.weight"].T


def main(folder):
    goldens = json.loads((folder / "golden_numpy.json").read_text())
    for file, dtype, eps, head_eps in VARIANTS:
        w = weights(folder / f"bitstories3M-{file}.gguf", dtype)
        print(f"{file} {np.dtype(dtype)}, epsilon {eps} in layers and {head_eps} before the head")
        for golden in goldens:
            prompt, greedy = golden["prompt_ids"], golden["greedy_ids"]
            logits = forward(w, np.array(prompt + greedy[:-1]), eps, head_eps)[len(prompt) - 1 :]
            steps = zip(logits, golden["logits_first_steps"])
            errors = [max(abs(row[token] - value) for token, value in step["top5"]) for row, step in steps]
            best = logits.argmax(-1)
            other = [(i, round(float(logits[i][best[i]] - logits[i][id]), 5)) for i, id in enumerate(greedy) if best[i] != id]
            print(f"  {golden['prompt']!r}: logits off by {' '.join(f'{e:.0e}' for e in errors)}; other best at {other} of {len(greedy)}")


main(Path(sys.argv[1]))
