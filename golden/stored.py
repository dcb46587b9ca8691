"""How published folders store what transformers holds otherwise: functions of a state and a generator to a state."""

import re

import torch

FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def openai_gpt2(state, _generator):
    """Without the prefix, and with the causal mask that early releases of transformers stored."""
    state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    context = len(state["wpe.weight"])
    mask = torch.ones(1, 1, context, context).tril()
    layers = [name.removesuffix("c_attn.weight") for name in state if name.endswith("c_attn.weight")]
    return state | {f"{layer}bias": mask.clone() for layer in layers}


def pythia(state, _generator):
    """With the causal mask and the rotary frequencies that early releases of transformers stored."""
    layers = [name.removesuffix("dense.weight") for name in state if name.endswith("attention.dense.weight")]
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
    return (
        state
        | {f"{layer}bias": mask.clone() for layer in layers}
        | {f"{layer}masked_bias": torch.tensor(-1e9) for layer in layers}
        | {f"{layer}rotary_emb.inv_freq": torch.tensor([1.0, 0.01]) for layer in layers}
    )


def bert(state, _generator):
    """With the positions that early releases of transformers stored."""
    return state | {"embeddings.position_ids": torch.arange(len(state["embeddings.position_embeddings.weight"]))[None]}


def without_prefix(state, _generator):
    """As stored by a model without head."""
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def under_one_model(state, _generator):
    """With the text model inside of `model.`, as transformers holds it and some programs store it."""
    names = {name: re.sub(r"^language_model\.(model\.|(?=lm_head))", r"language_model.", name) for name in state}
    names = {old: new if "lm_head" in new else f"model.{new}" for old, new in names.items()}
    return {names[name].replace("language_model.lm_head", "lm_head"): tensor for name, tensor in state.items()}


def mxfp4(state, generator):
    """With random experts in MXFP4: blocks [experts, out, in / 32, 16] of two codes each, the even one low, and scales."""
    stored = {}
    for name, tensor in state.items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            stored[name] = tensor
            continue
        experts, inner, outer = tensor.shape
        shape = (experts, outer, inner // 32)
        stored[name + "_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        stored[name + "_scales"] = torch.randint(123, 126, shape, generator=generator, dtype=torch.uint8)
    return stored


def unpack_mxfp4(blocks, scales):
    """The float32 matrices [experts, in, out]."""
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2)
    values = FP4[codes.int()] * torch.exp2(scales.float() - 127)[..., None]
    return values.flatten(-2).swapaxes(-1, -2)
