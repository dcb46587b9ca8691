"""Rows of golden models whose linear layers are packed by GPTQ, AWQ or as FP8; what is made of each is in models.py.

The layouts are those of AutoGPTQ (`qlinear_cuda_old.py`, pack) and GPTQModel (gptq_v2, whose zero points are not decremented), of
AutoAWQ (`gemm.py`, from_linear), and of transformers (`finegrained_fp8.py`) and compressed-tensors. Codes are plain roundings, without the
search that gives these methods their names. A row has `packed`: a function of a matrix [out, in] and a generator that gives the stored
tensors of a layer, by what follows its name, and the floats they stand for; and the configuration's `quantization_config`. Logits are those
of the floats. With `loads`, the modules that are not packed, transformers itself loads the folder too, dequantised to float32, and has to give the same.
"""

from functools import partial

import numpy as np
import torch
import transformers

from llamas import DENSE, PROMPTS, rope

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def stream(codes, bits):
    """Codes along the first dimension as a stream of bits, low ones first, in 32-bit words."""
    planes = (codes[:, None] >> np.arange(bits).reshape(1, bits, *[1] * (codes.ndim - 1))) & 1
    planes = planes.reshape(-1, 32, *codes.shape[1:]).astype(np.uint64)
    powers = (np.uint64(1) << np.arange(32, dtype=np.uint64)).reshape(1, 32, *[1] * (codes.ndim - 1))
    return (planes * powers).sum(1).astype(np.uint32).view(np.int32)


def rounded(weight, groups, bits, sym, least_zero=0):
    """Codes [in, out], and scales and zero points [groups, out]."""
    top, count = 2**bits - 1, groups.max() + 1
    of = [weight[:, groups == group] for group in range(count)]
    low, high = (np.stack([find(part, axis=1) for part in of]) for find in (np.min, np.max))
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if sym:
        high = np.maximum(-low, high)
        low = -high
    scales = ((high - low) / top).astype(np.float16)
    zeros = np.full(scales.shape, 2 ** (bits - 1)) if sym else np.round(-low / scales.astype(np.float32)).astype(int)
    zeros = zeros.clip(least_zero, top)
    codes = np.round(weight.T / scales[groups].astype(np.float32)).astype(int) + zeros[groups]
    return codes.clip(0, top), scales, zeros


def floats(codes, scales, zeros, groups):
    return (scales[groups].astype(np.float32) * (codes - zeros[groups])).T


def gptq(weight, generator, bits, group_size, sym, desc_act, checkpoint_format="gptq"):
    inputs = weight.shape[1]
    groups = np.arange(inputs) // (inputs if group_size == -1 else group_size)
    if desc_act:
        groups = groups[torch.randperm(inputs, generator=generator).numpy()]
    v1 = checkpoint_format == "gptq"
    codes, scales, zeros = rounded(weight, groups, bits, sym, least_zero=int(v1))
    stored = {
        "qweight": stream(codes, bits),
        "qzeros": stream((zeros - v1).T, bits).T,
        "scales": scales,
        "g_idx": groups.astype(np.int32),
    }
    return stored, floats(codes, scales, zeros, groups)


def awq(weight, _generator, bits, group_size):
    groups = np.arange(weight.shape[1]) // group_size
    codes, scales, zeros = rounded(weight, groups, bits, False)

    def words(codes):
        codes = codes.reshape(len(codes), -1, 8)[..., AWQ_ORDER]
        return (codes << (4 * np.arange(8))).sum(-1).astype(np.uint32).view(np.int32)

    return {"qweight": words(codes), "qzeros": words(zeros), "scales": scales}, floats(codes, scales, zeros, groups)


