"""Rows of golden models whose config.json is what published models of the architecture have.

Each row: `json`, the config.json as it is written, from which transformers builds the model; `dtype`, the type of the
safetensors; `gguf`, the GGUF's architecture and the type of its matrices. Optional: `prompts`; `std` of matrices, 1.6 over
the root of the width unless given; `stored`, how published folders store it otherwise; `why` llama.cpp differs.

Windows are shorter than the prompts, and there are as many layers as it takes for every kind of layer to come up. No name
has `phi3` in it, since llama.cpp takes tokens of that family for granted in a file so named.
"""

import torch

import stored

BASE = dict(
    vocab_size=288, bos_token_id=0, eos_token_id=1, hidden_size=32, max_position_embeddings=128, num_hidden_layers=2
)
HEADS = dict(num_attention_heads=2, num_key_value_heads=1)
GATED = dict(BASE, **HEADS, intermediate_size=64, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=10000.0)
GEMMA = dict(GATED, head_dim=32, rms_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh")
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
LAYER_NORM = dict(BASE, num_attention_heads=2, intermediate_size=128, layer_norm_eps=1e-5, rope_theta=10000.0)
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
COHERE = dict(LAYER_NORM, intermediate_size=64, num_key_value_heads=1, hidden_act="silu", rope_theta=8000000.0, logit_scale=0.75, attention_bias=False)
QWEN_MOE = dict(
    decoder_sparse_step=1,
    max_window_layers=2,
    moe_intermediate_size=32,
    num_experts=4,
    num_experts_per_tok=2,
    rope_theta=1000000.0,
    sliding_window=None,
    tie_word_embeddings=False,
    use_sliding_window=False,
)
GPT_OSS = dict(
    GATED,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=32,
    attention_bias=True,
    max_position_embeddings=131072,
    layer_types=["sliding_attention", "full_attention"],
    num_local_experts=4,
    experts_per_token=2,
    num_experts_per_tok=2,
    rope_scaling=dict(
        rope_type="yarn",
        factor=32.0,
        beta_fast=32.0,
        beta_slow=1.0,
        original_max_position_embeddings=4096,
        truncate=False,
    ),
    rope_theta=150000.0,
    sliding_window=16,
    swiglu_limit=7.0,
    tie_word_embeddings=False,
)
MXFP4 = dict(
    quant_method="mxfp4",
    modules_to_not_convert=[
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
)
DEEPSEEK = dict(
    GATED,
    num_key_value_heads=2,
    rms_norm_eps=1e-6,
    attention_bias=False,
    first_k_dense_replace=1,
    kv_lora_rank=48,
    moe_intermediate_size=32,
    moe_layer_freq=1,
    n_routed_experts=8,
    num_experts_per_tok=2,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=16,
    rope_scaling=dict(
        type="yarn",
        factor=4.0,
        beta_fast=32,
        beta_slow=1,
        mscale=0.707,
        mscale_all_dim=0.707,
        original_max_position_embeddings=128,
    ),
    max_position_embeddings=512,
    tie_word_embeddings=False,
)


def published(model_type, architecture, base, **more):
    return base | dict(model_type=model_type, architectures=[architecture], torch_dtype="bfloat16") | more


def row(json, gguf=None, kind="F16", **more):
    return dict(json=json, dtype=torch.bfloat16, **({"gguf": (gguf, kind)} if gguf else {}), **more)


ARCHS = {
    "mistral": row(
        published("mistral", "MistralForCausalLM", GATED, sliding_window=16, tie_word_embeddings=False),
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
        published("olmo2", "Olmo2ForCausalLM", GATED, rope_theta=500000, tie_word_embeddings=False, attention_bias=False, rope_scaling=None),
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
            norm_epsilon=1e-5,
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
            layer_norm_epsilon=1e-5,
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
        published("stablelm", "StableLmForCausalLM", STABLELM, use_qkv_bias=True, use_parallel_residual=False, qk_layernorm=False),
        gguf="stablelm",
    ),
    "stablelm-parallel": row(
        published("stablelm", "StableLmForCausalLM", STABLELM, use_qkv_bias=False, use_parallel_residual=True, qk_layernorm=True),
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
    "mixtral": row(
        published(
            "mixtral",
            "MixtralForCausalLM",
            GATED,
            intermediate_size=32,
            num_local_experts=4,
            num_experts_per_tok=2,
            rope_theta=1e6,
            sliding_window=None,
            tie_word_embeddings=False,
        ),
        gguf="llama",
    ),
    "qwen2moe": row(
        published(
            "qwen2_moe",
            "Qwen2MoeForCausalLM",
            GATED,
            **QWEN_MOE,
            shared_expert_intermediate_size=64,
            norm_topk_prob=False,
        ),
        gguf="qwen2moe",
    ),
    "qwen3moe": row(
        published("qwen3_moe", "Qwen3MoeForCausalLM", GATED, **QWEN_MOE, head_dim=32, norm_topk_prob=True, rope_scaling=None),
        gguf="qwen3moe",
    ),
    "olmoe": row(
        published(
            "olmoe",
            "OlmoeForCausalLM",
            GATED,
            num_key_value_heads=2,
            intermediate_size=32,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=False,
            clip_qkv=None,
            rope_scaling=None,
            tie_word_embeddings=False,
        ),
        gguf="olmoe",
    ),
    "granitemoe": row(
        published(
            "granitemoe",
            "GraniteMoeForCausalLM",
            GATED,
            **GRANITE,
            intermediate_size=32,
            num_local_experts=4,
            num_experts_per_tok=2,
            tie_word_embeddings=True,
        ),
        gguf="granitemoe",
    ),
    "gpt-oss": row(
        published("gpt_oss", "GptOssForCausalLM", GPT_OSS),
        gguf="gpt-oss",
        std=0.4,
        why="llama.cpp rounds the range of dimensions in which YaRN changes over, as if `truncate` were true",
    ),
    "gpt-oss-mxfp4": row(
        published("gpt_oss", "GptOssForCausalLM", GPT_OSS, intermediate_size=64, quantization_config=MXFP4),
        gguf="gpt-oss",
        kind="MXFP4",
        why="as gpt-oss; and llama.cpp rounds activations to int8 before it multiplies them with MXFP4 weights",
        std=0.4,
        stored=stored.mxfp4,
    ),
    "deepseek2-lite": row(
        published(
            "deepseek_v2",
            "DeepseekV2ForCausalLM",
            DEEPSEEK,
            q_lora_rank=None,
            n_group=1,
            topk_group=1,
            topk_method="greedy",
            scoring_func="softmax",
            norm_topk_prob=False,
            routed_scaling_factor=1.0,
            n_shared_experts=2,
        ),
        gguf="deepseek2",
        why="llama.cpp knows models without q_lora_rank by their 27 layers",
    ),
    "deepseek2": row(
        published(
            "deepseek_v2",
            "DeepseekV2ForCausalLM",
            DEEPSEEK,
            q_lora_rank=16,
            n_group=4,
            topk_group=2,
            topk_method="group_limited_greedy",
            scoring_func="softmax",
            norm_topk_prob=False,
            routed_scaling_factor=4.0,
            n_shared_experts=1,
        ),
        gguf="deepseek2",
        why="llama.cpp scores a group by the sum of its best two experts, as DeepSeek-V3 does, transformers by its best",
    ),
    "deepseek3": row(
        published(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            DEEPSEEK,
            q_lora_rank=16,
            n_group=4,
            topk_group=2,
            topk_method="noaux_tc",
            scoring_func="sigmoid",
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            n_shared_experts=1,
        ),
        gguf="deepseek2",
    ),
}
