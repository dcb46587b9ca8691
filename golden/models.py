"""Makes the golden models: tiny random ones of every architecture, with the logits that transformers computes for them.

    pip install torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 tokenizers==0.23.3 safetensors==0.8.0 \\
        gguf==0.19.0 numpy==2.4.6 xllamacpp==2026.10.11549
    python golden/models.py [NAME ...]

For each name (all of them by default) it writes golden/models/NAME/ with

    config.json, model*.safetensors, tokenizer.json, tokenizer_config.json    as published models have them
    model.gguf       the same weights, exactly, as llama.cpp's or bitnet.cpp's converter writes them (see convert.py)
    golden.json      versions, how weights are dequantised, the prompts and 16 greedy ids after each; for the rows of
                     archs.py and moe.py also whether llama.cpp continues alike from model.gguf, how far its logits are from those of
                     transformers with an F32 file of the same weights, and why, where they differ
    logits.f32       float32 little-endian [tokens, vocab] of the prompts one after the other, without the greedy ids

Matrices are multiples of 1/256 below 1, so F32, F16 and BF16 hold them exactly. The logits are those of the folder loaded
by transformers in float32 on the CPU with eager attention, torch.compile off.

What transformers 5.23.0 computes in a ternary layer (`transformers.integrations.bitnet`; rounding is half to even):

    activations  s = 127 / max(max|x|, 1e-5) per token over the features;  q = clamp(round(x s), -128, 127)
    autobitlinear, online:   float weights W;  S = 1 / max(mean|W|, 1e-5) per tensor;  W' = clamp(round(W S), -1, 1) / S;
                             y = W' (q / s)
    autobitlinear, offline:  ternary T packed in uint8 and weight_scale;  y = weight_scale * (T (q / s)),
                             so a weight is T * weight_scale: microsoft/bitnet-b1.58-2B-4T
    bitlinear:               T and weight_scale as above, but  y = (T q) / (s * weight_scale),
                             so a weight is T / weight_scale: Falcon3-1.58bit, Llama3-8B-1.58
    The bias, where there is one, is added inside the matrix product online and offline (offline scales it too), and after
    the division in bitlinear. Embedding, norms and head stay in float.

bitnet.cpp computes I2_S layers the same way: s = 127 / max(max|x|, 1e-5) per token, q rounded half to even and clamped to
[-128, 127], y = (T q) / s * scale, its scale multiplying. (Known from descriptions of its source, which differ between
releases in the floor and in the rounding of exact halves; no golden depends on either.)

A rounding near one half may fall either way in another order of summation. For ternary models the seed is therefore the
first for which every activation keeps `rounding_margin` (golden.json, in int8 steps) away from a half. Float32 arithmetic in
another order then agrees to about 1e-5; a single activation rounded the other way moves logits by 0.05 to 0.5. For all
models the best greedy logit leads the second by at least `greedy_margin`, and what a router chooses, experts and groups of
them, leads what it does not choose by at least `router_margin` (router logits; with a bias for choice, biased sigmoids).
llama.cpp's GELU is a table in float16, which moves logits by some 1e-3; it agrees to 1e-4 otherwise.
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import itertools
import json
import re
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights

import convert
import llamacpp
from archs import ARCHS
from llamas import BOS, EOS, LLAMAS, PROMPTS, VOCAB
from moe import EXPERTS
from packed import PACKED

OUT = Path(__file__).parent / "models"
MODELS = LLAMAS | ARCHS | EXPERTS | PACKED
SENTENCES = [
    "The miller's daughter carried two baskets of barley across the frozen river.",
    "When the bells rang at noon, the herons rose from the reeds and turned toward the sea.",
    "He counted 17 lanterns, then 23 more, and wrote the number in a small red book.",
    "Nobody remembered who had planted the pear trees; they had always been there.",
    "\u201cIs the ferry late?\u201d she asked. \u2014 \u201cNo, it is early; we are late.\u201d",
    "    def weigh(stone):\n        return stone.mass * 9.81\n",
]
GREEDY = 16

ROUNDING_MARGIN, GREEDY_MARGIN, ROUTER_MARGIN = 3e-5, 2e-2, 1e-3


def train_tokenizer():
    """A byte-level BPE with every byte, two control tokens and a few merges; puts the beginning of sequence before a text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|bos|>", "<|eos|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS), ("<|eos|>", EOS)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|eos|>")


