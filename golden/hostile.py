#!/usr/bin/env python3
"""Writes `hostile/`: one small file for each way in which a model file can be malformed, collected from public reports on GGUF and safetensors loaders.

`gguf` and `safetensors` are refused when they are opened, `split` are folders with pieces of a split model, and `models` open as files but
are no model. Which error each gives is written in `crates/tensor/tests/hostile.rs` and `crates/model/tests/hostile.rs`.

    python golden/hostile.py
"""

import json
import shutil
import struct
from pathlib import Path

HERE = Path(__file__).parent / "hostile"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
NUMBERS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def string(text):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def value(kind, x):
    if kind == STRING:
        return string(x)
    if kind == ARRAY:
        element, items = x
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack("<" + NUMBERS[kind], x)


def key(name, kind, x):
    """A key; `x` may be the bytes of the value."""
    return string(name) + struct.pack("<I", kind) + (x if isinstance(x, bytes) else value(kind, x))


def tensor(name, ne, kind=0, offset=0):
    return string(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, offset)


def gguf(keys=(), tensors=(), data=64, version=3, n_tensors=None, n_keys=None):
    counts = (len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
    out = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    data = data if isinstance(data, bytes) else bytes(data)
    return out + bytes(-len(out) % 32) + data


def bad_array(element, n):
    return key("a", ARRAY, struct.pack("<IQ", element, n))


def alignment(n):
    return gguf([key("general.alignment", U32, n)])


GGUF = {
    "magic": b"GGML" + gguf()[4:],
    "version-4": gguf(version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(40),
    "cut-magic": b"GGUF",
    "cut-counts": gguf()[:20],
    "tensor-count": gguf(n_tensors=2**64 - 1),
    "key-count": gguf(n_keys=2**60),
    "count-v1": b"GGUF" + struct.pack("<III", 1, 0, 2**32 - 1) + bytes(40),
    "key-length": gguf([struct.pack("<Q", 2**63) + bytes(16)]),
    "key-empty": gguf([key("", U8, 1)]),
    "key-utf8": gguf([key(b"\xff\xfe", U8, 1)]),
    "key-twice": gguf([key("a", U8, 1), key("a", U8, 1)]),
    "value-type": gguf([key("a", 13, b"")]),
    "string-length": gguf([key("a", STRING, struct.pack("<Q", 2**63))]),  # CVE-2025-66960
    "array-length": gguf([bad_array(U8, 2**63)]),
    "array-size": gguf([bad_array(F64, 2**61 + 1)]),
    "array-strings": gguf([bad_array(STRING, 2**40)]),
    "array-string-length": gguf([key("a", ARRAY, struct.pack("<IQQ", STRING, 1, 2**64 - 1))]),
    "array-type": gguf([bad_array(13, 2**60)]),
    "array-nested": gguf([key("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", ARRAY, 1) * 20)]),
    "alignment-0": alignment(0),
    "alignment-24": alignment(24),
    "alignment-2-31": alignment(2**31),
    "alignment-string": gguf([key("general.alignment", STRING, "32")]),
    "tensor-name-utf8": gguf(tensors=[tensor(b"\xc3", [8])]),
    "tensor-name-length": gguf(tensors=[struct.pack("<Q", 2**63) + bytes(24)]),
    "tensor-twice": gguf(tensors=[tensor("a", [8]), tensor("a", [8], offset=32)]),
    "dimensions-5": gguf(tensors=[tensor("a", [1] * 5)]),
    "dimensions-2-32": gguf(tensors=[string("a") + struct.pack("<I", 2**32 - 1) + bytes(40)]),
    "dimension-0": gguf(tensors=[tensor("a", [8, 0])]),
    "dimension-2-42": gguf(tensors=[tensor("a", [2**42 + 1])]),
    "dimension-2-63": gguf(tensors=[tensor("a", [2**63])]),
    "sizes-wrap": gguf(tensors=[tensor(f"{i}", [2**58], offset=i * 2**60) for i in range(4)]),  # CVE-2025-53630, CVE-2026-27940
    "shape-wraps": gguf(tensors=[tensor("a", [8, 2**42 + 1, 2**22])]),
    "size-wraps": gguf(tensors=[tensor("a", [2**62])]),
    "type-99": gguf(tensors=[tensor("a", [8], kind=99)]),
    "type-negative": gguf(tensors=[tensor("a", [8], kind=2**32 - 1)]),
    "row-no-blocks": gguf(tensors=[tensor("a", [100], kind=8)]),
    "offset-misaligned": gguf(tensors=[tensor("a", [8], offset=4)]),
    "offset-past-end": gguf(tensors=[tensor("a", [8], offset=64)]),
    "offset-2-40": gguf(tensors=[tensor("a", [8]), tensor("b", [8], offset=2**40)]),
    "offset-wraps": gguf(tensors=[tensor("a", [8], offset=2**64 - 32)]),
    "size-past-end": gguf(tensors=[tensor("a", [8, 3])]),  # CVE-2026-7482
    "no-data": gguf(tensors=[tensor("a", [8])], data=0),
    "overlap": gguf(tensors=[tensor("a", [9]), tensor("b", [1], offset=32)]),
    "same-bytes": gguf(tensors=[tensor("a", [8]), tensor("b", [8])]),
    "split-no": gguf([key("split.no", U16, 2), key("split.count", U16, 2), key("split.tensors.count", I32, 0)]),
    "split-no-missing": gguf([key("split.count", U16, 2)]),
    "split-tensors-negative": gguf([key("split.no", U16, 0), key("split.count", U16, 2), key("split.tensors.count", I32, -1)]),
    "split-name": gguf([key("split.no", U16, 0), key("split.count", U16, 2), key("split.tensors.count", I32, 0)]),
}


def piece(no, count, names, total, keys=()):
    keys = [key("split.no", U16, no), key("split.count", U16, count), key("split.tensors.count", I32, total), *keys]
    return gguf(keys, [tensor(name, [8], offset=32 * i) for i, name in enumerate(names)], 32 * len(names))


def pieces(*files, prefix="x"):
    return {f"{prefix}-{i + 1:05}-of-{len(files):05}.gguf": bytes for i, bytes in enumerate(files) if bytes}


SPLIT = {
    "missing": pieces(piece(0, 3, ["a"], 3), None, piece(2, 3, ["c"], 3)),
    "missing-first": pieces(None, piece(1, 2, ["b"], 2)),
    "count-65535": {"x-00001-of-65535.gguf": piece(0, 65535, ["a"], 2)},
    "count-differs": pieces(piece(0, 2, ["a"], 2), piece(1, 3, ["b"], 2)),
    "number-differs": pieces(piece(0, 2, ["a"], 2), piece(0, 2, ["b"], 2)),
    "not-split": pieces(piece(0, 2, ["a"], 2), gguf()),
    "tensors-differ": pieces(piece(0, 2, ["a"], 2), piece(1, 2, ["b"], 3)),
    "tensors-missing": pieces(piece(0, 2, ["a"], 9), piece(1, 2, ["b"], 9)),
    "tensor-twice": pieces(piece(0, 2, ["a"], 2), piece(1, 2, ["a"], 2)),
    "keys-differ": pieces(
        piece(0, 2, ["a"], 2, [key("general.architecture", STRING, "llama")]),
        piece(1, 2, ["b"], 2, [key("general.architecture", STRING, "qwen2")]),
    ),
    "alignment-differs": pieces(
        piece(0, 2, ["a"], 2, [key("general.alignment", U32, 64)]), piece(1, 2, ["b"], 2)
    ),
    "cut": pieces(piece(0, 2, ["a"], 2), piece(1, 2, ["b"], 2)[:-1]),
    "dots": pieces(piece(0, 2, ["a"], 2), piece(1, 2, ["b"], 2), prefix=".."),
}


def safetensors(header, data=8, length=None):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def field(dtype="F32", shape="[2]", offsets="[0,8]"):
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def one(*args, data=8):
    return safetensors(f'{{"a":{field(*args)}}}', data)


def two(a, b):
    def entry(x):
        return field("U8", f"[{x[1] - x[0]}]", json.dumps(x))

    return safetensors(f'{{"a":{entry(a)},"b":{entry(b)}}}')


SAFETENSORS = {
    "header-length": safetensors("{}", length=2**63),
    "header-past-end": safetensors("{}", length=100),
    "header-cut": safetensors('{"a":{"dtype":"F32"'),
    "header-utf8": safetensors(b'{"\xff":1}'),
    "header-array": safetensors("{[]}"),
    "nested": safetensors('{"a":' + '{"a":' * 2000),
    "nested-metadata": safetensors('{"__metadata__":' + "[" * 2000),
    "name-twice": safetensors(f'{{"a":{field()},"a":{field()}}}'),
    "metadata-twice": safetensors(f'{{"a":{field()},"__metadata__":{{}},"__metadata__":{{}}}}'),
    "field-unknown": safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}'),
    "field-missing": safetensors('{"a":{"dtype":"F32","shape":[2]}}'),
    "dtype": one("F5"),
    "dtype-number": safetensors('{"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}}'),
    "shape-negative": one("F32", "[-2]"),
    "shape-float": one("F32", "[2.5]"),
    "shape-2-64": one("F32", "[18446744073709551616]"),
    "shape-dimensions": one("F32", "[" + "1," * 500 + "2]"),
    "shape-overflow": one("F32", "[4294967296,4294967296]"),
    "shape-wraps": one("F32", "[4398046511105,4194304]"),
    "shape-0": one("F32", "[0]", "[0,0]", data=0),
    "shape-differs": one("F32", "[3]"),
    "offsets-backward": one("F32", "[2]", "[8,0]"),
    "offsets-past-end": one("F32", "[2]", "[8,16]"),
    "offsets-2-64": one("F32", "[2]", "[0,18446744073709551615]"),
    "offsets-three": one("F32", "[2]", "[0,4,8]"),
    "gap-end": one("F32", "[1]", "[0,4]"),
    "gap-start": one("F32", "[1]", "[4,8]"),
    "gap-between": two([0, 3], [4, 8]),
    "overlap": two([0, 5], [4, 8]),
    "same-bytes": two([0, 8], [0, 8]),
}

