"""Rows of golden models whose config.json is what published models of the architecture have.

Each row: `json`, the config.json as it is written, from which transformers builds the model; `dtype`, the type of the
safetensors; `gguf`, the GGUF's architecture and the type of its matrices. Optional: `prompts`; `std` of matrices, 1.6 over
the root of the width unless given; `stored`, how published folders store it otherwise; `why` llama.cpp differs.

What norms add to a variance is 1e-3, more than in published models, so that it shows. Windows are shorter than the prompts,
and there are as many layers as it takes for every kind of layer to come up. No name has `phi3` in it, since llama.cpp takes
tokens of that family for granted in a file so named.
"""

import torch

import stored
from llamas import LONG_PROMPTS

BASE = dict(vocab_size=288, bos_token_id=0, eos_token_id=1, hidden_size=32, max_position_embeddings=128, num_hidden_layers=2)
HEADS = dict(num_attention_heads=2, num_key_value_heads=1)
GATED = dict(BASE, **HEADS, intermediate_size=64, hidden_act="silu", rms_norm_eps=1e-3, rope_theta=10000.0)
GEMMA = dict(GATED, head_dim=32, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh")
GEMMA2 = dict(sliding_window=16, attn_logit_softcapping=5.0, final_logit_softcapping=4.0)
PHI3 = dict(GATED, attention_bias=False, pad_token_id=1, tie_word_embeddings=False)
LONG_ROPE = dict(
    long_factor=[1.0, 1.25, 1.5, 2.0, 2.75, 3.5, 4.5, 6.0], short_factor=[1.0, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4]
)
GRANITE = dict(
    attention_bias=False,
    attention_multiplier=0.1875,
    embedding_multiplier=3.0,
    residual_multiplier=0.5,
    logits_scaling=0.75,
    rope_scaling=None,
    rope_theta=10000000.0,
)
LAYER_NORM = dict(BASE, num_attention_heads=2, intermediate_size=128, layer_norm_eps=1e-3, rope_theta=10000.0)
NEOX = dict(
    {key: value for key, value in LAYER_NORM.items() if key != "rope_theta"},
    hidden_act="gelu",
    max_position_embeddings=64,
    rotary_emb_base=10000,
    rotary_pct=0.25,
    tie_word_embeddings=False,
)
STABLELM = dict(
    LAYER_NORM,
    intermediate_size=64,
    num_key_value_heads=1,
    hidden_act="silu",
    partial_rotary_factor=0.25,
    tie_word_embeddings=False,
)
COHERE = dict(
    LAYER_NORM,
    intermediate_size=64,
    num_key_value_heads=1,
    hidden_act="silu",
    rope_theta=8000000.0,
    logit_scale=0.75,
    attention_bias=False,
)


MINISTRAL3 = dict(
    {key: value for key, value in GATED.items() if key != "rope_theta"},
    head_dim=32,
    sliding_window=None,
    tie_word_embeddings=False,
    rope_parameters=dict(
        rope_type="yarn",
        type="yarn",
        rope_theta=1000000.0,
        factor=8.0,
        original_max_position_embeddings=16,
        beta_fast=32.0,
        beta_slow=1.0,
        mscale=1.0,
        mscale_all_dim=1.0,
        llama_4_scaling_beta=0.1,
    ),
)
VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, patch_size=14, image_size=56)
PIXTRAL = dict(VISION, model_type="pixtral", head_dim=16, num_channels=3, hidden_act="silu", rope_theta=10000.0)
MISTRAL3 = dict(
    image_token_index=259,
    multimodal_projector_bias=False,
    projector_hidden_act="gelu",
    spatial_merge_size=2,
    vision_feature_layer=-1,
    tie_word_embeddings=False,
)
SIGLIP = dict(VISION, model_type="siglip_vision_model", vision_use_head=False)


def published(model_type, architecture, base, **more):
    return base | dict(model_type=model_type, architectures=[architecture], torch_dtype="bfloat16") | more


