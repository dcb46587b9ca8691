"""Makes the golden encoders: tiny random models of the architectures that turn a text into one vector.

    pip install  the packages of models.py
    python golden/encoders.py [NAME ...]

For each name (all of them by default) it writes golden/encoders/NAME/ with

    config.json, model.safetensors, tokenizer.json, tokenizer_config.json,
    modules.json, 1_Pooling/config.json, N_Dense/    as sentence-transformers stores published models
    model.gguf       the same weights, exactly, as llama.cpp's converter writes them
    golden.json      versions, seed, how tokens are pooled, the texts and their ids, and what llama.cpp makes of them
    hidden.f32       float32 little-endian [tokens, width] of the texts one after the other: the last layer's states, normed
    embedding.f32    float32 little-endian [texts, width]: states pooled, passed through the dense layers, and of length 1

The numbers are those of the folder loaded by transformers in float32 on the CPU with eager attention.
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

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
from safetensors.torch import save_file

import convert
import llamacpp
import models
import stored
from archs import GATED, GEMMA, published

OUT = Path(__file__).parent / "encoders"
BERT = dict(
    model_type="bert",
    architectures=["BertModel"],
    torch_dtype="float32",
    vocab_size=288,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
    pad_token_id=0,
    position_embedding_type="absolute",
)
NOMIC = dict(
    model_type="nomic_bert",
    architectures=["NomicBertModel"],
    torch_dtype="float32",
    activation_function="swiglu",
    causal=False,
    layer_norm_epsilon=1e-12,
    max_trained_positions=2048,
    mlp_fc1_bias=False,
    mlp_fc2_bias=False,
    n_embd=32,
    n_head=2,
    n_inner=64,
    n_layer=2,
    n_positions=8192,
    pad_vocab_size_multiple=64,
    parallel_block=False,
    prenorm=False,
    qkv_proj_bias=False,
    rotary_emb_base=1000,
    rotary_emb_fraction=1.0,
    rotary_emb_interleaved=False,
    rotary_emb_scale_base=None,
    type_vocab_size=2,
    vocab_size=288,
)


MODERN = dict(
    model_type="modernbert",
    architectures=["ModernBertModel"],
    torch_dtype="float32",
    attention_bias=False,
    bos_token_id=0,
    classifier_pooling="mean",
    cls_token_id=0,
    eos_token_id=1,
    global_attn_every_n_layers=3,
    global_rope_theta=160000.0,
    hidden_activation="gelu",
    hidden_size=32,
    intermediate_size=64,
    layer_norm_eps=1e-5,
    local_attention=16,
    local_rope_theta=10000.0,
    max_position_embeddings=128,
    mlp_bias=False,
    norm_bias=False,
    norm_eps=1e-5,
    num_attention_heads=2,
    num_hidden_layers=4,
    pad_token_id=1,
    position_embedding_type="absolute",
    sep_token_id=1,
    vocab_size=288,
)

# Each row: `json`, `stored` and `gguf` as in archs.py; the class, its configuration where transformers does not read the
# published one; the tokenizer, how it pools, and the widths of dense layers after that.
ENCODERS = {
    "bert": dict(
        json=BERT,
        cls="BertModel",
        stored=stored.bert,
        gguf=("bert", "F16"),
        dtype=torch.float32,
        tokenizer="wordpiece",
        std=0.4,
        pooling="cls",
    ),
    "nomic-bert": dict(
        json=NOMIC,
        cls="NomicBertModel",
        config=dict(
            vocab_size=288,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=2048,
        ),
        gguf=("nomic-bert", "F16"),
        dtype=torch.float32,
        tokenizer="wordpiece",
        pooling="mean",
    ),
    "qwen3-embedding": dict(
        json=published("qwen3", "Qwen3ForCausalLM", GATED, rope_theta=1000000, head_dim=32, tie_word_embeddings=True),
        cls="Qwen3Model",
        stored=stored.without_prefix,
        gguf=("qwen3", "F16"),
        dtype=torch.bfloat16,
        tokenizer="$A <|eos|>",
        pooling="lasttoken",
    ),
    "gemma-embedding": dict(
        json=published(
            "gemma3_text",
            "Gemma3TextModel",
            GEMMA,
            num_hidden_layers=6,
            intermediate_size=32,
            head_dim=16,
            query_pre_attn_scalar=16,
            layer_types=["sliding_attention"] * 5 + ["full_attention"],
            rope_theta=1000000.0,
            rope_local_base_freq=10000.0,
            sliding_window=16,
            use_bidirectional_attention=True,
        ),
        cls="Gemma3TextModel",
        gguf=("gemma-embedding", "F16"),
        dtype=torch.bfloat16,
        tokenizer="<|bos|> $A <|eos|>",
        pooling="mean",
        dense=[32, 64, 32],
    ),
    "modernbert": dict(
        json=MODERN,
        cls="ModernBertModel",
        gguf=("modern-bert", "F16"),
        dtype=torch.float32,
        tokenizer="<|bos|> $A <|eos|>",
        pooling="mean",
    ),
}


def wordpiece():
    """A lower-casing WordPiece tokenizer with the special tokens at the ids that BERT gives them."""
    text = " ".join(models.SENTENCES).lower()
    letters = sorted(set(text) - set(" \n"))
    words = sorted(set(re.findall("[a-z]{3,}", text)))
    ends = sorted({"##" + word[-2:] for word in words} | {"##" + letter for letter in letters})
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    tokens = [special.get(i, f"[unused{i - 1}]") for i in range(104)] + letters + ends + words
    tokens += [f"[unused{i - 5}]" for i in range(len(tokens), models.VOCAB)]
    vocab = {token: i for i, token in enumerate(tokens[: models.VOCAB])}
    return transformers.BertTokenizerFast(tokenizer_object=tokenizers.BertWordPieceTokenizer(vocab)._tokenizer)


def train_bpe(template):
    tokenizer = models.train_tokenizer()
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, special_tokens=[("<|bos|>", 0), ("<|eos|>", 1)]
    )
    return tokenizer


def write_modules(folder, row, width, seed):
    """The files of sentence-transformers, and the matrices of the dense layers."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    own = dict(cls="cls_token", mean="mean_tokens").get(row["pooling"], row["pooling"])
    chosen = {f"pooling_mode_{mode}": mode == own for mode in modes}
    configs = {"1_Pooling": dict(word_embedding_dimension=width, **chosen, include_prompt=True)}
    generator, dense = torch.Generator().manual_seed(seed), []
    for i, (inner, outer) in enumerate(zip(row.get("dense", []), row.get("dense", [])[1:]), 2):
        dense.append(models.grid(torch.randn(outer, inner, generator=generator) * inner**-0.5, 1 / 256).clamp(-0.99, 0.99))
        kinds.append((f"{i}_Dense", "Dense"))
        configs[f"{i}_Dense"] = dict(
            in_features=inner, out_features=outer, bias=False, activation_function="torch.nn.modules.linear.Identity"
        )
    kinds.append((f"{len(kinds)}_Normalize", "Normalize"))
    for path, config in configs.items():
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for i, matrix in enumerate(dense, 2):
        save_file({"linear.weight": matrix}, folder / f"{i}_Dense" / "model.safetensors")
    listed = [
        dict(idx=i, name=str(i), path=path, type=f"sentence_transformers.models.{kind}")
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed, indent=2) + "\n")
    return dense


