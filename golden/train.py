"""Makes golden/train/: what the training tape is compared with, computed by torch in float64 and stored in float32.

    pip install torch==2.15.0 gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6
    python golden/train.py

For each model of MODELS it writes

    NAME.gguf           tiny random weights, without a tokenizer. Matrices are multiples of 1/256 below 1, which F16 holds exactly:
                        the ternary models, whose rows must be whole blocks of 128, are stored in it for their size
    NAME.safetensors    ids, targets [tokens], spans [documents] (i32): documents packed in a row, whose positions restart and
                        which do not see each other; a loss is the mean cross-entropy of all tokens
                        losses, grad_norms [10]: ten steps of AdamW: the loss and the norm of all gradients, before clipping
                        grad.0.TENSOR, grad.9.TENSOR: all gradients in the first and the tenth step, before clipping
                        final.TENSOR: the weights after the tenth
                        qat.loss [1], qat.grad.TENSOR (bitnet only): one pass of quantisation-aware training (`bit_linear`)

and ops.safetensors, single operations (`operations` has the shapes, `golden_operations` the keys): inputs, outputs, and the
gradients of the inputs for random ones of the outputs; and muon.safetensors, steps of that optimiser (`golden_muon`).

TENSOR are GGUF's names, with shapes [rows, cols]. Of a matrix with more than 2000 numbers there are only sums with alternating
signs, x0 - x1 + x2 - ..., each row's in KEY.rows and each column's in KEY.cols: a wrong number shows in both.
"""

import math
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import llama

OUT = Path(__file__).parent / "train"
STEPS, LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 10, 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0
MUON = dict(lr=0.05, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
SPANS = [11, 5, 8]
LARGEST = 2000  # numbers of a matrix that is stored whole
SEEDS, CLOSE = 300, 2e-5  # seeds to choose from, and how near float32 must come to float64: see `golden`

DENSE = dict(
    layers=2, vocab=97, width=32, ffn=48, heads=4, kv_heads=2, head_dim=8, eps=1e-5, base=10000.0, dtype="F32",
    pairs="halves", gate="silu", head_norms=False, sub_norms=False, bias=False, tied=True,
)  # fmt: skip
BITNET = dict(DENSE, layers=1, width=128, ffn=128, head_dim=32, sub_norms=True, dtype="F16")
MODELS = {
    "llama": dict(DENSE, pairs="adjacent"),
    "qwen2": dict(DENSE, bias=True, eps=1e-6, base=1e6),
    "qwen3": dict(DENSE, head_norms=True, head_dim=16, tied=False, eps=1e-6, base=1e6),
    "bitnet": BITNET,
    "bitnet-b1.58": dict(BITNET, gate="relu2"),
}


# The decoder. Rows are tokens of all documents one after the other; `spans` are the lengths of the documents.


def rms_norm(x, gain, eps):
    """arXiv:1910.07467, over the last dimension."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def rope(x, spans, base, pairs):
    """arXiv:2104.09864: turns pairs of numbers of x [tokens, heads, head_dim], `adjacent` ones or those of the two `halves`."""
    dim, positions = x.shape[-1], torch.cat([torch.arange(n) for n in spans])
    freqs = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(positions.double(), freqs)[:, None, :]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if pairs == "adjacent" else x.unflatten(-1, (2, -1)).unbind(-2)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1 if pairs == "adjacent" else -2).flatten(-2)


def attention(q, k, v, spans, window=None, softcap=None):
    """Causal attention within each document, [tokens, heads, head_dim]; queries in groups share a key head (arXiv:2305.13245).

    With a window a token sees that many: itself and those right before it (arXiv:2310.06825). With a softcap scores become
    softcap * tanh(score / softcap) (arXiv:2408.00118).
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    at = torch.arange(len(q))
    distance = at[:, None] - at[None, :]
    document = torch.repeat_interleave(torch.tensor(spans))
    seen = (distance >= 0) & (document[:, None] == document[None, :])
    if window is not None:
        seen &= distance < window
    return torch.einsum("hij,jhd->ihd", scores.masked_fill(~seen, -math.inf).softmax(-1), v)


def gate(kind, x, up):
    """SwiGLU (arXiv:2002.05202), or the squared ReLU (arXiv:2109.08668) of BitNet b1.58 2B-4T (arXiv:2504.12285)."""
    return (x * x.sigmoid() if kind == "silu" else x.relu().square()) * up


def forward(spec, w, ids, spans, linear=F.linear):
    """Logits [tokens, vocab]. `linear(x, weight, bias)` computes the linear layers inside layers."""

    def norm(name, x):
        return rms_norm(x, w[f"{name}.weight"], spec["eps"])

    x = w["token_embd.weight"][ids]
    for layer in range(spec["layers"]):
        blk = f"blk.{layer}."
        apply = lambda name, x: linear(x, w[f"{blk}{name}.weight"], w.get(f"{blk}{name}.bias"))
        h = norm(blk + "attn_norm", x)
        q, k, v = (apply(name, h).unflatten(-1, (-1, spec["head_dim"])) for name in ("attn_q", "attn_k", "attn_v"))
        if spec["head_norms"]:
            q, k = norm(blk + "attn_q_norm", q), norm(blk + "attn_k_norm", k)
        q, k = (rope(t, spans, spec["base"], spec["pairs"]) for t in (q, k))
        h = attention(q, k, v, spans).flatten(-2)
        if spec["sub_norms"]:
            h = norm(blk + "attn_sub_norm", h)
        x = x + apply("attn_output", h)
        h = norm(blk + "ffn_norm", x)
        h = gate(spec["gate"], apply("ffn_gate", h), apply("ffn_up", h))
        if spec["sub_norms"]:
            h = norm(blk + "ffn_sub_norm", h)
        x = x + apply("ffn_down", h)
    return norm("output_norm", x) @ w["token_embd.weight" if spec["tied"] else "output.weight"].T


def cross_entropy(logits, targets):
    """Mean over the rows."""
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets].mean()