def grid(tensor, step):
    return (tensor / step).round() * step


def randomize(model, generator, std):
    """Weights large enough for the logits to spread: norms' weights around what leaves a vector as it is, all else around 0."""
    kept = model.state_dict().keys()
    buffers = ((name, buffer) for name, buffer in model.named_buffers() if name in kept)
    for name, tensor in itertools.chain(model.named_parameters(), buffers):
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("bias"):
            tensor.data = grid((0.4 * noise).clamp(-0.99, 0.99), 1 / 256)
        elif re.search("norm|ln_", name.lower()):
            centre = 0 if "gemma" in model.config.model_type else 1
            tensor.data = grid(centre + (0.25 * noise).clamp(-0.75, 1), 1 / 64)
        else:
            tensor.data = grid((std * noise).clamp(-0.99, 0.99), 1 / 256)


def packed_state(model, quantization, dtype, generator):
    """The state with every layer's matrices replaced by random ternary ones, packed, and a scale that bfloat16 holds."""
    state = {}
    for name, parameter in model.named_parameters():
        if not name.endswith("_proj.weight"):
            state[name] = parameter.data.to(dtype)
            continue
        ternary = torch.randint(-1, 2, parameter.shape, generator=generator).float()
        scale = (0.08 + 0.12 * torch.rand(1, generator=generator)).to(torch.bfloat16)
        if quantization["linear_class"] == "bitlinear":
            scale = (1 / scale.float()).to(torch.bfloat16)
        state[name] = pack_weights(ternary)
        state[name + "_scale"] = scale
        if quantization.get("use_rms_norm"):
            noise = torch.randn(parameter.shape[1], generator=generator)
            state[name.removesuffix("weight") + "rms_norm.weight"] = grid(1 + (0.25 * noise).clamp(-0.75, 1), 1 / 64).to(dtype)
    return state


def write_folder(folder, row, seed):
    """Writes the Hugging Face folder of one model; its configuration, as transformers has it, if the row has `json`."""
    generator = torch.Generator().manual_seed(seed)
    path = folder / "config.json"
    if "json" in row:
        path.write_text(json.dumps(row["json"], indent=2, sort_keys=True) + "\n")
        config = transformers.AutoConfig.from_pretrained(folder)
        if "config" in row:
            config = type(config)(**row["config"])
        model = getattr(transformers, row.get("cls", row["json"]["architectures"][0]))(config)
        randomize(model, generator, row.get("std", 1.6 / config.get_text_config().hidden_size ** 0.5))
        model.to(row["dtype"]).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        path.write_text(json.dumps(row["json"], indent=2, sort_keys=True) + "\n")
        if "stored" in row:
            state = row["stored"](load_file(folder / "model.safetensors"), generator)
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return config
    model = row["cls"](row["cls"].config_class(**row["config"]))
    randomize(model, generator, 0.2)
    quantization = row.get("quantization")
    packed = quantization and quantization.get("quantization_mode") != "online"
    state = packed_state(model, quantization, row["dtype"], generator) if packed else None
    model.to(row["dtype"]).save_pretrained(folder, max_shard_size=row.get("shards", "1GB"))
    if packed:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "generation_config.json").unlink()
    if "packed" in row:
        stored, plain = row["packed"](load_file(folder / "model.safetensors"), generator)
        save_file(stored, folder / "packed.safetensors", metadata={"format": "pt"})
        save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
        return
    if "saved_as" in row:
        state = load_file(folder / "model.safetensors")
        state = {row["saved_as"].get(name, name): tensor for name, tensor in state.items()}
        save_file(state, folder / "model.safetensors", metadata=row["saved_as"])
    finish_config(path, row)


