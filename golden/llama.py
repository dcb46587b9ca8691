"""The plain Llama forward pass in torch over the tensors of a GGUF file, in whatever precision they have; and copying
the metadata of such a file."""

import gguf
import numpy as np
import torch
import torch.nn.functional as F


def read(path, dtype=torch.float64):
    """The metadata (`llama.` prefix dropped) and the dequantised tensors by name of a GGUF file with architecture `llama`."""
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama", path
    spec = {name.removeprefix("llama."): f.contents() for name, f in reader.fields.items() if name.startswith("llama.")}
    weights = {t.name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type))).to(dtype) for t in reader.tensors}
    return spec, weights


def copy_metadata(writer, path, prefixes):
    """Adds to the writer the metadata of the GGUF `path` whose keys begin with one of `prefixes`."""
    for name, field in gguf.GGUFReader(path).fields.items():
        if name.startswith(prefixes):
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)


def rope(x, base):
    """Rotates consecutive pairs of x [..., tokens, heads, head_dim], as GGUF's `llama` orders them."""
    tokens, head_dim = x.shape[-3], x.shape[-1]
    freqs = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(tokens, dtype=torch.float64), freqs)[:, None, :]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def forward(spec, w, ids):
    """Logits [..., tokens, vocab] of ids [..., tokens]."""
    eps, base = spec["attention.layer_norm_rms_epsilon"], spec["rope.freq_base"]
    n_heads, n_kv = spec["attention.head_count"], spec["attention.head_count_kv"]

    def norm(name, x):
        return F.rms_norm(x, x.shape[-1:], w[name + ".weight"], eps)

    x = w["token_embd.weight"][ids]
    for layer in range(spec["block_count"]):
        blk = f"blk.{layer}."
        linear = lambda name, x: F.linear(x, w[blk + name + ".weight"])
        h = norm(blk + "attn_norm", x)
        q, k, v = (
            linear(name, h).unflatten(-1, (n, -1)) for name, n in (("attn_q", n_heads), ("attn_k", n_kv), ("attn_v", n_kv))
        )
        q, k = rope(q, base), rope(k, base)
        q, k, v = (t.transpose(-3, -2) for t in (q, k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + linear("attn_output", h.transpose(-3, -2).flatten(-2))
        h = norm(blk + "ffn_norm", x)
        x = x + linear("ffn_down", F.silu(linear("ffn_gate", h)) * linear("ffn_up", h))
    return F.linear(norm("output_norm", x), w.get("output.weight", w["token_embd.weight"]))
