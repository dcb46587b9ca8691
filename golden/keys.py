"""What each key of config.json changes, by transformers: writes golden/keys.json.

    pip install torch==2.15.0 transformers==5.24.0 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6
    python golden/keys.py [NAME ...]

For each golden decoder (golden/models) and encoder (golden/encoders, whose names are `encoders/NAME`) it takes every key of the model's
configuration class in transformers, every key of its config.json, every key that crates/model/src/keys/names.rs or hf/check.rs knows, and
every key of its quantization_config's class, gives each one other values, loads the folder with transformers (float32, eager attention, CPU)
and computes the logits of the last token of the longest prompt, or the state of an encoder.
keys.json has, per model, `ids`, the prompt; `base`, every ninth logit of the unchanged folder; and `cases`, each a path of keys, its
value, and what became of the logits: `same`, `error` (transformers does not load the folder), or every ninth of them.
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).parent
SOURCES = [HERE.parent / "crates/model/src" / name for name in ("keys/names.rs", "hf/check.rs")]
# Names and parts of other files; sizes of tensors that a change only breaks.
SKIPPED = {"model_type", "quantization_config", "text_config", "vision_config", "rope_parameters", "rope_scaling", "dtype", "torch_dtype"}
ACTIVATIONS = ["gelu", "relu", "silu", "gelu_pytorch_tanh"]
OTHERS = {
    "hidden_act": ACTIVATIONS,
    "hidden_activation": ACTIVATIONS,
    "activation_function": ACTIVATIONS,
    "position_embedding_type": ["relative_key"],
    "layer_types": [],
    "mlp_layer_types": [],
    "scoring_func": ["sigmoid", "softmax"],
    "topk_method": ["greedy", "group_limited_greedy", "noaux_tc"],
    "experts_implementation": ["eager"],
}
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
ROPES = [
    dict(rope_type="linear", factor=4.0),
    dict(type="linear", factor=4.0),
    dict(rope_type="dynamic", factor=4.0),
    YARN,
    YARN | dict(truncate=False),
    YARN | dict(attention_factor=1.5),
    YARN | dict(beta_fast=8.0, beta_slow=2.0),
    YARN | dict(mscale=0.7),
    YARN | dict(mscale_all_dim=0.7),
    YARN | dict(mscale=0.7, mscale_all_dim=0.5),
    LLAMA3,
    LLAMA3 | dict(original_max_position_embeddings=32),
    dict(rope_type="default", partial_rotary_factor=0.5),
    dict(rope_type="default", factor=3.0),
    dict(rope_type="default", attention_factor=3.0),
    dict(rope_type="proportional", factor=2.0),
]


def others(key, value):
    """Other values of a key."""
    if key in OTHERS:
        return [other for other in OTHERS[key] if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value // 2 if value > 1 else value + 2]
    if isinstance(value, float):
        return [value * 1.5 + 0.25]
    if isinstance(value, str):
        return [value + "x"]
    if value is None:
        return [True, 2, 0.5]
    return []


def put(config, path, value):
    *parents, last = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


def is_encoder(folder):
    return folder.parent.name == "encoders"


def logits(folder, config, ids):
    """The logits of the last token, or none where transformers does not load the folder."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for path in folder.glob("*.safetensors*"):
            (place / path.name).symlink_to(path.resolve())
        (place / "config.json").write_text(json.dumps(config))
        try:
            kind = transformers.AutoModel if is_encoder(folder) else transformers.AutoModelForCausalLM
            model, info = kind.from_pretrained(
                place, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
            )
            if any(info[kind] for kind in ("missing_keys", "mismatched_keys", "error_msgs")):
                return None
            with torch.no_grad():
                output = model(torch.tensor([ids]))
                found = (output.last_hidden_state if is_encoder(folder) else output.logits)[0, -1]
            return found if torch.isfinite(found).all() else None
        except Exception:
            return None


def cases(folder, config, known):
    """Paths of keys and other values of them."""
    parsed = transformers.AutoConfig.from_pretrained(folder).get_text_config()
    keys = {**{key: None for key in known}, **parsed.to_dict(), **config}
    for key, value in sorted(keys.items()):
        if key not in SKIPPED and not isinstance(value, dict) and not key.startswith("_"):
            yield from ((key, other) for other in others(key, value))
    quantization = config.get("quantization_config") or {}
    known = json.loads((HERE / "quant_keys.json").read_text()).get(quantization.get("quant_method"), [])
    for key, value in {**dict.fromkeys(known), **quantization}.items():
        if key != "quant_method":
            yield from ((f"quantization_config.{key}", other) for other in others(key, value))
    layers = parsed.num_hidden_layers
    yield "layer_types", ["full_attention"] * layers
    yield "layer_types", (["full_attention", "sliding_attention"] * layers)[:layers]
    if getattr(parsed, "rope_parameters", None) is None:
        return
    theta = config.get("rope_theta", 10000.0)
    for rope in ROPES:
        yield "rope_parameters", rope | dict(rope_theta=theta)
        yield "rope_scaling", rope
    scaling = config.get("rope_scaling") or {}
    if "long_factor" in scaling:
        for other in (dict(factor=4.0), dict(factor=0.5), dict(factor=4.0, attention_factor=1.5)):
            yield "rope_scaling", scaling | other
            yield "rope_parameters", scaling | other | dict(rope_theta=theta)
    for section in ("rope_parameters", "rope_scaling"):
        for key, value in (config.get(section) or {}).items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            for name, own in inner:
                path = f"{section}.{key}.{name}".rstrip(".")
                yield from ((path, other) for other in others(name or key, own))


def sweep(folder, known):
    config = json.loads((folder / "config.json").read_text())
    golden = json.loads((folder / "golden.json").read_text())
    ids = max((prompt["ids"] for prompt in golden["prompts"]), key=len)
    base = logits(folder, config, ids)
    if base is None:
        # Formats that transformers reads with other programs, and models of several parts.
        print(folder.name, "not loaded", flush=True)
        return None
    rows, some = [], lambda found: [float(f"{x:.6g}") for x in found[::9].tolist()]
    for path, value in cases(folder, config, known):
        changed = json.loads(json.dumps(config))
        put(changed, path, value)
        if path == "rope_scaling" and "rope_parameters" in changed:
            del changed["rope_parameters"]
        found = logits(folder, changed, ids)
        if found is None:
            result = "error"
        else:
            result = "same" if (found - base).abs().max() < 1e-5 else some(found)
        rows.append([path, value, result])
    print(folder.name, len(rows), flush=True)
    return dict(ids=ids, base=some(base), cases=rows)


def update(path, sweep):
    """Sweeps the models that are named on the command line, or all, and writes what was found to `path`."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found = json.loads(path.read_text()) if path.exists() else {}
    names = [folder.name for folder in (HERE / "models").iterdir()] + [f"encoders/{folder.name}" for folder in (HERE / "encoders").iterdir()]
    for name in sys.argv[1:] or sorted(names):
        found[name] = sweep(HERE / ("" if "/" in name else "models") / name)
    lines = []
    for name, model in sorted(found.items()):
        if model:
            rows = ",\n".join("  " + json.dumps(row) for row in model["cases"])
            head = ", ".join(f'"{key}": {json.dumps(model[key])}' for key in ("ids", "base"))
            lines.append(f'{json.dumps(name)}: {{{head}, "cases": [\n{rows}\n]}}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    known = {key for source in SOURCES for key in re.findall(r'\("([a-z0-9_]+)",', source.read_text())}
    update(HERE / "keys.json", lambda folder: sweep(folder, known))


if __name__ == "__main__":
    main()
