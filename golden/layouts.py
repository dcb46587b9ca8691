"""What GGUF says of each architecture beyond what all have: its keys, and how its tensors differ from Hugging Face's.

`keys` gives the metadata of a configuration, `tensors` the tensors under the names that PyPI gguf's map knows. Both follow
llama.cpp's conversion/*.py. Where llama.cpp rotates adjacent pairs and Hugging Face halves (`LLAMA_LIKE`), rows of q and k are permuted; `command-r`, `cohere2` and `deepseek2` rotate adjacent pairs in both.
"""

import math
import re

import torch

LLAMA_LIKE = ("llama", "mistral3", "granite", "granitemoe", "smollm3")
GEMMAS = ("gemma", "gemma2", "gemma3", "gemma-embedding")


def rope_of(config):
    """The rotary parameters of full attention, empty where positions are learned."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("full_attention", rope)


def rope_keys(rope):
    if rope.get("rope_type") == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    if rope.get("rope_type") == "yarn":
        keys = {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
            "rope.scaling.yarn_beta_fast": rope.get("beta_fast"),
            "rope.scaling.yarn_beta_slow": rope.get("beta_slow"),
        }
        return {key: float(value) if "beta" in key and value else value for key, value in keys.items()}
    return {}


def rotated(config):
    """Numbers of a head that are rotated."""
    rope = rope_of(config)
    return int(rope.get("partial_rotary_factor", 1.0) * (config.hidden_size // config.num_attention_heads))


def common_keys(config):
    rope = rope_of(config)
    local = (getattr(config, "rope_parameters", None) or {}).get("sliding_attention", {})
    head_dim = getattr(config, "head_dim", None)
    eps = (getattr(config, key, None) for key in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"))
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": next(filter(None, eps), None),
        "rope.freq_base": rope.get("rope_theta"),
        "rope.freq_base_swa": local.get("rope_theta"),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
    }


def expert_keys(config):
    scoring = {"softmax": 1, "sigmoid": 2}.get(getattr(config, "scoring_func", None))
    return {
        "expert_count": getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_group_count": getattr(config, "n_group", None),
        "expert_group_used_count": getattr(config, "topk_group", None),
        "expert_gating_func": scoring,
    }


def llama(config):
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {"vocab_size": config.vocab_size, "rope.dimension_count": head_dim}


def mistral3(config):
    rope = rope_of(config)
    return {
        **llama(config),
        "rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"],
        "attention.temperature_scale": rope["llama_4_scaling_beta"],
    }


def gemma(_config):
    return {"rope.freq_base": None}


def gemma2(config):
    return {
        "rope.freq_base": None,
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
        "attention.sliding_window": config.sliding_window,
    }


def gemma3(config):
    return {"attention.sliding_window": config.sliding_window}


def gemma_embedding(config):
    """The window as config.json has it, which transformers halves for a model that looks both ways."""
    return {"attention.sliding_window": 2 * (config.sliding_window - 1), "attention.causal": False}


def phi3(config):
    rope = rope_of(config)
    context, original = config.max_position_embeddings, config.original_max_position_embeddings
    keys = {
        "rope.scaling.original_context_length": original,
        "rope.dimension_count": rotated(config),
        "attention.sliding_window": config.sliding_window or 0,
        "attention.key_length": None,
        "attention.value_length": None,
    }
    if "long_factor" in rope:
        keys["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(context / original) / math.log(original))
    return keys


def granite(config):
    return {
        **llama(config),
        "attention.scale": config.attention_multiplier,
        "embedding_scale": config.embedding_multiplier,
        "residual_scale": config.residual_multiplier,
        "logit_scale": config.logits_scaling,
    }


def parallel(config):
    """GPT-NeoX and StableLM."""
    return {
        "rope.freq_base": None,
        "rope.dimension_count": rotated(config),
        "use_parallel_residual": config.use_parallel_residual,
    }


def command_r(config):
    return {"logit_scale": config.logit_scale, "rope.scaling.type": "none"}


def cohere2(config):
    return {
        **command_r(config),
        "attention.sliding_window": config.sliding_window,
        "vocab_size": config.vocab_size,
        "rope.dimension_count": config.head_dim,
    }


def phi2(config):
    return {
        "attention.head_count_kv": config.num_attention_heads,
        "rope.freq_base": None,
        "rope.dimension_count": rotated(config),
    }


def qwen_moe(config):
    return {
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_shared_feed_forward_length": getattr(config, "shared_expert_intermediate_size", None),
    }


def gpt_oss(config):
    return {
        "attention.sliding_window": config.sliding_window,
        "expert_feed_forward_length": config.intermediate_size,
    }


def deepseek2(config):
    rope, rank = rope_of(config), config.kv_lora_rank
    return {
        "attention.head_count_kv": 1,
        "leading_dense_block_count": config.first_k_dense_replace,
        "vocab_size": config.vocab_size,
        "attention.q_lora_rank": config.q_lora_rank,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + config.qk_rope_head_dim,
        "attention.value_length": rank,
        "attention.key_length_mla": config.qk_nope_head_dim + config.qk_rope_head_dim,
        "attention.value_length_mla": config.v_head_dim,
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_count": config.n_routed_experts,
        "expert_shared_count": config.n_shared_experts,
        "expert_weights_scale": float(config.routed_scaling_factor),
        "expert_weights_norm": config.norm_topk_prob or None,
        "rope.dimension_count": config.qk_rope_head_dim,
        "rope.scaling.yarn_log_multiplier": 0.1 * rope["mscale_all_dim"] if "mscale_all_dim" in rope else None,
    }


def bert(_config):
    return {"attention.causal": False, "attention.key_length": None, "attention.value_length": None}


def modern_bert(config):
    return {
        "attention.causal": False,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "attention.sliding_window": config.local_attention,
        "attention.sliding_window_pattern": config.global_attn_every_n_layers,
        "rope.scaling.type": "none",
        "vocab_size": config.vocab_size,
        "hidden_act": config.hidden_activation,
    }


KEYS = {
    "modern-bert": modern_bert,
    "bert": bert,
    "nomic-bert": bert,
    "gemma-embedding": gemma_embedding,
    "llama": llama,
    "mistral3": mistral3,
    "smollm3": llama,
    "bitnet-b1.58": llama,
    "bitnet": lambda _: {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0},
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "phi3": phi3,
    "granite": granite,
    "granitemoe": granite,
    "gptneox": parallel,
    "stablelm": parallel,
    "command-r": command_r,
    "cohere2": cohere2,
    "phi2": phi2,
    "qwen2moe": qwen_moe,
    "qwen3moe": qwen_moe,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
}


def keys(arch, config):
    """Metadata without the architecture's prefix; integers are uint32, other numbers float32."""
    found = {**common_keys(config), **expert_keys(config), **KEYS.get(arch, lambda _: {})(config)}
    if arch != "phi3":
        found |= rope_keys(rope_of(config))
    floats = ("freq_base", "freq_base_swa", "_scale", ".scale", "softcapping", "epsilon")
    return {key: float(value) if key.endswith(floats) else value for key, value in found.items() if value is not None}