def kl(logits, teacher, temperature):
    """KL(teacher || student) of distributions flattened by the temperature, mean over the rows, without Hinton's factor temperature²."""
    p, q = ((t / temperature).log_softmax(-1) for t in (teacher, logits))
    return (p.exp() * (p - q)).sum(-1).mean()


# Quantisation-aware training: BitNet b1.58 (arXiv:2402.17764), as in the code of "The Era of 1-bit LLMs: Training Tips, Code and FAQ".


def ternary_scale(w):
    """mean|w|, at least 1e-5, rounded to float16, because that is how files keep it (the papers' code keeps it in float)."""
    return w.abs().mean().clamp(min=1e-5).half().to(w.dtype)


def byte_scale(x):
    """127 / max|x| of each token, where the maximum counts as 1e-5 at least."""
    return 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)


def bit_linear(x, weight, bias):
    """Weights in {-1, 0, 1} times a scale, inputs in -128..=127 times one per token, halves rounded to even; both straight-through."""
    s, t = ternary_scale(weight), byte_scale(x)
    w_q = (weight / s).round().clamp(-1, 1) * s
    x_q = (x * t).round().clamp(-128, 127) / t
    return F.linear(x + (x_q - x).detach(), weight + (w_q - weight).detach(), bias)


def margins(spec, w, ids, spans):
    """How near roundings come to a half: of weights, of scales to float16, of activations; each in units of what it rounds to."""
    least = dict(weights=math.inf, scales=math.inf, activations=math.inf)

    def from_half(kind, x):
        least[kind] = min(least[kind], (x - x.floor() - 0.5).abs().min().item())

    def linear(x, weight, bias):
        mean = weight.abs().mean()
        from_half("weights", (weight / ternary_scale(weight)).clamp(-1, 1))
        from_half("scales", mean / 2.0 ** (mean.log2().floor() - 10))
        from_half("activations", x * byte_scale(x))
        return bit_linear(x, weight, bias)

    with torch.no_grad():
        forward(spec, w, ids, spans, linear)
    return least


# Models.


