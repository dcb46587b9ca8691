"""Rows of golden models like Llama, full and ternary: what is made of each is in models.py."""

import torch
import transformers

VOCAB, BOS, EOS = 288, 0, 1
PROMPTS = ["The miller counted 17 pear trees near the river, then wrote it", "\u201cNo,\u201d she said;\n  the ferry rang."]
LONG_PROMPTS = [
    "The miller counted 17 pear trees near the frozen river, then he wrote the number in his small red book; she turned.",
    PROMPTS[1],
]

SMALL = dict(
    vocab_size=VOCAB, bos_token_id=BOS, eos_token_id=EOS, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)
DENSE = dict(SMALL, hidden_size=64, intermediate_size=96, max_position_embeddings=128, rms_norm_eps=1e-5)
ROPE = dict(DENSE, hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32)
TERNARY = dict(SMALL, hidden_size=128, intermediate_size=256, max_position_embeddings=128, rms_norm_eps=1e-5)


def rope(kind, **more):
    return dict(rope_theta=10000.0, rope_type=kind, **more)


BITNET = dict(quant_method="bitnet")

# Each row: the model class, its configuration, the type of the safetensors, the GGUF's architecture and type (if it has
# one), the prompts, and what replaces or joins the keys of config.json, in the forms in which published models have them.
LLAMAS = {
    "llama": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(DENSE, rope_parameters=rope("default"), tie_word_embeddings=False),
        dtype=torch.bfloat16,
        gguf=("llama", "F16"),
    ),
    "llama-sharded": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(ROPE, rope_parameters=rope("default"), tie_word_embeddings=True),
        dtype=torch.float16,
        shards="50KB",
    ),
    "llama-linear": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(ROPE, rope_parameters=rope("linear", factor=4.0), tie_word_embeddings=True),
        dtype=torch.bfloat16,
        gguf=("llama", "F32"),
        prompts=LONG_PROMPTS,
        rewrite=dict(rope_parameters=None, rope_theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)),
    ),
    "llama3-rope": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(
            ROPE,
            rope_parameters=rope(
                "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
            ),
            tie_word_embeddings=True,
        ),
        dtype=torch.bfloat16,
        gguf=("llama", "F16"),
        prompts=LONG_PROMPTS,
        rewrite=dict(
            rope_parameters=None,
            rope_theta=10000.0,
            rope_scaling=dict(
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
                rope_type="llama3",
            ),
        ),
    ),
    "llama-yarn": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(
            ROPE, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32), tie_word_embeddings=True
        ),
        dtype=torch.float32,
        gguf=("llama", "F16"),
        prompts=LONG_PROMPTS,
    ),
    "qwen2": dict(
        cls=transformers.Qwen2ForCausalLM,
        config=dict(
            DENSE, rms_norm_eps=1e-6, rope_parameters=dict(rope("default"), rope_theta=1e6), tie_word_embeddings=True
        ),
        dtype=torch.bfloat16,
        gguf=("qwen2", "BF16"),
    ),
    "qwen3": dict(
        cls=transformers.Qwen3ForCausalLM,
        config=dict(
            DENSE,
            rms_norm_eps=1e-6,
            head_dim=32,
            rope_parameters=dict(rope("default"), rope_theta=1e6),
            tie_word_embeddings=False,
        ),
        dtype=torch.float16,
        gguf=("qwen3", "F16"),
    ),
    "bitnet-online": dict(
        cls=transformers.BitNetForCausalLM,
        config=dict(
            TERNARY,
            intermediate_size=128,
            num_hidden_layers=1,
            hidden_act="relu2",
            rope_parameters=rope("default"),
            tie_word_embeddings=True,
        ),
        dtype=torch.bfloat16,
        quantization=dict(BITNET, linear_class="autobitlinear", quantization_mode="online"),
        weights="W' = clamp(round(W / a), -1, 1) * a with a = max(mean|W|, 1e-5) per tensor, computed in float32 at load",
    ),
    # The head is not among the modules that are listed, so that it is ternary, too.
    "bitnet-kept": dict(
        cls=transformers.BitNetForCausalLM,
        config=dict(
            TERNARY,
            intermediate_size=128,
            num_hidden_layers=1,
            hidden_act="relu2",
            rope_parameters=rope("default"),
            tie_word_embeddings=True,
        ),
        dtype=torch.bfloat16,
        quantization=dict(
            BITNET, linear_class="autobitlinear", quantization_mode="online", modules_to_not_convert=["q_proj", "layers.0.mlp.up"]
        ),
        weights="as in bitnet-online; float32 where modules_to_not_convert says it",
    ),
    "llama-bitlinear-rms": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(TERNARY, num_hidden_layers=1, rope_parameters=rope("default"), tie_word_embeddings=True),
        dtype=torch.bfloat16,
        quantization=dict(BITNET, linear_class="bitlinear", use_rms_norm=True, rms_norm_eps=1e-3),
        weights="ternary / weight_scale",
    ),
    # As `safetensors.torch.save_model` writes a tied pair.
    "llama-save-model": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(ROPE, num_hidden_layers=1, rope_parameters=rope("default"), tie_word_embeddings=True),
        dtype=torch.float16,
        saved_as={"model.embed_tokens.weight": "lm_head.weight"},
    ),
    "bitnet-b1.58": dict(
        cls=transformers.BitNetForCausalLM,
        config=dict(TERNARY, hidden_act="relu2", rope_parameters=rope("default"), tie_word_embeddings=True),
        dtype=torch.bfloat16,
        quantization=dict(BITNET, linear_class="autobitlinear", quantization_mode="offline"),
        gguf=("bitnet-b1.58", "I2_S"),
        rewrite=dict(rope_parameters=None, rope_theta=10000.0),
        weights="ternary * weight_scale in the safetensors; ternary * the float32 in the tail of each I2_S tensor in the GGUF",
    ),
    "llama-bitlinear": dict(
        cls=transformers.LlamaForCausalLM,
        config=dict(TERNARY, rope_parameters=rope("default"), tie_word_embeddings=True),
        dtype=torch.bfloat16,
        quantization=dict(BITNET, linear_class="bitlinear", modules_to_not_convert=["lm_head"]),
        gguf=("llama", "I2_S"),
        weights="ternary / weight_scale in the safetensors; ternary * the float32 in the tail of each I2_S tensor in the GGUF",
    ),
    "bitnet": dict(
        cls=transformers.BitNetForCausalLM,
        config=dict(
            TERNARY,
            hidden_size=256,
            num_hidden_layers=1,
            hidden_act="silu",
            rope_parameters=rope("default"),
            tie_word_embeddings=True,
        ),
        dtype=torch.bfloat16,
        quantization=dict(BITNET, linear_class="autobitlinear", quantization_mode="offline"),
        gguf=("bitnet", "TQ2_0"),
        weights="ternary * weight_scale in the safetensors; ternary * the block's d, equal to it, in the GGUF",
    ),
}