def permute(weight, n_heads):
    """Rows reordered so that the two halves which Hugging Face rotates together lie side by side, as GGUF's `llama` wants."""
    return weight.unflatten(0, (n_heads, 2, -1)).swapaxes(1, 2).reshape(weight.shape)


def rope_freqs(rope, head_dim):
    """Divisors [head_dim / 2] of the rotary frequencies under Llama 3's scaling."""
    freqs = rope["rope_theta"] ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    context, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for freq in freqs:
        wavelength = 2 * math.pi / freq
        if wavelength < context / high:
            divisors.append(1)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(divisors, dtype=torch.float32)


def stacked(tensors, pattern):
    """Tensors whose names match `pattern` up to its group, a number, become one with that number as its first dimension."""
    parts, rest = {}, {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(pattern, name):
            before, number, after = found.groups()
            parts.setdefault(before + after, {})[int(number)] = tensor
        else:
            rest[name] = tensor
    return rest | {name: torch.stack([part[i] for i in range(len(part))]) for name, part in parts.items()}


def one_tensor(arch, config, name, tensor):
    """The tensors, by names of gguf's map, that a tensor of the folder becomes."""
    heads = config.num_attention_heads
    if arch in LLAMA_LIKE and re.search(r"[qk]_proj\.", name):
        tensor = permute(tensor, heads if "q_proj" in name else config.num_key_value_heads)
    elif arch in GEMMAS and name.endswith("norm.weight"):
        tensor = tensor + 1
    elif arch == "gpt2" and re.search(r"(c_attn|c_proj|c_fc)\.weight", name):
        tensor = tensor.T
    elif arch == "gptneox" and "query_key_value" in name:
        tensor = tensor.unflatten(0, (heads, 3, -1)).swapaxes(0, 1).reshape(tensor.shape)
    elif arch == "granitemoe" and "input_linear" in name:
        gate, up = tensor.chunk(2, dim=-2)
        return {name.replace("input_linear", "w1"): gate, name.replace("input_linear", "w3"): up}
    elif arch == "gpt-oss" and "experts" in name:
        return gpt_oss_experts(name, tensor)
    elif arch == "gpt-oss" and "sinks" in name:
        return {name + ".weight": tensor}
    elif name.endswith("kv_b_proj.weight"):
        k, v = tensor.unflatten(0, (heads, -1)).split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        return {name.replace("kv_b", "k_b"): k.swapaxes(1, 2), name.replace("kv_b", "v_b"): v}
    return {name: tensor}


def gpt_oss_experts(name, tensor):
    """Experts are [experts, in, out] in the folder, and gate and up alternate."""
    base, what = re.fullmatch(r"(.*experts\.)(\w+?)(?:_bias)?", name).groups()
    suffix = "bias" if name.endswith("_bias") else "weight"
    if suffix == "weight":
        tensor = tensor.swapaxes(-1, -2)
    if what == "down_proj":
        return {f"{base}down_proj.{suffix}": tensor}
    return {f"{base}gate_proj.{suffix}": tensor[:, ::2], f"{base}up_proj.{suffix}": tensor[:, 1::2]}


def rename(name):
    """What gguf's map knows the tensor by, where that is not its name in published folders of today."""
    for old, new in [
        ("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"),
        ("mlp.ffn_sub_norm", "mlp.ffn_layernorm"),
        (r"model\.(layers\.\d+\.)block_sparse_moe\.experts\.(w\d)", r"\1feed_forward.experts.\2"),
        (r"model\.(layers\.\d+\.)block_sparse_moe\.(w\d)\.", r"\1feed_forward.experts.\2."),
        (r"(q|k)_layernorm\.norms", r"\1_layernorm"),
        ("e_score_correction_bias", "e_score_correction.bias"),
    ]:
        name = re.sub(old, new, name)
    return name


def tensors(arch, config, stored):
    """Every tensor of the GGUF by the name that gguf's map knows it by."""
    stored = stacked(stored, r"(.*\.experts\.)(\d+)\.(.*)")
    stored = stacked(stored, r"(.*_layernorm\.norms\.)(\d+)\.(.*)")
    found = {}
    for name, tensor in stored.items():
        if name.endswith((".attn.bias", ".attention.bias", "masked_bias", "inv_freq", "position_ids")) or "pooler." in name:
            continue
        found.update(one_tensor(arch, config, name, tensor))
    return {rename(name): tensor for name, tensor in found.items()}


def extra_tensors(config, head_dim):
    """Divisors of rotary frequencies, by their GGUF names."""
    rope = rope_of(config)
    if rope.get("rope_type") == "llama3":
        return {"rope_freqs.weight": rope_freqs(rope, head_dim)}
    factors = {"long": rope.get("long_factor"), "short": rope.get("short_factor")}
    return {f"rope_factors_{which}.weight": torch.tensor(value) for which, value in factors.items() if value}
