"""The values that transformers gives to keys that config.json lacks: writes crates/model/src/hf/defaults.json and golden/absent_keys.json.

    pip install torch==2.15.0 transformers==5.24.0 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6
    python golden/defaults.py [NAME ...]

defaults.json has, for each model_type whose folders Trine reads, the defaults of the keys of its configuration class that Trine reads; those of
rotations as the class computes them. `aliases` are further names of keys.

absent_keys.json is as keys.json (golden/keys.py), but that keys are removed: per golden decoder (golden/models) and encoder (golden/encoders) each key alone, each key together
with the lists of layers that stand for it, and all keys that say no size. A case is the paths that are removed, what is changed beside that, and
what became of the logits.
"""

import dataclasses
import json
import re
from pathlib import Path

import keys
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

HERE = Path(__file__).parent
SOURCES = HERE.parent / "crates/model/src"
# Folders of nomic_bert have the keys of the code that came with the models.
OTHERS = {"nomic_bert"}
ROPE_KEYS = ["rope_theta", "rotary_emb_base", "global_rope_theta", "local_rope_theta", "rope_local_base_freq", "partial_rotary_factor", "rotary_pct"]
# Lists that say of each layer what other keys say of all.
LISTS = ["layer_types", "no_rope_layers"]
SIZES = [
    "model_type", "quantization_config", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "num_key_value_heads",
    "head_dim", "intermediate_size", "n_inner", "moe_intermediate_size", "shared_expert_intermediate_size", "vocab_size", "num_local_experts", "num_experts",
    "n_routed_experts", "num_experts_per_tok", "n_shared_experts", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
    "first_k_dense_replace", "n_group", "topk_group", "n_positions", "tie_word_embeddings", "attention_bias", "use_qk_norm", "qk_layernorm", "use_parallel_residual",
    "hidden_activation",
]  # fmt: skip
BESIDE_LISTS = ["sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern", "no_rope_layer_interval"]
WINDOW = dict(use_sliding_window=True, sliding_window=6, max_window_layers=1)


def flat(value, path=""):
    """The leaves of an object by their paths."""
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, inner in value.items() for name, leaf in flat(inner, f"{path}.{key}").items()}


def of_rope(cls):
    """Keys beside rope_parameters that it takes, with what it has without them."""
    base = flat(cls(rope_parameters={}).rope_parameters)
    found = {}
    for key in ROPE_KEYS:
        changed = flat(cls(rope_parameters={}, **{key: 0.375}).rope_parameters)
        for path, value in changed.items():
            if value == 0.375:
                found[key] = base.get(path)
    own = cls().rope_parameters
    if flat(own) != base:
        # What keys beside it say is said once.
        beside = {"type", "max_position_embeddings"} | {key for key in ROPE_KEYS if cls(**{key: 0.375}).rope_parameters.get(key) == 0.375}
        found["rope_parameters"] = {key: value for key, value in own.items() if key not in beside}
    return {key: value for key, value in found.items() if value is not None}


def defaults(cls, read):
    values = {}
    for field in dataclasses.fields(cls):
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if field.name in read and isinstance(value, (type(None), bool, int, float, str, list)):
            values[field.name] = value
    if hasattr(cls(), "rope_parameters"):
        values |= of_rope(cls)
    return values


def table():
    archs = "".join(path.read_text() for path in (SOURCES / "arch").glob("*.rs"))
    types = {name for names in re.findall(r"\bhf: &\[([^]]*)\]", archs) for name in re.findall(r'"(\w+)"', names)}
    paths = [SOURCES / "keys/names.rs", *(SOURCES / "hf").glob("*.rs"), *(SOURCES / "spec").glob("*.rs")]
    read = {name for path in paths for name in re.findall(r'"([a-z0-9_]+)"', path.read_text())} - {"layer_types", "rope_parameters"}
    rows = {}
    for name in sorted(types - OTHERS):
        if name in CONFIG_MAPPING:
            cls = CONFIG_MAPPING[name]
            aliases = {alias: key for alias, key in cls.attribute_map.items() if key in read}
            rows[name] = dict(defaults=defaults(cls, read), aliases=aliases)
    # Of a model of several parts, the whole says whether the head is the embedding.
    for name in re.findall(r'\("(\w+)", "\w+"\)', (SOURCES / "config.rs").read_text().split("MULTIMODAL")[1].split(";")[0]):
        rows[name] = dict(defaults={"tie_word_embeddings": CONFIG_MAPPING[name]().tie_word_embeddings}, aliases={})
    return rows


