"""Dumps golden/ternary/*.gguf: matrices in the ternary and binary layouts that PyPI gguf does not know, one file per producer.

    pip install numpy && python golden/ternary.py

Beside a tensor X there is X.trits (I8, what its weights are in units of their scale) and X.scales (F32, a scale for the matrix, for each row, or
for each block). Every encoder walks the weights one by one, as its format is described; nothing is shared with the readers.

Compared: I2_S of x86 builds, with and without `ACT_PARALLEL`, with `quantize_i2_s` (src/ggml-bitnet-mad.cpp) as it reads, that of ARM with what
its products load; TL1 and TL2 with `preprocess_weights_tl1` and `_tl2` (utils/convert-hf-to-gguf-bitnet.py) of microsoft/BitNet, which was run on
random matrices of seven shapes and gave the same bytes; IQ1_BN and IQ2_BN with
`quantize_one_row_1bn` and `_2bn` (ggml/src/iqk/iqk_quantize.cpp) of ikawrakow/ik_llama.cpp; Q1_0 and Q2_0 with `dequantize_row_q1_0` and `_q2_0`
(ggml/src/ggml-quants.c) of ggml. IQ2_BN_R4 by its description alone.
"""

import struct
from pathlib import Path

import numpy as np

rng = np.random.default_rng(158)
HERE = Path(__file__).parent / "ternary"
F32, I8 = 0, 24


def trits(rows, cols):
    return rng.integers(-1, 2, (rows, cols)).astype(np.int8)


def tail(scale):
    return struct.pack("<f", scale) + bytes(28)