def fp8(weight, _generator, block, scale_name="weight_scale_inv", scale_shape=None, scale_dtype=torch.float32):
    rows, cols = weight.shape
    high, wide = block or (rows, cols)
    across = -(-cols // wide)
    place = np.arange(rows)[:, None] // high * across + np.arange(cols) // wide
    most = np.zeros(place.max() + 1, np.float32)
    np.maximum.at(most, place, np.abs(weight))
    scales = torch.from_numpy(most / 448).to(scale_dtype)
    of = scales.float()[torch.from_numpy(place)]
    codes = (torch.from_numpy(weight.copy()) / of).clamp(-448, 448).to(torch.float8_e4m3fn)
    stored = {"weight": codes, scale_name: scales.reshape(scale_shape or (-1, across))}
    return stored, (codes.float() * of).numpy()


def pack(state, generator, method, kept):
    """The stored state and the one of floats."""
    stored, plain = {}, {}
    for name, tensor in state.items():
        plain[name] = tensor.float()
        if not name.endswith("_proj.weight") or any(module in name for module in kept):
            stored[name] = tensor
            continue
        parts, weight = method(tensor.float().numpy(), generator)
        plain[name] = torch.from_numpy(weight.copy())
        for part, values in parts.items():
            values = values if isinstance(values, torch.Tensor) else torch.from_numpy(values.copy())
            stored[name.removesuffix("weight") + part] = values.contiguous()
    return stored, plain


def row(quantization, method, kept=(), **more):
    """A row; `kept` are parts of the names of modules that are not packed."""
    config = dict(DENSE, rope_parameters=rope("default"), tie_word_embeddings=True) | more.pop("config", {})
    return dict(
        cls=more.pop("cls", transformers.LlamaForCausalLM),
        config=config,
        dtype=torch.float16,
        prompts=PROMPTS[1:],
        weights="dequantised from the packed layers",
        packed=partial(pack, method=method, kept=kept),
        rewrite=dict(quantization_config=quantization),
        **more,
    )


def gptq_row(kept=(), config={}, cls=transformers.LlamaForCausalLM, **quantization):
    """As AutoGPTQ and GPTQModel write it."""
    how = dict(dict(sym=True, desc_act=False, checkpoint_format="gptq"), **quantization)
    more = dict(quant_method="gptq", damp_percent=0.01, static_groups=False, true_sequential=True, model_file_base_name=None)
    return row(dict(more, **how), partial(gptq, **how), kept, config=config, cls=cls)


def fp8_row(block, **more):
    quantization = dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3", weight_block_size=block)
    return row(quantization, partial(fp8, block=block), **more)


COMPRESSED = dict(
    quant_method="compressed-tensors",
    format="float-quantized",
    quantization_status="compressed",
    ignore=["lm_head"],
    kv_cache_scheme=None,
    config_groups=dict(
        group_0=dict(
            targets=["Linear"],
            weights=dict(num_bits=8, type="float", strategy="channel", symmetric=True, dynamic=False, block_structure=None),
            input_activations=dict(num_bits=8, type="float", strategy="token", symmetric=True, dynamic=True),
        )
    ),
)



def by_inputs(weight, generator):
    """Layers of 96 inputs as the rule of `llama-gptq-dynamic` has them, the others as the rest of the configuration."""
    own = dict(bits=8, group_size=32) if weight.shape[1] == 96 else dict(bits=4, group_size=64)
    return gptq(weight, generator, sym=True, desc_act=False, **own)


def with_unused_scales(state, generator, **how):
    """As vLLM's tools write them: scales of an FP8 KV cache, and of outputs."""
    stored, plain = pack(state, generator, **how)
    for name in [name for name in stored if name.endswith("k_proj.weight")]:
        layer = name.removesuffix("k_proj.weight")
        stored |= {layer + part: torch.tensor([0.02]) for part in ("k_scale", "v_scale", "q_proj.output_scale")}
    return stored, plain


QWEN3_MOE = dict(
    cls=transformers.Qwen3MoeForCausalLM,
    config=dict(
        head_dim=16, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, rms_norm_eps=1e-6
    ),
)

PACKED = {
    "llama-gptq": gptq_row(bits=4, group_size=32),
    "llama-gptq-act-order": gptq_row(bits=4, group_size=32, sym=False, desc_act=True),
    "llama-gptq-8bit": gptq_row(bits=8, group_size=-1, sym=False, config=dict(num_hidden_layers=1)),
    "llama-gptq-3bit": gptq_row(bits=3, group_size=32, sym=False),
    "llama-gptq-2bit": gptq_row(bits=2, group_size=32, sym=False),
    "llama-gptq-v2": gptq_row(bits=4, group_size=32, sym=False, checkpoint_format="gptq_v2", kept=["layers.0.mlp.down"]),
    "llama-gptq-dynamic": row(
        dict(
            quant_method="gptq",
            bits=4,
            group_size=64,
            sym=True,
            desc_act=False,
            checkpoint_format="gptq",
            dynamic={"-:.*k_proj": {}, "+:.*\\.down_": dict(bits=8, group_size=32)},
        ),
        by_inputs,
        kept=["k_proj"],
        config=dict(num_hidden_layers=1),
    ),
    "qwen2-gptq": gptq_row(bits=4, group_size=32, cls=transformers.Qwen2ForCausalLM),
    "phi-gptq": gptq_row(bits=4, group_size=32, cls=transformers.Phi3ForCausalLM, config=dict(pad_token_id=1)),
    "qwen3moe-gptq": gptq_row(bits=4, group_size=32, sym=False, **QWEN3_MOE),
    "qwen3moe-fp8": fp8_row([32, 32], **QWEN3_MOE),
    "llama-awq": row(
        dict(
            quant_method="awq", bits=4, group_size=32, version="gemm", zero_point=True, modules_to_not_convert=["down_proj"]
        ),
        partial(awq, bits=4, group_size=32),
        kept=["down_proj"],
    ),
    "llama-fp8": fp8_row([32, 32], loads=["lm_head"]),
    "llama-fp8-ragged": fp8_row([40, 48]),
    "llama-fp8-tensor": row(
        dict(quant_method="fp8", activation_scheme="dynamic"),
        partial(fp8, block=None, scale_name="weight_scale", scale_shape=()),
    ),
    "llama-fp8-kv": dict(
        row(
            dict(COMPRESSED, kv_cache_scheme=dict(num_bits=8, type="float", strategy="tensor", dynamic=False, symmetric=True)),
            None,
            config=dict(num_hidden_layers=1),
        ),
        packed=partial(
            with_unused_scales,
            method=partial(fp8, block=[1, 96], scale_name="weight_scale", scale_shape=(-1, 1), scale_dtype=torch.bfloat16),
            kept=(),
        ),
    ),
    "llama-fp8-channel": row(
        COMPRESSED,
        partial(fp8, block=[1, 96], scale_name="weight_scale", scale_shape=(-1, 1), scale_dtype=torch.bfloat16),
    ),
}