def remove(config, path):
    *parents, last = path.split(".")
    for parent in parents:
        config = config.get(parent) or {}
    config.pop(last, None)


def cases(config):
    """Paths that are removed, and what is changed."""
    text = config.get("text_config")
    prefix, own = ("text_config.", text) if text else ("", config)
    paths = [key for key in own if key != "model_type"]
    for section in ("rope_parameters", "rope_scaling"):
        for key, value in (own.get(section) or {}).items():
            inner = [f".{name}" for name in value] if isinstance(value, dict) else []
            paths += [f"{section}.{key}{name}" for name in ["", *inner]]
    lists = [key for key in LISTS if key in own]
    sections = [key for key in ("rope_parameters", "rope_scaling") if key in own]
    for path in paths:
        yield [path], {}
        if lists and path in BESIDE_LISTS:
            yield [path, *lists], {}
    if len(sections) > 1:
        yield sections, {}
    if lists:
        yield lists, {}
        for key in ("sliding_window_pattern", "no_rope_layer_interval"):
            yield from ((lists, {key: n}) for n in (2, 3))
    yield lists, WINDOW
    yield lists, {**WINDOW, "max_window_layers": 0}
    yield sections, dict(rope_parameters=dict(rope_type="linear", factor=4.0))
    yield sections, dict(rope_scaling=dict(type="linear", factor=4.0))
    yield sections, dict(rope_parameters=keys.YARN)
    yield sections, dict(rope_scaling=keys.LLAMA3)
    yield sections, dict(rope_scaling=keys.YARN, original_max_position_embeddings=32)
    nowhere = {key: value for key, value in keys.YARN.items() if key != "original_max_position_embeddings"}
    yield sections, dict(rope_scaling=nowhere)
    yield sections, dict(rope_scaling=nowhere, original_max_position_embeddings=32)
    yield sections, dict(rope_parameters={})
    yield sections, dict(rope_parameters=None)
    yield sections, dict(rope_theta=30000.0)
    yield [key for key in own if key not in SIZES], {}
    if prefix:
        for path in config:
            if path not in ("model_type", "text_config", "vision_config"):
                yield [path], None


def sweep(folder):
    config = json.loads((folder / "config.json").read_text())
    golden = json.loads((folder / "golden.json").read_text())
    ids = max((prompt["ids"] for prompt in golden["prompts"]), key=len)
    base = keys.logits(folder, config, ids)
    if base is None:
        print(folder.name, "not loaded", flush=True)
        return None
    some = lambda found: [float(f"{x:.6g}") for x in found[::9].tolist()]
    prefix = "text_config." if "text_config" in config else ""
    rows, seen = [], set()
    for removed, changes in cases(config):
        # A key of the whole has no changes.
        within = prefix if changes is not None else ""
        removed, changes = [within + path for path in removed], {within + path: value for path, value in (changes or {}).items()}
        changed = json.loads(json.dumps(config))
        for path in removed:
            remove(changed, path)
        for path, value in changes.items():
            keys.put(changed, path, value)
        if (text := json.dumps(changed, sort_keys=True)) in seen:
            continue
        seen.add(text)
        found = keys.logits(folder, changed, ids)
        if found is None:
            result = "error"
        else:
            result = "same" if (found - base).abs().max() < 1e-5 else some(found)
        rows.append([removed, changes, result])
    print(folder.name, len(rows), flush=True)
    return dict(ids=ids, base=some(base), cases=rows)


def main():
    rows = ",\n".join(f'"{name}": ' + json.dumps(row) for name, row in sorted(table().items()))
    (SOURCES / "hf/defaults.json").write_text("{\n" + rows + "\n}\n")
    keys.update(HERE / "absent_keys.json", sweep)


if __name__ == "__main__":
    main()