INDEX = {
    "dots": '{"weight_map":{"a":"../a.safetensors"}}',
    "absolute": '{"weight_map":{"a":"/etc/passwd"}}',
    "drive": '{"weight_map":{"a":"c:a.safetensors"}}',
    "backslash": '{"weight_map":{"a":"..\\\\a.safetensors"}}',
    "empty": '{"weight_map":{"a":""}}',
    "twice": '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}',
    "no-map": '{"metadata":{}}',
    "number": '{"weight_map":{"a":1}}',
    "absent": '{"weight_map":{"a":"x.safetensors"}}',
    "not-a-model": '{"weight_map":{"a":"model.safetensors.index.json"}}',
    "nested": '{"weight_map":' * 2000,
}

WIDTH, HEADS, INNER, VOCAB = 4, 2, 8, 7
TOKENS = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"]


def base():
    """The keys of a tiny llama that runs, as `name: (type, value)`."""
    return {
        "general.architecture": (STRING, "llama"),
        "llama.block_count": (U32, 1),
        "llama.context_length": (U32, 64),
        "llama.embedding_length": (U32, WIDTH),
        "llama.feed_forward_length": (U32, INNER),
        "llama.attention.head_count": (U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.dimension_count": (U32, WIDTH // HEADS),
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS)),
        "tokenizer.ggml.scores": (ARRAY, (F32, [0.0] * VOCAB)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [2, 3, 3, 6, 1, 1, 1])),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
    }