def finish_config(path, row):
    """Puts the quantisation and what a row rewrites into the configuration."""
    quantization, config = row.get("quantization"), json.loads(path.read_text())
    if quantization:
        config["quantization_config"] = quantization
    config.update(row.get("rewrite", {}))
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def rounding_margin(model, sequences):
    """The least distance of any scaled activation from a half, in int8 steps; infinite without ternary layers."""
    least = [float("inf")]

    def look(_layer, inputs):
        x = inputs[0].double()
        x = x * (127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5))
        least.append(((x - x.floor()) - 0.5).abs().min().item())

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, (AutoBitLinear, BitLinear))]
    for ids in sequences:
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return min(least)


def gap(scores, used):
    """The least lead of the chosen over those not chosen."""
    best = scores.topk(min(used + 1, scores.shape[-1])).values
    return (best[..., used - 1] - best[..., used]).min().item() if best.shape[-1] > used else float("inf")


def router_margin(model, sequences):
    """The least lead, of an expert or of a group of experts, over the next that is not chosen; infinite without experts."""
    config, least = model.config, [float("inf")]

    def look(router, _inputs, outputs):
        scores, bias = outputs[0], getattr(router, "e_score_correction_bias", None)
        if bias is not None:
            scores = scores.sigmoid() + bias
        if (getattr(config, "n_group", None) or 1) > 1:
            groups = scores.unflatten(-1, (config.n_group, -1))
            group_scores = groups.topk(1 if bias is None else 2).values.sum(-1)
            least.append(gap(group_scores, config.topk_group))
            chosen = group_scores >= group_scores.topk(config.topk_group).values[..., -1:]
            scores = groups.masked_fill(~chosen[..., None], float("-inf")).flatten(-2)
        least.append(gap(scores, config.num_experts_per_tok))

    hooks = [m.register_forward_hook(look) for m in model.modules() if type(m).__name__.lower().endswith("topkrouter")]
    assert bool(hooks) == bool(getattr(config, "num_experts_per_tok", None)), "the routers are not found"
    for ids in sequences:
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return min(least)


def continue_greedily(model, ids):
    """The greedy ids, and the least lead of the best logit over the second."""
    ids, lead = list(ids), float("inf")
    for _ in range(GREEDY):
        top = model(torch.tensor([ids])).logits[0, -1].topk(2)
        lead = min(lead, (top.values[0] - top.values[1]).item())
        ids.append(top.indices[0].item())
    return ids[-GREEDY:], lead