def shapes(spec):
    width, ffn, q, kv = spec["width"], spec["ffn"], spec["heads"] * spec["head_dim"], spec["kv_heads"] * spec["head_dim"]
    yield "token_embd.weight", (spec["vocab"], width)
    for layer in range(spec["layers"]):
        blk = f"blk.{layer}."
        yield blk + "attn_norm.weight", (width,)
        for name, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
            yield f"{blk}{name}.weight", (rows, width)
            if spec["bias"]:
                yield f"{blk}{name}.bias", (rows,)
        if spec["head_norms"]:
            yield blk + "attn_q_norm.weight", (spec["head_dim"],)
            yield blk + "attn_k_norm.weight", (spec["head_dim"],)
        if spec["sub_norms"]:
            yield blk + "attn_sub_norm.weight", (q,)
        yield blk + "attn_output.weight", (width, q)
        yield blk + "ffn_norm.weight", (width,)
        yield blk + "ffn_gate.weight", (ffn, width)
        yield blk + "ffn_up.weight", (ffn, width)
        if spec["sub_norms"]:
            yield blk + "ffn_sub_norm.weight", (ffn,)
        yield blk + "ffn_down.weight", (width, ffn)
    yield "output_norm.weight", (width,)
    if not spec["tied"]:
        yield "output.weight", (spec["vocab"], width)


