//! Keys of `config.json` and the GGUF keys of the same meaning, as llama.cpp's converter maps them.

use crate::config::Config;
use serde_json::Value;

/// Integers.
pub(crate) static COUNTS: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("n_layer", "block_count"),
    ("max_position_embeddings", "context_length"),
    ("n_positions", "context_length"),
    ("hidden_size", "embedding_length"),
    ("n_embd", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("n_inner", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("n_head", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("vocab_size", "vocab_size"),
    ("num_local_experts", "expert_count"),
    ("num_experts", "expert_count"),
    ("n_routed_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("n_shared_experts", "expert_shared_count"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("q_lora_rank", "attention.q_lora_rank"),
    ("kv_lora_rank", "attention.kv_lora_rank"),
    ("qk_rope_head_dim", "rope.dimension_count"),
    ("v_head_dim", "attention.value_length_mla"),
    ("local_attention", "attention.sliding_window"),
    ("global_attn_every_n_layers", "attention.sliding_window_pattern"),
    ("sliding_window_pattern", "attention.sliding_window_pattern"),
];

/// Floats.
pub(crate) static NUMBERS: &[(&str, &str)] = &[
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_eps", "attention.layer_norm_epsilon"),
    ("layer_norm_epsilon", "attention.layer_norm_epsilon"),
    ("norm_epsilon", "attention.layer_norm_epsilon"),
    ("norm_eps", "attention.layer_norm_epsilon"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("logit_scale", "logit_scale"),
    ("logits_scaling", "logit_scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("attention_multiplier", "attention.scale"),
    ("routed_scaling_factor", "expert_weights_scale"),
];

/// Booleans.
pub(crate) static FLAGS: &[(&str, &str)] =
    &[("use_parallel_residual", "use_parallel_residual"), ("norm_topk_prob", "expert_weights_norm")];

/// Keys that only these values of `model_type` have; others are unknown in transformers, too.
static ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["local_attention", "global_attn_every_n_layers"], &["modernbert"]),
    (&["sliding_window_pattern"], &["gemma3_text", "cohere2"]),
    (&["partial_rotary_factor"], &["phi", "phi3", "stablelm", "gpt_neox"]),
    (
        &[
            "qk_rope_head_dim",
            "v_head_dim",
            "kv_lora_rank",
            "q_lora_rank",
            "n_group",
            "topk_group",
            "routed_scaling_factor",
        ],
        &["deepseek_v2", "deepseek_v3"],
    ),
    (&["norm_bias"], &["modernbert"]),
    (
        &[
            "causal",
            "prenorm",
            "parallel_block",
            "rotary_emb_interleaved",
            "rotary_scaling_factor",
            "rotary_emb_scale_base",
            "moe_every_n_layers",
            "use_rms_norm",
            "qkv_proj_bias",
            "mlp_fc1_bias",
            "mlp_fc2_bias",
        ],
        &["nomic_bert"],
    ),
];

/// Whether a model of `model_type` has this key.
pub(crate) fn is_known(model_type: &str, key: &str) -> bool {
    ONLY_IN.iter().all(|(keys, types)| !keys.contains(&key) || types.contains(&model_type))
}

/// Whether models of one `model_type` alone have this key.
pub(crate) fn is_of_one(key: &str) -> bool {
    ONLY_IN.iter().any(|(keys, types)| keys.contains(&key) && types.len() == 1)
}

/// What `config.json` calls a GGUF key, for messages.
pub(crate) fn hf_name(config: &Config, key: &str) -> String {
    let scaling = config.rope_section();
    let of_rope = match key.strip_prefix("rope.scaling.") {
        Some("type") => Some(format!("{scaling}.rope_type")),
        Some("original_context_length") => Some("original_max_position_embeddings".to_owned()),
        Some("yarn_log_multiplier") => Some(format!("{scaling}.mscale_all_dim")),
        Some(other) => Some(format!("{scaling}.{}", other.strip_prefix("yarn_").unwrap_or(other))),
        None => None,
    };
    let other = || match key {
        "rope.freq_base" => "rope_theta",
        "rope.dimension_count" => "partial_rotary_factor",
        "attention.sliding_window" => "sliding_window",
        "attention.key_length_mla" => "qk_nope_head_dim",
        "attention.scale" => "query_pre_attn_scalar",
        other => other,
    };
    let model_type = config.peek("model_type").and_then(Value::as_str).unwrap_or_default();
    let names = || {
        let all = COUNTS.iter().chain(NUMBERS).chain(FLAGS);
        all.filter(|(hf, gguf)| *gguf == key && is_known(model_type, hf)).map(|&(hf, _)| hf)
    };
    let there = names().find(|name| config.peek(name).is_some());
    of_rope.unwrap_or_else(|| there.or_else(|| names().next()).unwrap_or_else(other).to_owned())
}