def weights(inner=INNER):
    """The tensors of that llama, as `name: (ne, type, bytes)`."""
    shapes = {"token_embd": [WIDTH, VOCAB], "output_norm": [WIDTH], "blk.0.attn_norm": [WIDTH], "blk.0.ffn_norm": [WIDTH]}
    shapes |= {f"blk.0.attn_{name}": [WIDTH, WIDTH] for name in ["q", "k", "v", "output"]}
    shapes |= {"blk.0.ffn_gate": [WIDTH, inner], "blk.0.ffn_up": [WIDTH, inner], "blk.0.ffn_down": [inner, WIDTH]}
    out = {}
    for name, ne in shapes.items():
        n = ne[0] * (ne[1] if len(ne) > 1 else 1)
        numbers = [1.0 if len(ne) == 1 else ((7 * i) % 11 - 5) / 8 for i in range(n)]
        out[name + ".weight"] = (ne, 0, struct.pack(f"<{n}f", *numbers)) if n < 256 else (ne, 1, struct.pack(f"<{n}e", *numbers))
    return out


def model(keys, tensors):
    rows, data = [], b""
    for name, (ne, kind, bytes_) in tensors.items():
        rows.append(tensor(name, ne, kind, len(data)))
        data += bytes_ + bytes(-len(bytes_) % 32)
    return gguf([key(name, *pair) for name, pair in keys.items()], rows, data)