def whole(model_type, architecture, text, vision, **more):
    """A model of several parts."""
    parts = dict(model_type=model_type, architectures=[architecture], torch_dtype="bfloat16")
    return parts | dict(text_config=text, vision_config=vision) | more


def row(json, gguf=None, kind="F16", **more):
    return dict(json=json, dtype=torch.bfloat16, **({"gguf": (gguf, kind)} if gguf else {}), **more)


ARCHS = {
    "mistral": row(
        published("mistral", "MistralForCausalLM", GATED, sliding_window=16, tie_word_embeddings=False),
    ),
    "ministral": row(
        published(
            "ministral",
            "MinistralForCausalLM",
            GATED,
            head_dim=16,
            num_hidden_layers=3,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            tie_word_embeddings=False,
        ),
    ),
    "ministral3": row(
        published("ministral3", "Ministral3ForCausalLM", MINISTRAL3),
        gguf="mistral3",
        prompts=LONG_PROMPTS,
    ),
    "mistral3": row(
        whole("mistral3", "Mistral3ForConditionalGeneration", dict(MINISTRAL3, model_type="ministral3"), PIXTRAL, **MISTRAL3),
        prompts=LONG_PROMPTS,
        stored=stored.under_one_model,
    ),
    "gemma": row(
        published("gemma", "GemmaForCausalLM", GEMMA),
        gguf="gemma",
    ),
    "gemma2": row(
        published("gemma2", "Gemma2ForCausalLM", GEMMA, **GEMMA2, num_hidden_layers=3, query_pre_attn_scalar=32),
        gguf="gemma2",
    ),
    "gemma2-27b": row(
        published("gemma2", "Gemma2ForCausalLM", GEMMA, **GEMMA2, query_pre_attn_scalar=16),
    ),
    "gemma3": row(
        published(
            "gemma3_text",
            "Gemma3ForCausalLM",
            GEMMA,
            num_hidden_layers=6,
            intermediate_size=32,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=16,
            sliding_window_pattern=6,
            rope_theta=1000000.0,
            rope_local_base_freq=10000.0,
            rope_scaling=dict(rope_type="linear", factor=8.0),
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
        ),
        gguf="gemma3",
    ),
    "gemma3-vision": row(
        whole(
            "gemma3",
            "Gemma3ForConditionalGeneration",
            dict(
                model_type="gemma3_text",
                vocab_size=288,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=2,
                sliding_window=16,
                sliding_window_pattern=2,
                rope_scaling=dict(rope_type="linear", factor=8.0),
            ),
            SIGLIP,
            mm_tokens_per_image=4,
            boi_token_index=257,
            eoi_token_index=258,
            image_token_index=259,
            bos_token_id=0,
            eos_token_id=1,
        ),
    ),
    "phi-window": row(
        published(
            "phi3", "Phi3ForCausalLM", PHI3, rope_scaling=None, sliding_window=16, original_max_position_embeddings=128
        ),
        gguf="phi3",
        why="llama.cpp attends beyond phi3.attention.sliding_window",
    ),
    "phi-longrope": row(
        published(
            "phi3",
            "Phi3ForCausalLM",
            PHI3,
            rope_scaling=dict(LONG_ROPE, type="longrope"),
            sliding_window=262144,
            original_max_position_embeddings=16,
        ),
        gguf="phi3",
    ),
    "phi4-mini": row(
        published(
            "phi3",
            "Phi3ForCausalLM",
            PHI3,
            max_position_embeddings=2048,
            original_max_position_embeddings=1024,
            partial_rotary_factor=0.75,
            rope_scaling={key: factors[:6] for key, factors in LONG_ROPE.items()} | dict(type="longrope"),
            sliding_window=None,
            tie_word_embeddings=True,
        ),
        gguf="phi3",
    ),
    "olmo2": row(
        published(
            "olmo2",
            "Olmo2ForCausalLM",
            GATED,
            rope_theta=500000,
            tie_word_embeddings=False,
            attention_bias=False,
            rope_scaling=None,
        ),
        gguf="olmo2",
    ),
    "granite": row(
        published("granite", "GraniteForCausalLM", GATED, **GRANITE, tie_word_embeddings=True),
        gguf="granite",
    ),
    "smollm3": row(
        published(
            "smollm3",
            "SmolLM3ForCausalLM",
            GATED,
            num_hidden_layers=5,
            pad_token_id=1,
            rope_theta=5000000.0,
            no_rope_layer_interval=4,
            no_rope_layers=[1, 1, 1, 0, 1],
            layer_types=["full_attention"] * 5,
            max_window_layers=28,
            sliding_window=None,
            use_sliding_window=False,
            rope_scaling=None,
        ),
        gguf="smollm3",
    ),
    "starcoder2": row(
        published(
            "starcoder2",
            "Starcoder2ForCausalLM",
            BASE,
            **HEADS,
            intermediate_size=128,
            hidden_act="gelu_pytorch_tanh",
            mlp_type="default",
            norm_type="layer_norm",
            norm_epsilon=1e-3,
            rope_theta=999999.4420358813,
            sliding_window=4096,
            use_bias=True,
        ),
        gguf="starcoder2",
    ),
    "gpt2": row(
        dict(
            architectures=["GPT2LMHeadModel"],
            model_type="gpt2",
            activation_function="gelu_new",
            vocab_size=288,
            bos_token_id=0,
            eos_token_id=1,
            n_embd=32,
            n_head=2,
            n_layer=2,
            n_ctx=64,
            n_positions=64,
            layer_norm_epsilon=1e-3,
        ),
        gguf="gpt2",
        stored=stored.openai_gpt2,
    ),
    "gptneox": row(
        published("gpt_neox", "GPTNeoXForCausalLM", NEOX, use_parallel_residual=True),
        gguf="gptneox",
        stored=stored.pythia,
    ),
    "gptneox-sequential": row(
        published("gpt_neox", "GPTNeoXForCausalLM", NEOX, use_parallel_residual=False),
        gguf="gptneox",
    ),
    "stablelm": row(
        published(
            "stablelm", "StableLmForCausalLM", STABLELM, use_qkv_bias=True, use_parallel_residual=False, qk_layernorm=False
        ),
        gguf="stablelm",
    ),
    "stablelm-parallel": row(
        published(
            "stablelm", "StableLmForCausalLM", STABLELM, use_qkv_bias=False, use_parallel_residual=True, qk_layernorm=True
        ),
        gguf="stablelm",
    ),
    "command-r": row(
        published("cohere", "CohereForCausalLM", COHERE, use_qk_norm=False),
        gguf="command-r",
    ),
    "command-r-plus": row(
        published("cohere", "CohereForCausalLM", COHERE, num_attention_heads=4, num_key_value_heads=2, use_qk_norm=True),
        gguf="command-r",
        why="llama.cpp expects norms of queries and keys from 64 layers on only",
    ),
    "cohere2": row(
        published(
            "cohere2",
            "Cohere2ForCausalLM",
            COHERE,
            num_hidden_layers=4,
            intermediate_size=32,
            head_dim=16,
            rope_theta=50000,
            layer_switch=4,
            order_of_interleaved_layers="local_attn_first",
            position_embedding_type="rope_gptj",
            rotary_pct=1.0,
            sliding_window=16,
            sliding_window_pattern=4,
            use_embedding_sharing=True,
            use_gated_activation=True,
            use_parallel_block=True,
            use_parallel_embedding=True,
            use_qk_norm=False,
        ),
        gguf="cohere2",
    ),
    "phi2": row(
        published(
            "phi",
            "PhiForCausalLM",
            LAYER_NORM,
            hidden_act="gelu_new",
            num_key_value_heads=2,
            partial_rotary_factor=0.5,
            qk_layernorm=False,
            tie_word_embeddings=False,
        ),
        gguf="phi2",
    ),
}
