"""The peer of our training speed: a well-written eager PyTorch model, forward, backward and AdamW on random tokens.

    pip install torch==2.15.0
    python golden/train_speed.py 10m [--ternary] [--threads 2] [--steps 5] [--step-by-step] [--layers 6 ...]
    python golden/train_speed.py gemm

Prints a JSON line for the model, then one per step: {"step", "seconds", "tokens"}. With --step-by-step it waits for a line on
stdin before each step, so that a caller can let it take turns with another program. A flag of its name changes any of SIZES.
`gemm` measures the yardstick instead, products of [2048, 1024] by [1024, 1024] in float32, and prints {"gflops"} of each ten.

Dense models are `llama`: attention by F.scaled_dot_product_attention, F.rms_norm, rope of halves, SwiGLU, one matrix as embedding
and head. Ternary ones are `bitnet`: norms before the last linear layer of each half, and every linear layer inside layers a
BitLinear, which quantises its weights (absmean) and inputs (8 bits per token) in each forward pass, straight-through by detach,
as the code of "The Era of 1-bit LLMs: Training Tips, Code and FAQ" does.
"""

import argparse
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SIZES = {
    "1.7m": dict(vocab=4096, width=128, layers=6, heads=4, kv_heads=2, ffn=384, batch=8, sequence=256),
    "10m": dict(vocab=4096, width=384, layers=6, heads=6, kv_heads=2, ffn=896, batch=8, sequence=256),
    "100m": dict(vocab=8192, width=768, layers=12, heads=12, kv_heads=4, ffn=2688, batch=4, sequence=256),
}


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class BitLinear(nn.Linear):
    """A linear layer of ternary weights and 8-bit inputs."""

    def forward(self, x):
        scale = self.weight.abs().mean().clamp(min=1e-5)
        weight = (self.weight / scale).round().clamp(-1, 1) * scale
        inverse = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        x_q = (x * inverse).round().clamp(-128, 127) / inverse
        return F.linear(x + (x_q - x).detach(), self.weight + (weight - self.weight).detach())


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Layer(nn.Module):
    def __init__(self, p):
        super().__init__()
        linear = lambda inputs, outputs: (BitLinear if p.ternary else nn.Linear)(inputs, outputs, bias=False)
        sub_norm = RmsNorm if p.architecture == "bitnet" else lambda width: nn.Identity()
        self.head_dim = p.width // p.heads
        kv = p.kv_heads * self.head_dim
        self.attn_norm, self.attn_sub_norm = RmsNorm(p.width), sub_norm(p.width)
        self.q, self.k, self.v, self.o = (linear(p.width, n) for n in (p.width, kv, kv, p.width))
        self.ffn_norm, self.ffn_sub_norm = RmsNorm(p.width), sub_norm(p.ffn)
        self.gate, self.up, self.down = linear(p.width, p.ffn), linear(p.width, p.ffn), linear(p.ffn, p.width)

    def forward(self, x, cos, sin):
        h = self.attn_norm(x)
        q, k, v = (f(h).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(self.attn_sub_norm(h.transpose(1, 2).flatten(-2)))
        h = self.ffn_norm(x)
        return x + self.down(self.ffn_sub_norm(F.silu(self.gate(h)) * self.up(h)))


class Decoder(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.embedding = nn.Embedding(p.vocab, p.width)
        self.layers = nn.ModuleList(Layer(p) for _ in range(p.layers))
        self.norm = RmsNorm(p.width)
        dim = p.width // p.heads
        angles = torch.outer(torch.arange(p.sequence), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embedding.weight)


def train(p):
    model = Decoder(p)
    decays = [w for w in model.layers.parameters() if w.dim() == 2]
    others = [w for w in model.parameters() if all(w is not other for other in decays)]
    groups = [dict(params=decays, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    forward = torch.compile(model) if p.compile else model
    print(json.dumps(dict(vars(p), parameters=sum(w.numel() for w in model.parameters()))), flush=True)
    for step in range(p.steps):
        ids = torch.randint(p.vocab, (p.batch, p.sequence + 1))
        if p.step_by_step and not sys.stdin.readline():
            break
        start = time.perf_counter()
        loss = F.cross_entropy(forward(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if p.clip:
            nn.utils.clip_grad_norm_(model.parameters(), p.clip)
        optimizer.step()
        seconds = time.perf_counter() - start
        print(json.dumps(dict(step=step, seconds=round(seconds, 6), tokens=p.batch * p.sequence)), flush=True)


def gemm(p):
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    for _ in range(p.steps):
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        print(json.dumps(dict(gflops=round(10 * 2 * 2048 * 1024 * 1024 / (time.perf_counter() - start) / 1e9, 1))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=[*SIZES, "gemm"])
    parser.add_argument("--architecture", choices=["llama", "bitnet"], help="bitnet where --ternary, else llama")
    parser.add_argument("--ternary", action="store_true")
    for name in SIZES["10m"]:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--step-by-step", action="store_true")
    parser.add_argument("--clip", type=float, default=0.0, help="largest norm of all gradients; 0 for none")
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    p = parser.parse_args()
    torch.set_num_threads(p.threads)
    torch.manual_seed(0)
    if p.size == "gemm":
        return gemm(p)
    for name, value in SIZES[p.size].items():
        if getattr(p, name) is None:
            setattr(p, name, value)
    p.architecture = p.architecture or ("bitnet" if p.ternary else "llama")
    train(p)


if __name__ == "__main__":
    main()