def random_model(spec, seed):
    """Weights by name, and a packed row of random ids with targets: the next id, and after a document's last one the id 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(spec):
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        # With 1.05, mean|w| / 2, where a ternary weight's rounding turns, lies between two multiples of 1/256.
        std = 0.2 if name.endswith("bias") or name == "token_embd.weight" else 1.05 * shape[-1] ** -0.5
        if "norm" in name:
            weights[name] = (1 + 0.25 * noise).clamp(0.25, 2).float().double()
        else:
            weights[name] = ((std * noise).clamp(-0.99, 0.99) * 256).round() / 256
    documents = [torch.randint(1, spec["vocab"], (n,), generator=generator) for n in SPANS]
    ids = torch.cat(documents)
    targets = torch.cat([torch.cat((ids[1:], torch.zeros(1, dtype=ids.dtype))) for ids in documents])
    return weights, ids, targets


def write_gguf(path, arch, spec, weights):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if spec["dtype"] == "F32" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(spec["vocab"])
    writer.add_block_count(spec["layers"])
    writer.add_context_length(64)
    writer.add_embedding_length(spec["width"])
    writer.add_feed_forward_length(spec["ffn"])
    writer.add_head_count(spec["heads"])
    writer.add_head_count_kv(spec["kv_heads"])
    writer.add_key_length(spec["head_dim"])
    writer.add_value_length(spec["head_dim"])
    writer.add_rope_dimension_count(spec["head_dim"])
    writer.add_rope_freq_base(spec["base"])
    writer.add_layer_norm_rms_eps(spec["eps"])
    for name, weight in weights.items():
        half = spec["dtype"] == "F16" and weight.dim() == 2
        array = weight.numpy().astype(np.float16 if half else np.float32)
        assert np.array_equal(array, weight.numpy()), f"{name} is not exact in {array.dtype}"
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# Goldens.


def put(out, key, tensor):
    """Adds a tensor in float32, or a large matrix's alternating sums (plain ones of the head's gradient would be 0 in every column)."""
    tensor = tensor.detach().double()
    if tensor.dim() == 2 and tensor.numel() > LARGEST:
        signs = [(-1.0) ** torch.arange(n, dtype=torch.float64) for n in tensor.shape]
        out[key + ".rows"] = (tensor @ signs[1]).float().numpy()
        out[key + ".cols"] = (signs[0] @ tensor).float().numpy()
    else:
        out[key] = np.ascontiguousarray(tensor.float().numpy())


def quantised_pass(spec, weights, ids, targets, dtype):
    """The loss and the gradients of quantisation-aware training, by key."""
    w = {name: x.to(dtype, copy=True).requires_grad_() for name, x in weights.items()}
    loss = cross_entropy(forward(spec, w, ids, SPANS, bit_linear), targets)
    loss.backward()
    out = {}
    put(out, "qat.loss", loss[None])
    for name, x in w.items():
        put(out, f"qat.grad.{name}", x.grad)
    return out


def ten_steps(spec, weights, ids, targets, dtype):
    """What NAME.safetensors has of ten steps of AdamW, by key. Only matrices inside layers decay."""
    w = {name: x.to(dtype, copy=True).requires_grad_() for name, x in weights.items()}
    decays = lambda name: name.startswith("blk.") and w[name].dim() == 2
    groups = [
        dict(params=[x for name, x in w.items() if decays(name)], weight_decay=WEIGHT_DECAY),
        dict(params=[x for name, x in w.items() if not decays(name)], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPS)
    out, losses, norms = {}, [], []
    for step in range(STEPS):
        loss = cross_entropy(forward(spec, w, ids, SPANS), targets)
        optimizer.zero_grad()
        loss.backward()
        if step in (0, STEPS - 1):
            for name, x in w.items():
                put(out, f"grad.{step}.{name}", x.grad)
        norms.append(torch.nn.utils.clip_grad_norm_(w.values(), CLIP))
        optimizer.step()
        losses.append(loss)
    put(out, "losses", torch.stack(losses))
    put(out, "grad_norms", torch.stack(norms))
    for name, x in w.items():
        put(out, f"final.{name}", x)
    return out


def worst(found, expected):
    """The largest norm of a difference, relative to the norm of what it is compared with."""
    return max(np.linalg.norm(found[key] - x) / np.linalg.norm(x) for key, x in expected.items())


def candidates(name, spec):
    """Seeds: the first ones, or of quantised models those whose roundings stay away from a half, the furthest activations first."""
    if not name.startswith("bitnet"):
        return range(SEEDS)
    found = {seed: margins(spec, *random_model(spec, seed)[:2], SPANS) for seed in range(SEEDS)}
    safe = [seed for seed, least in found.items() if least["weights"] >= 2e-3 and least["scales"] >= 2e-2]
    return sorted(safe, key=lambda seed: -found[seed]["activations"])


def golden(name, spec):
    """Writes both files of one model and says what was measured.

    AdamW divides a gradient by its size: one that happens to be nearly 0 turns rounding into a step of any size up to the learning rate.
    So the seed is the first for which torch in float32 agrees with float64 throughout.
    """
    for seed in candidates(name, spec):
        weights, ids, targets = random_model(spec, seed)
        out, single = (ten_steps(spec, weights, ids, targets, dtype) for dtype in (torch.float64, torch.float32))
        if worst(single, out) < CLOSE:
            break
    else:
        raise ValueError(f"{name}: none of {SEEDS} seeds will do")
    facts = {"seed": seed, "losses": f"{out['losses'][0]:.3f} to {out['losses'][-1]:.3f}", "float32": f"{worst(single, out):.1e}"}
    write_gguf(OUT / f"{name}.gguf", name, spec, weights)
    if name.startswith("bitnet"):
        least = margins(spec, weights, ids, SPANS)
        assert least["weights"] >= 2e-3 and least["scales"] >= 2e-2 and least["activations"] >= 2e-4
        passes = [quantised_pass(spec, weights, ids, targets, dtype) for dtype in (torch.float64, torch.float32)]
        out |= passes[0]
        facts |= {"qat loss": f"{passes[0]['qat.loss'][0]:.3f}", "float32 qat": f"{worst(passes[1], passes[0]):.1e}"}
        facts |= {"nearest half": {kind: f"{value:.1e}" for kind, value in least.items()}}
    out |= {"ids": ids.int().numpy(), "targets": targets.int().numpy(), "spans": np.array(SPANS, np.int32)}
    save_file(out, OUT / f"{name}.safetensors", metadata={"made by": f"torch {torch.__version__}, seed {seed}"})
    size = sum((OUT / f"{name}{end}").stat().st_size for end in (".gguf", ".safetensors"))
    print(f"{name}: {size} bytes, {facts}", flush=True)


def operations():
    """(key, variant, function, inputs by name): y = function(inputs in that order). Variants of a key share their inputs.

    Rows of attention and rope are two documents.
    """
    generator = torch.Generator().manual_seed(158)
    rand = lambda *shape: torch.randn(shape, generator=generator).double()
    spans = [13, 6]
    qkv = dict(q=rand(19, 4, 16), k=rand(19, 2, 16), v=rand(19, 2, 16))
    for variant, options in {
        "full": {},
        "window": dict(window=5),
        "softcap": dict(softcap=2.0),
        "both": dict(window=5, softcap=2.0),
    }.items():
        yield "attention", variant, lambda q, k, v, options=options: attention(q, k, v, spans, **options), qkv
    heads = dict(x=rand(19, 3, 16))
    for pairs in ("adjacent", "halves"):
        yield "rope", pairs, lambda x, pairs=pairs: rope(x, spans, 10000.0, pairs), heads
    yield "rms_norm", "", lambda x, gain: rms_norm(x, gain, 1e-5), dict(x=rand(7, 40), gain=(1 + rand(40) / 4).float().double())
    sides = dict(gate=2 * rand(7, 40), up=rand(7, 40))
    for kind in ("silu", "relu2"):
        yield "gate", kind, lambda x, up, kind=kind: gate(kind, x, up), sides
    targets = torch.randint(97, (7,), generator=generator)
    yield "cross_entropy", "", lambda logits: cross_entropy(logits, targets), dict(logits=2 * rand(7, 97), targets=targets)
    yield "kl", "", lambda logits, teacher: kl(logits, teacher, 2.0), dict(logits=2 * rand(7, 97), teacher=2 * rand(7, 97))


def golden_operations():
    """Writes ops.safetensors.

    KEY.NAME are inputs, KEY.dy the gradient of the output; KEY.VARIANT.y the output and KEY.VARIANT.dNAME the gradients of the inputs,
    without VARIANT where there is only one. Losses have no dy and one number as y; the teacher has no gradient.
    """
    out = {}
    for key, variant, function, inputs in operations():
        floats = {name: x.clone().requires_grad_() for name, x in inputs.items() if x.is_floating_point()}
        y = function(*floats.values())
        for name, x in inputs.items():
            out[f"{key}.{name}"] = x.float().numpy() if x.is_floating_point() else x.int().numpy()
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double() if y.dim() else torch.ones_like(y)
        if y.dim():
            out[f"{key}.dy"] = dy.float().numpy()
        y.backward(dy)
        prefix = f"{key}.{variant}." if variant else f"{key}."
        out[prefix + "y"] = y.detach().float().reshape(y.shape or (1,)).numpy()
        for name, x in floats.items():
            if name != "teacher":
                out[f"{prefix}d{name}"] = x.grad.float().numpy()
    # The library stores an array that lies in another order as if it did not.
    out = {name: np.ascontiguousarray(x) for name, x in out.items()}
    save_file(out, OUT / "ops.safetensors", metadata={"made by": f"torch {torch.__version__}"})
    print(f"ops: {(OUT / 'ops.safetensors').stat().st_size} bytes")


def golden_muon():
    """Writes muon.safetensors: SHAPE.w [rows, cols], SHAPE.g.0 to SHAPE.g.2, its gradients in three steps of torch.optim.Muon with the
    settings of MUON, and SHAPE.final, the weights after them. It orthogonalises in bfloat16."""
    out, generator = {}, torch.Generator().manual_seed(158)
    for name, shape in {"square": (24, 24), "wide": (16, 40), "tall": (40, 16)}.items():
        w = torch.nn.Parameter(torch.randn(shape, generator=generator))
        out[f"{name}.w"] = w.detach().numpy().copy()
        optimizer = torch.optim.Muon([w], **MUON)
        for step in range(3):
            w.grad = torch.randn(shape, generator=generator)
            out[f"{name}.g.{step}"] = w.grad.numpy().copy()
            optimizer.step()
        out[f"{name}.final"] = w.detach().numpy()
    save_file(out, OUT / "muon.safetensors", metadata={"made by": f"torch {torch.__version__}"})
    print(f"muon: {(OUT / 'muon.safetensors').stat().st_size} bytes")


def check():
    """Every operation, and the loss of each architecture made smaller still, against finite differences; and Llama against the forward
    pass that the other goldens use."""
    for key, variant, function, inputs in operations():
        floats = [x.clone().requires_grad_() for x in inputs.values() if x.is_floating_point()]
        assert torch.autograd.gradcheck(function, floats), (key, variant)
    for arch, spec in MODELS.items():
        spec = dict(spec, layers=1, vocab=7, width=6, ffn=5, head_dim=2)
        weights, ids, targets = random_model(spec, 0)
        loss = lambda *w: cross_entropy(forward(spec, dict(zip(weights, w)), ids, SPANS), targets)
        assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in weights.values()]), arch
    spec = MODELS["llama"]
    weights, ids, _ = random_model(spec, 0)
    keys = {"block_count": "layers", "attention.head_count": "heads", "attention.head_count_kv": "kv_heads"}
    keys |= {"attention.layer_norm_rms_epsilon": "eps", "rope.freq_base": "base"}
    theirs = llama.forward({key: spec[name] for key, name in keys.items()}, weights, ids)
    assert torch.allclose(forward(spec, weights, ids, [len(ids)]), theirs, rtol=1e-12, atol=1e-12)


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    check()
    golden_operations()
    golden_muon()
    for name, spec in MODELS.items():
        golden(name, spec)


if __name__ == "__main__":
    main()