def with_keys(**changes):
    """The llama with other keys: `block_count` stands for `llama.block_count`, `tokens` for `tokenizer.ggml.tokens`; None removes."""
    keys = base()
    for name, pair in changes.items():
        name = name.replace("__", ".")
        own = name if name.startswith("tokenizer.") else "llama." + name
        full = next((full for full in keys if full.endswith("." + name)), own)
        if pair is None:
            del keys[full]
        else:
            keys[full] = pair
    return model(keys, weights())


def with_tensor(name, ne=None, kind=None, data=None):
    tensors = weights()
    old = tensors.get(name, ([4], 0, bytes(16)))
    tensors[name] = (ne or old[0], old[1] if kind is None else kind, old[2] if data is None else data)
    return model(base(), tensors)


def ternary(kind, data):
    """The llama with 256 inner numbers, and these bytes for the matrix that takes them."""
    tensors = weights(256) | {"blk.0.ffn_down.weight": ([256, WIDTH], kind, data)}
    return model(base() | {"llama.feed_forward_length": (U32, 256)}, tensors)


def f16(x):
    return struct.pack("<e", x)


def f32s(x, n):
    return struct.pack(f"<{n}f", *[x] * n)


INF, NAN = float("inf"), float("nan")
MODELS = {
    "good": with_keys(),
    "architecture-missing": with_keys(architecture=None),
    "architecture-unknown": with_keys(architecture=(STRING, "lama")),
    "architecture-number": with_keys(architecture=(U32, 1)),
    "block-count-0": with_keys(block_count=(U32, 0)),
    "block-count-2": with_keys(block_count=(U32, 2)),
    "block-count-2-31": with_keys(block_count=(U32, 2**31)),
    "block-count-negative": with_keys(block_count=(I32, -1)),
    "block-count-missing": with_keys(block_count=None),
    "context-0": with_keys(context_length=(U32, 0)),
    "context-2-62": with_keys(context_length=(U64, 2**62)),
    "width-0": with_keys(embedding_length=(U32, 0)),
    "width-2-31": with_keys(embedding_length=(U32, 2**31)),
    "width-differs": with_keys(embedding_length=(U32, 8)),
    "feed-forward-0": with_keys(feed_forward_length=(U32, 0)),
    "feed-forward-array": with_keys(feed_forward_length=(ARRAY, (U32, [8, 9]))),
    "epsilon-nan": with_keys(layer_norm_rms_epsilon=(F32, NAN)),
    "epsilon-negative": with_keys(layer_norm_rms_epsilon=(F32, -1.0)),
    "epsilon-missing": with_keys(layer_norm_rms_epsilon=None),
    "heads-0": with_keys(head_count=(U32, 0)),
    "heads-3": with_keys(head_count=(U32, 3)),
    "kv-heads-0": with_keys(attention__head_count_kv=(U32, 0)),
    "kv-heads-3": with_keys(attention__head_count_kv=(U32, 3)),
    "head-dim-2-31": with_keys(attention__key_length=(U32, 2**31)),
    "value-length": with_keys(attention__value_length=(U32, 4)),
    "rope-odd": with_keys(attention__key_length=(U32, 3), attention__value_length=(U32, 3), dimension_count=(U32, 3)),
    "rope-beyond-head": with_keys(dimension_count=(U32, 64)),
    "rope-base-nan": with_keys(rope__freq_base=(F32, NAN)),
    "rope-base-0": with_keys(rope__freq_base=(F32, 0.0)),
    "rope-factor-0": with_keys(rope__scaling__type=(STRING, "linear"), rope__scaling__factor=(F32, 0.0)),
    "rope-scaling-unknown": with_keys(rope__scaling__type=(STRING, "magic")),
    "rope-divisors": with_tensor("rope_freqs.weight", [1], data=f32s(0.0, 1)),
    "rope-divisors-shape": with_tensor("rope_freqs.weight", [3], data=f32s(1.0, 3)),
    "vocab-size": with_keys(vocab_size=(U32, 2**31)),
    "tokens-empty": with_keys(tokens=(ARRAY, (STRING, []))),
    "tokens-numbers": with_keys(tokens=(ARRAY, (U8, [0] * VOCAB))),
    "tokens-missing": with_keys(tokens=None),
    "tokens-more-than-rows": with_keys(
        tokens=(ARRAY, (STRING, TOKENS + ["c"])),
        scores=(ARRAY, (F32, [0.0] * 8)),
        token_type=(ARRAY, (I32, [2, 3, 3, 6, 1, 1, 1, 1])),
    ),
    "scores-short": with_keys(scores=(ARRAY, (F32, [0.0] * 3))),
    "scores-bytes": with_keys(scores=(ARRAY, (U8, [0] * VOCAB))),
    "scores-nan": with_keys(scores=(ARRAY, (F32, [0.0] * 6 + [NAN]))),
    "types-short": with_keys(token_type=(ARRAY, (I32, [1] * 3))),
    "types-strings": with_keys(token_type=(ARRAY, (STRING, ["1"] * VOCAB))),
    "types-7": with_keys(token_type=(ARRAY, (I32, [2, 3, 3, 6, 1, 1, 7]))),
    "byte-negative": with_keys(tokens=(ARRAY, (STRING, TOKENS[:3] + ["<0x-1>"] + TOKENS[4:]))),
    "byte-long": with_keys(tokens=(ARRAY, (STRING, TOKENS[:3] + ["<0x041>"] + TOKENS[4:]))),
    "bos-beyond": with_keys(bos_token_id=(U32, VOCAB)),
    "bos-negative": with_keys(bos_token_id=(I32, -1)),
    "eos-2-32": with_keys(eos_token_id=(U32, 2**32 - 1)),
    "unknown-beyond": with_keys(tokenizer__ggml__unknown_token_id=(U32, VOCAB)),
    "tokenizer-unknown": with_keys(model=(STRING, "lama")),
    "merges-missing": with_keys(model=(STRING, "gpt2")),
    "merges-no-tokens": with_keys(model=(STRING, "gpt2"), tokenizer__ggml__merges=(ARRAY, (STRING, ["x y"]))),
    "merges-no-space": with_keys(model=(STRING, "gpt2"), tokenizer__ggml__merges=(ARRAY, (STRING, ["ab"]))),
    "pre-unknown": with_keys(
        model=(STRING, "gpt2"),
        tokenizer__ggml__merges=(ARRAY, (STRING, ["a b"])),
        tokenizer__ggml__pre=(STRING, "nonsense"),
    ),
    "tensor-missing": model(base(), {name: t for name, t in weights().items() if "ffn_up" not in name}),
    "tensor-unknown": with_tensor("blk.0.attn_sinks.weight"),
    "tensor-shape": with_tensor("blk.0.attn_q.weight", [8, 2]),
    "tensor-dimensions": with_tensor("blk.0.attn_norm.weight", [2, 2]),
    "weight-nan": with_tensor("blk.0.ffn_up.weight", data=f32s(NAN, 32)),
    "weight-infinite": with_tensor("output_norm.weight", data=f32s(INF, 4)),
    "tq2-0-good": ternary(35, (b"\x55" * 64 + f16(1.0)) * WIDTH),
    "tq2-0-code-3": ternary(35, (b"\x55" * 63 + b"\xff" + f16(1.0)) * WIDTH),
    "tq2-0-scale-nan": ternary(35, (b"\x55" * 64 + f16(NAN)) * WIDTH),
    "tq2-0-scale-infinite": ternary(35, (b"\x55" * 64 + f16(INF)) * WIDTH),
    "i2-s-code-3": ternary(36, b"\x55" * 255 + b"\xff" + f32s(1.0, 8)),
    "i2-s-scale-nan": ternary(36, b"\x55" * 256 + f32s(NAN, 8)),
    "i2-s-scale-infinite": ternary(36, b"\x55" * 256 + f32s(INF, 8)),
}


def main():
    shutil.rmtree(HERE, ignore_errors=True)

    def write(path, data):
        path = HERE / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    for name, data in GGUF.items():
        write(f"gguf/{name}.gguf", data)
    for name, data in SAFETENSORS.items():
        write(f"safetensors/{name}.safetensors", data)
    for name, data in INDEX.items():
        write(f"index/{name}/model.safetensors.index.json", data)
    for name, files in SPLIT.items():
        for file, data in files.items():
            write(f"split/{name}/{file}", data)
    for name, data in MODELS.items():
        write(f"models/{name}.gguf", data)


if __name__ == "__main__":
    main()