def golden(folder, texts):
    """The contents of golden.json and logits.f32, or None where a rounding or a choice is too close."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    several = hasattr(transformers.AutoConfig.from_pretrained(folder), "text_config")
    auto = transformers.AutoModelForImageTextToText if several else transformers.AutoModelForCausalLM
    model, loaded = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not (loaded["missing_keys"] or loaded["mismatched_keys"]), f"{folder.name}: {loaded}"
    model.eval()
    # Beside packed weights transformers leaves the rest in the file's type; the model's own float() refuses.
    torch.nn.Module.float(model)
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    margin = rounding_margin(model, prompts)
    if margin < ROUNDING_MARGIN:
        return None
    rows = [model(torch.tensor([ids])).logits[0] for ids in prompts]
    greedy, leads = zip(*(continue_greedily(model, ids) for ids in prompts))
    if min(leads) < GREEDY_MARGIN:
        return None
    router = router_margin(model, [ids + more for ids, more in zip(prompts, greedy)])
    if router < ROUTER_MARGIN:
        return None
    logits = torch.cat(rows)
    assert logits.std() >= 1, f"{folder.name}: the logits hardly spread"
    facts = dict(logits_std=round(logits.std().item(), 3), greedy_margin=round(min(leads), 4))
    for name, value in dict(rounding_margin=margin, router_margin=router).items():
        if value < float("inf"):
            facts[name] = float(f"{value:.2g}")
    prompts = [dict(text=text, ids=ids, greedy=ids16) for text, ids, ids16 in zip(texts, prompts, greedy)]
    return dict(facts, prompts=prompts), logits.numpy().astype("<f4")


def beside_llama_cpp(folder, row, facts, logits):
    """Whether llama.cpp continues greedily alike from the GGUF, and the largest difference of logits from an F32 one."""
    found = dict(version=version("xllamacpp"))
    try:
        model = llamacpp.Model(folder / "model.gguf")
        found["greedy"] = all(model.greedy(prompt["ids"], GREEDY) == prompt["greedy"] for prompt in facts["prompts"])
        model.close()
        convert.write(folder, row["gguf"][0], "F32", folder / "f32.gguf")
        model, rows = llamacpp.Model(folder / "f32.gguf"), []
        for prompt in facts["prompts"]:
            model.clear()
            rows.append(model.decode(prompt["ids"]))
        model.close()
        (folder / "f32.gguf").unlink()
        found["difference"] = float(f"{np.abs(np.concatenate(rows) - logits).max():.2g}")
    except RuntimeError:
        found["greedy"] = False
    assert found["greedy"] or "why" in row, f"{folder.name}: llama.cpp does not continue alike"
    return found | ({"why": row["why"]} if "why" in row else {})


def beside_packed(folder, row, logits):
    """The largest difference of logits when transformers unpacks the folder itself."""
    path = folder / "config.json"
    kept = path.read_text()
    config = json.loads(kept)
    config["quantization_config"].update(dequantize=True, modules_to_not_convert=row["loads"])
    path.write_text(json.dumps(config))
    _, again = golden(folder, row["prompts"])
    path.write_text(kept)
    difference = float(np.abs(again - logits).max())
    assert difference < 1e-5, f"{folder.name}: transformers unpacks it otherwise, by {difference}"
    return dict(difference=difference)


def make(name, row, tokenizer):
    with tempfile.TemporaryDirectory() as scratch:
        for seed in itertools.count():
            folder = Path(scratch) / str(seed) / name
            folder.mkdir(parents=True)
            tokenizer.save_pretrained(folder)
            write_folder(folder, row, seed)
            if found := golden(folder, row.get("prompts", PROMPTS)):
                break
            shutil.rmtree(folder)
        facts, logits = found
        if "packed" in row:
            (folder / "packed.safetensors").replace(folder / "model.safetensors")
            finish_config(folder / "config.json", row)
        if row.get("loads"):
            facts["packed"] = beside_packed(folder, row, logits)
        if "gguf" in row:
            convert.write(folder, *row["gguf"])
            if "json" in row:
                facts["llama.cpp"] = beside_llama_cpp(folder, row, facts, logits)
        versions = {package: version(package) for package in ("torch", "transformers", "tokenizers", "gguf")}
        prompts = facts.pop("prompts")
        facts = dict(
            versions=versions, seed=seed, weights=row.get("weights", "as stored"), vocab=VOCAB, **facts, prompts=prompts
        )
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
        (folder / "golden.json").write_text("{\n" + lines + "\n}\n")
        (folder / "logits.f32").write_bytes(logits.tobytes())
        shutil.rmtree(OUT / name, ignore_errors=True)
        shutil.copytree(folder, OUT / name)
    files = sum(file.stat().st_size for file in (OUT / name).iterdir() if file.name.startswith("model"))
    print(
        f"{name}: {len(logits)} tokens, {files} bytes of weights",
        {k: facts[k] for k in facts if k not in ("versions", "prompts")},
        flush=True,
    )


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = train_tokenizer()
    with torch.no_grad():
        for name in sys.argv[1:] or MODELS:
            make(name, MODELS[name], tokenizer)


if __name__ == "__main__":
    main()
