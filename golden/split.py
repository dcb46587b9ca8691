#!/usr/bin/env python3
"""Writes `split/`: one small set of tensors as PyPI `gguf` writes it whole (`whole.gguf`), in pieces of two tensors (`pieces-...`), and with
a first piece that has only keys (`keys-first-...`); and by hand in version 1 (`v1.gguf`), which `gguf` cannot write: as version 2, but
counts, lengths of strings and arrays, and dimensions have 32 bits (llama.cpp read it so until October 2023, and candle does).

    python golden/split.py
"""

import shutil
import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

HERE = Path(__file__).parent / "split"
NUMBERS = np.arange(64, dtype=np.float32).reshape(2, 32) / 8
TENSORS = {
    "a": NUMBERS,
    "b": NUMBERS.astype(np.float16),
    "c.weight": NUMBERS[:1, :5] - 1,
    "blk.0.d": NUMBERS.reshape(2, 4, 8),
    "e": NUMBERS[0, :3],
}
WORDS = ["one", "", "drei ☃"]


def write(name, **options):
    writer = GGUFWriter(HERE / name, "test", **options)
    writer.add_name("tiny")
    writer.add_array("test.words", WORDS)
    writer.add_array("test.numbers", [1, -2, 3])
    writer.add_float32("test.float", 0.5)
    writer.add_bool("test.bool", True)
    for tensor, x in TENSORS.items():
        writer.add_tensor(tensor, np.ascontiguousarray(x))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def v1():
    def string(text):
        return struct.pack("<I", len(text.encode())) + text.encode()

    def key(name, kind, value):
        return string(name) + struct.pack("<I", kind) + value

    keys = [
        key("general.architecture", 8, string("test")),
        key("general.name", 8, string("tiny")),
        key("test.words", 9, struct.pack("<II", 8, 3) + b"".join(map(string, WORDS))),
        key("test.numbers", 9, struct.pack("<II3i", 5, 3, 1, -2, 3)),
        key("test.float", 6, struct.pack("<f", 0.5)),
        key("test.bool", 7, b"\1"),
    ]
    rows, data = [], b""
    for name, x in TENSORS.items():
        kind = GGMLQuantizationType.F16 if x.dtype == np.float16 else GGMLQuantizationType.F32
        rows.append(string(name) + struct.pack(f"<{x.ndim + 2}IQ", x.ndim, *reversed(x.shape), kind, len(data)))
        data += x.tobytes() + bytes(-x.nbytes % 32)
    out = b"GGUF" + struct.pack("<III", 1, len(rows), len(keys)) + b"".join(keys + rows)
    (HERE / "v1.gguf").write_bytes(out + bytes(-len(out) % 32) + data)


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    write("whole.gguf")
    write("pieces.gguf", split_max_tensors=2)
    write("keys-first.gguf", split_max_tensors=2, small_first_shard=True)
    v1()


if __name__ == "__main__":
    main()