def pooled(states, how, dense):
    """The vector of length 1 of states [tokens, width]."""
    vector = dict(cls=states[0], mean=states.mean(0), lasttoken=states[-1])[how]
    for matrix in dense:
        vector = matrix @ vector
    return vector / vector.norm()


def largest(ours, theirs):
    return float(f"{np.abs(np.asarray(ours) - np.asarray(theirs)).max():.2g}")


def beside_llama_cpp(folder, row, config, dense, ids, hidden, embeddings):
    """The largest differences of llama.cpp's states and pooled vectors, from an F32 GGUF."""
    path = folder / "f32.gguf"
    convert.write(folder, row["gguf"][0], "F32", path, config)
    states, vectors = llamacpp.Model(path, pooling=llamacpp.POOLING_NONE), llamacpp.Model(
        path, pooling=llamacpp.POOLING_OF_MODEL
    )
    theirs = [states.states(each) for each in ids]
    pools = [vectors.embedding(each) for each in ids]
    pools = [vector / np.linalg.norm(vector) for vector in pools]
    states.close(), vectors.close()
    path.unlink()
    # llama.cpp passes unpooled states through the dense layers, too.
    for matrix in dense:
        hidden = [states @ matrix.T for states in hidden]
    difference = max(map(largest, theirs, hidden))
    found = dict(version=version("xllamacpp"), hidden=difference, embedding=largest(pools, embeddings))
    return found | ({"why": row["why"]} if "why" in row else {})


def make(name, row):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        tokenizer = wordpiece() if row["tokenizer"] == "wordpiece" else train_bpe(row["tokenizer"])
        tokenizer.save_pretrained(folder)
        seed = 0
        config = models.write_folder(folder, row, seed)
        dense = write_modules(folder, row, config.hidden_size, seed)
        model, loaded = transformers.AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        assert not (loaded["missing_keys"] or loaded["mismatched_keys"]), f"{name}: {loaded}"
        ids = [transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for text in models.PROMPTS]
        hidden = [model.eval()(torch.tensor([each])).last_hidden_state[0] for each in ids]
        embeddings = [pooled(states, row["pooling"], dense) for states in hidden]
        convert.write(folder, *row["gguf"], config=config)
        versions = {package: version(package) for package in ("torch", "transformers", "tokenizers", "gguf")}
        facts = dict(versions=versions, seed=seed, width=config.hidden_size, pooling=row["pooling"])
        facts["llama.cpp"] = beside_llama_cpp(folder, row, config, dense, ids, hidden, embeddings)
        facts["cosine"] = round((embeddings[0] @ embeddings[1]).item(), 4)
        facts["prompts"] = [dict(text=text, ids=each) for text, each in zip(models.PROMPTS, ids)]
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
        (folder / "golden.json").write_text("{\n" + lines + "\n}\n")
        (folder / "hidden.f32").write_bytes(torch.cat(hidden).numpy().astype("<f4").tobytes())
        (folder / "embedding.f32").write_bytes(torch.stack(embeddings).numpy().astype("<f4").tobytes())
        shutil.rmtree(OUT / name, ignore_errors=True)
        shutil.copytree(folder, OUT / name)
    print(name, len(ids[0]), len(ids[1]), facts["llama.cpp"], facts["cosine"], flush=True)


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with torch.no_grad():
        for name in sys.argv[1:] or ENCODERS:
            make(name, ENCODERS[name])


if __name__ == "__main__":
    main()
