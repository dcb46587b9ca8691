"""Dumps golden/formats.safetensors: random blocks of every weight format with the weights they decode to, and
weights with the blocks they encode to, both by PyPI gguf. What it does not know: I2_S is by its description; Q8_1 and Q8_K are decoded by their description
and encoded by ggml itself, in PyPI xllamacpp.

    pip install numpy gguf safetensors xllamacpp==2026.10.11549 && python golden/formats.py

For a format F: `F.bytes` (u8) decodes to `F.weights` (f32); `F.input` (f32) encodes to `F.encoded` (u8).
"""

from ctypes import c_int64, c_void_p
from pathlib import Path

import llamacpp
import numpy as np
from gguf import GGMLQuantizationType as Type, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

rng = np.random.default_rng(158)

# Offsets of the f16 scales in a block; everything else may be any byte.
SCALES = {"F16": [0], "BF16": [], "Q8_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64]}
SCALES |= {"Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "NVFP4": []}
SCALES |= {"IQ3_S": [0], "IQ3_XXS": [0], "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0], "IQ1_S": [0], "IQ1_M": []}
ENCODES = ["F16", "BF16", "Q8_0", "Q4_0", "TQ1_0", "TQ2_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"]


def random_blocks(name):
    block, size = GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (max(4, 512 // block), size), dtype=np.uint8)
    for at in SCALES[name]:
        scales = rng.integers(0, 0x7C00, len(blocks)) | rng.integers(0, 2, len(blocks)) << 15  # any finite f16
        blocks[:, at : at + 2] = scales.astype("<u2").view(np.uint8).reshape(-1, 2)
    if name == "BF16":
        blocks[:, 1] &= 0xBF  # no infinities or NaN
    if name == "IQ1_M":
        blocks[:, 55] &= 0xBF  # the top bits of its f16
    return blocks


def inputs():
    """Rows of 256 weights: zeros, gaussian, ties, ternary, small and large."""
    normal = rng.standard_normal((6, 256)).astype(np.float32)
    normal[0] = 0
    normal[2] = np.round(normal[2] * 4) / 4
    normal[3] = np.float32(0.37) * np.clip(np.round(normal[3]), -1, 1)
    normal[4] *= np.float32(1e-3)
    normal[5] *= np.float32(1e3)
    return normal


def i2_s_decode(data, rows, cols):
    codes = data[: rows * cols // 4].reshape(-1, 1, 32) >> np.array([6, 4, 2, 0], np.uint8).reshape(1, 4, 1) & 3
    return data[-32:-28].view(np.float32) * (codes.astype(np.float32) - 1).reshape(rows, cols)


def i2_s_encode(weights):
    scale = np.abs(weights).max()
    codes = (quants.np_roundf(weights * (np.float32(1) / scale)) + 1).astype(np.uint8).reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return np.concatenate([packed.ravel(), np.array([scale], np.float32).view(np.uint8), np.zeros(28, np.uint8)])


tensors = {}
for name in SCALES:
    blocks = random_blocks(name)
    tensors[f"{name}.bytes"] = blocks.ravel()
    tensors[f"{name}.weights"] = quants.dequantize(blocks, Type[name]).ravel()
for name in ENCODES:
    tensors[f"{name}.input"] = inputs()
    tensors[f"{name}.encoded"] = quants.quantize(tensors[f"{name}.input"], Type[name]).view(np.uint8).ravel()

tail = np.concatenate([np.array([0.7], np.float32).view(np.uint8), np.zeros(28, np.uint8)])
data = np.concatenate([rng.integers(0, 256, 3 * 256 // 4, dtype=np.uint8), tail])
tensors |= {"I2_S.bytes": data, "I2_S.weights": i2_s_decode(data, 3, 256)}
tensors |= {"I2_S.input": inputs()[1:4]}
tensors |= {"I2_S.encoded": i2_s_encode(tensors["I2_S.input"])}

# As ggml's block_q8_1 and block_q8_K: a scale, sums of codes (which decoding ignores), codes.
q8_1 = rng.integers(0, 256, (4, 36), dtype=np.uint8)
q8_1[:, 1] &= 0xBF
weights = q8_1[:, :2].copy().view(np.float16).astype(np.float32) * q8_1[:, 4:].view(np.int8).astype(np.float32)
tensors |= {"Q8_1.bytes": q8_1.ravel(), "Q8_1.weights": weights.ravel()}
q8_k = rng.integers(0, 256, (2, 292), dtype=np.uint8)
q8_k[:, 3] &= 0xBF
weights = q8_k[:, :4].copy().view(np.float32) * q8_k[:, 4:260].view(np.int8).astype(np.float32)
tensors |= {"Q8_K.bytes": q8_k.ravel(), "Q8_K.weights": weights.ravel()}
for name, block, size, quantise in [("Q8_1", 32, 36, llamacpp.LIB.quantize_row_q8_1_ref), ("Q8_K", 256, 292, llamacpp.LIB.quantize_row_q8_K_ref)]:
    weights = inputs()
    encoded = np.zeros(weights.size // block * size, np.uint8)
    quantise(c_void_p(weights.ctypes.data), c_void_p(encoded.ctypes.data), c_int64(weights.size))
    tensors |= {f"{name}.input": weights, f"{name}.encoded": encoded}

save_file(tensors, Path(__file__).parent / "formats.safetensors")