def i2_s(t, block):
    """Blocks of `block` weights, the first quarter in the highest bits."""
    out = bytearray(t.size // 4)
    for i, x in enumerate(t.ravel()):
        quarter, m = divmod(i % block, block // 4)
        out[i // block * (block // 4) + m] |= (int(x) + 1) << (6 - 2 * quarter)
    return bytes(out)


def i2_s_rows(t):
    rows, cols = t.shape
    out = bytearray(t.size // 4)
    for r in range(rows):
        for c in range(cols):
            out[r // 4 * cols + c] |= (int(t[r, c]) + 1) << (6 - 2 * (r % 4))
    return bytes(out)


def tl1(t, bm_tile, bk, bm):
    """Tiles of bm_tile x bk; in them bm rows at a time, 256 / bm columns, 16 rows, 4 columns: a byte."""
    rows, cols = t.shape
    out = bytearray()
    pair = lambda r, c: 3 * int(t[r, c]) + int(t[r, c + 1]) + 4
    for r0 in range(0, rows, bm_tile):
        for c0 in range(0, cols, bk):
            for r1 in range(r0, r0 + bm_tile, bm):
                for c1 in range(c0, c0 + bk, 256 // bm):
                    for r2 in range(r1, r1 + bm, 16):
                        for c2 in range(c1, c1 + 256 // bm, 4):
                            for r in range(r2, r2 + 16):
                                out.append(pair(r, c2) << 4 | pair(r, c2 + 2))
    return bytes(out)


def tl2(t, bm_tile, bk):
    """Triples of the columns of whole tiles, their signs, pairs of the other columns, zeros."""
    rows, cols = t.shape
    split = cols // bk * bk
    order = [*range(8), *range(16, 24), *range(8, 16), *range(24, 32)]
    triple = lambda r, c: 9 * int(t[r, c]) + 3 * int(t[r, c + 1]) + int(t[r, c + 2])
    pair = lambda r, c: 3 * int(t[r, c]) + int(t[r, c + 1]) + 4
    magnitudes, signs, pairs = bytearray(), bytearray(), bytearray()
    for r0 in range(0, rows, bm_tile):
        for c0 in range(0, split, bk):
            for r1 in range(r0, r0 + bm_tile, 32):
                for c in range(c0, c0 + bk, 6):
                    magnitudes += bytes(abs(triple(r1 + r, c)) << 4 | abs(triple(r1 + r, c + 3)) for r in order)
                for c in range(c0, c0 + bk, 24):
                    for low in range(16):
                        word = 0
                        for i in range(8):
                            for half in range(2):
                                negative = triple(r1 + low + 16 * half, c + 3 * i) < 0
                                word |= negative << (15 - (2 * i + half))
                        signs += struct.pack("<H", word)
    for r0 in range(0, rows, bm_tile):
        for c0 in range(split, cols, 32):
            for r1 in range(r0, r0 + bm_tile, 32):
                for c in range(c0, c0 + 32, 4):
                    pairs += bytes(pair(r1 + r, c) << 4 | pair(r1 + r, c + 2) for r in order)
    out = magnitudes + signs + pairs
    return bytes(out) + bytes((cols - 256) * rows // 3 * 5 // 8 + 64 * rows - len(out))


def iq2_bn(t, scales):
    out = b""
    for row, scale in zip(t, scales):
        out += struct.pack("<f", scale)
        for block in row.reshape(-1, 64):
            out += bytes(sum((int(block[16 * n + m]) + 1) << 2 * n for n in range(4)) for m in range(16))
    return out


def iq1_bn(t, scales):
    fraction = lambda digits: (256 * sum((int(x) + 1) * 3**i for i, x in enumerate(digits)) + 242) // 243
    out = b""
    for row, scale in zip(t, scales):
        out += struct.pack("<e", scale)
        for block in row.reshape(-1, 4, 16):
            for sixteen in block:
                out += bytes(fraction(sixteen[5 * k : 5 * k + 5]) for k in range(3))
            out += bytes([fraction(block[:, 15])])
    return out


def iq2_bn_r4(t, scales):
    out = b""
    for r in range(0, len(t), 4):
        out += struct.pack("<4f", *scales[r : r + 4])
        for c in range(0, t.shape[1], 64):
            for l in range(4):
                for k in range(4):
                    for i in range(4):
                        out += bytes([sum((int(t[r + k, c + 16 * l + i + 4 * n]) + 1) << 2 * n for n in range(4))])
    return out


def q1_0(bits, scales):
    blocks = np.packbits(bits.reshape(-1, 128) > 0, axis=1, bitorder="little")
    return b"".join(struct.pack("<e", d) + block.tobytes() for d, block in zip(scales, blocks))


def q2_0(codes, scales, group):
    out = b""
    for d, block in zip(scales, codes.reshape(-1, group)):
        out += struct.pack("<e", d)
        out += bytes(sum((int(x) + 1) << 2 * i for i, x in enumerate(four)) for four in block.reshape(-1, 4))
    return out


def write(name, keys, tensors):
    """A GGUF file; `tensors` are (name, rows, cols, type, bytes)."""
    string = lambda s: struct.pack("<Q", len(s)) + s.encode()
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, value in keys.items():
        header += string(key)
        header += struct.pack("<I", 8) + string(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    offset, data = 0, b""
    for tensor, rows, cols, kind, content in tensors:
        header += string(tensor) + struct.pack("<IQQIQ", 2, cols, rows, kind, len(data))
        data += content + bytes(-len(content) % 32)
    HERE.mkdir(exist_ok=True)
    (HERE / name).write_bytes(header + bytes(-len(header) % 32) + data)


def tensor(name, kind, t, scales, content):
    scales = np.array(scales, np.float32)
    return [
        (f"{name}", *t.shape, kind, content),
        (f"{name}.trits", *t.shape, I8, t.tobytes()),
        (f"{name}.scales", 1, len(scales), F32, scales.tobytes()),
    ]


def random_scales(n):
    return rng.uniform(0.01, 2, n).astype(np.float16).astype(np.float32)


def main():
    bitnet = {"general.architecture": "bitnet-b1.58", "general.file_type": 40}
    t = trits(8, 256)
    for name, content in [("x86", i2_s(t, 128)), ("arm", i2_s(t, 64)), ("rows", i2_s_rows(t))]:
        write(f"i2_s-{name}.gguf", bitnet, tensor("w", 36, t, [0.7], content + tail(0.7)))

    # Tiles as in kernel_config.ini beside the files: two of each in both directions, and for TL2 columns behind the last.
    (HERE / "kernel_config.ini").write_text(
        "[Kernels_0]\nm = 128\nk = 256\nbm = 64\nbk = 128\nbmm = 32\n\n"
        "[Kernels_1]\nm = 64\nk = 384\nbm = 64\nbk = 64\nbmm = 64\n\n"
        "[Kernels_2]\nm = 128\nk = 512\nbm = 64\nbk = 192\nbmm = 32\n"
    )
    a, b = trits(128, 256), trits(64, 384)
    write(
        "tl1.gguf",
        bitnet | {"general.file_type": 38},
        tensor("w", 38, a, [0.7], tl1(a, 64, 128, 32) + tail(0.7)) + tensor("narrow", 38, b, [1.3], tl1(b, 64, 64, 64) + tail(1.3)),
    )
    # As the Python converter writes it: the scale is a tensor of its own, and the tensor before ends without a tail.
    c = trits(128, 512)
    data = tl2(c, 64, 192)
    scale = [("w_scale", 1, 1, F32, struct.pack("<f", 0.9))]
    write("tl2.gguf", bitnet | {"general.file_type": 39}, [("w", *c.shape, 39, data), *scale, *tensor("w", 39, c, [0.9], b"")[1:]])
    # The same under the number of newer programs, with its scale behind it.
    content = data + bytes(-len(data) % 32) + tail(0.9)
    write("tl2-42.gguf", bitnet | {"general.file_type": 39}, tensor("w", 42, c, [0.9], content))

    t = trits(8, 256)
    scales = random_scales(8)
    write(
        "iq_bn.gguf",
        {"general.architecture": "bitnet"},
        tensor("iq1_bn", 134, t, scales, iq1_bn(t, scales))
        + tensor("iq2_bn", 135, t, scales, iq2_bn(t, scales))
        + tensor("iq2_bn_r4", 335, t, scales, iq2_bn_r4(t, scales)),
    )

    bits = (rng.integers(0, 2, (4, 512)) * 2 - 1).astype(np.int8)
    codes = rng.integers(-1, 3, (4, 512)).astype(np.int8)
    one, small, large = random_scales(16), random_scales(32), random_scales(16)
    mainline = {"general.architecture": "qwen3"}
    write("q1_0.gguf", mainline, tensor("w", 41, bits, one, q1_0(bits, one)))
    write("q2_0.gguf", mainline, tensor("w", 42, codes, small, q2_0(codes, small, 64)))
    write("q2_0-128.gguf", mainline, tensor("w", 42, codes, large, q2_0(codes, large, 128)))


if __name__ == "__main__":
    main()
