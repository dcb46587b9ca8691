"""Trains a small Llama on real text, for the comparison of quantised logits (`compare_llamacpp.py kl`): random weights
would make every logit an accident, and every row here is a multiple of 256, as the K-quants need. Writes a F32 GGUF.

    pip install torch==2.15.0 numpy==2.4.6 gguf==0.19.0 xllamacpp==2026.10.11549
    python golden/train_kl_model.py --vocab stories3M-f32.gguf --text tinystories.txt --out kl-f32.gguf --minutes 9

The vocabulary and its tokenizer are those of the GGUF given as --vocab. One thread.
"""

import argparse
import math
import time

import gguf
import numpy as np
import torch
import torch.nn.functional as F

import llama
import llamacpp

SPEC = {
    "block_count": 4,
    "context_length": 512,
    "embedding_length": 256,
    "feed_forward_length": 768,
    "attention.head_count": 8,
    "attention.head_count_kv": 4,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.dimension_count": 32,
    "rope.freq_base": 10000.0,
}
TOKENS, BATCH = 128, 16
LEARNING_RATE = 3e-3


def parameters(n_vocab):
    """Random weights by GGUF name."""
    width, ffn = SPEC["embedding_length"], SPEC["feed_forward_length"]
    kv = width * SPEC["attention.head_count_kv"] // SPEC["attention.head_count"]
    shapes = {"token_embd": (n_vocab, width), "output_norm": (width,)}
    for layer in range(SPEC["block_count"]):
        for name, shape in {
            "attn_norm": (width,),
            "attn_q": (width, width),
            "attn_k": (kv, width),
            "attn_v": (kv, width),
            "attn_output": (width, width),
            "ffn_norm": (width,),
            "ffn_gate": (ffn, width),
            "ffn_up": (ffn, width),
            "ffn_down": (width, ffn),
        }.items():
            shapes[f"blk.{layer}.{name}"] = shape
    init = lambda shape: torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02
    return {f"{name}.weight": init(shape).requires_grad_() for name, shape in shapes.items()}


def write(path, vocab, weights):
    """Writes the weights with the metadata above and the tokenizer of the GGUF `vocab`."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("trine-kl")
    for key, value in SPEC.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"llama.{key}", value)
    writer.add_vocab_size(len(weights["token_embd.weight"]))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    llama.copy_metadata(writer, vocab, ("tokenizer.",))
    for name, weight in weights.items():
        writer.add_tensor(name, weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--vocab", required=True)
    args.add_argument("--text", required=True)
    args.add_argument("--out", required=True)
    args.add_argument("--minutes", type=float, default=9)
    args = args.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    tokenizer = llamacpp.Model(args.vocab)
    stories = open(args.text, encoding="utf-8").read().split("<|endoftext|>")
    ids = np.concatenate([tokenizer.tokenize(story.strip()) for story in stories if story.strip()])
    data = torch.from_numpy(ids.astype(np.int64))
    held_out, data = data[:20_000], data[20_000:]
    weights = parameters(tokenizer.n_vocab)
    matrices = [w for w in weights.values() if w.dim() == 2]
    norms = [w for w in weights.values() if w.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )

    def loss(rows):
        logits = llama.forward(SPEC, weights, rows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    start, step, done = time.time(), 0, 0.0
    while done < 1:
        rate = LEARNING_RATE * min(1, (step + 1) / 50) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.stack([data[i : i + TOKENS + 1] for i in torch.randint(len(data) - TOKENS - 1, (BATCH,))])
        value = loss(rows)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        step, done = step + 1, (time.time() - start) / (60 * args.minutes)
        if step % 50 == 0:
            print(f"step {step} loss {value.item():.3f} done {done:.0%}", flush=True)
    with torch.no_grad():
        rows = held_out[: len(held_out) // (TOKENS + 1) * (TOKENS + 1)].view(-1, TOKENS + 1)
        print(f"held-out loss {loss(rows[:64]).item():.3f} after {step} steps")
    write(args.out, args.vocab, weights)


if __name__ == "__main__":
    main()
