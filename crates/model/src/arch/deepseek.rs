//! DeepSeek V2 and V3: multi-head latent attention, and routed experts beside shared ones.

use super::Arch;
use trine_backend::RopeLayout;

/// arXiv:2405.04434, arXiv:2412.19437.
pub static DEEPSEEK2: Arch = Arch {
    gguf: &["deepseek2"],
    hf: &["deepseek_v2", "deepseek_v3"],
    pairs: RopeLayout::Adjacent,
    hf_pairs: RopeLayout::Adjacent,
    mla: true,
    supported_keys: &["expert_count", "expert_weights_scale", "expert_gating_func"],
    hf_names: &[
        ("blk.{}.attn_q_a", "model.layers.{}.self_attn.q_a_proj"),
        ("blk.{}.attn_q_a_norm", "model.layers.{}.self_attn.q_a_layernorm"),
        ("blk.{}.attn_q_b", "model.layers.{}.self_attn.q_b_proj"),
        ("blk.{}.attn_kv_a_mqa", "model.layers.{}.self_attn.kv_a_proj_with_mqa"),
        ("blk.{}.attn_kv_a_norm", "model.layers.{}.self_attn.kv_a_layernorm"),
        ("blk.{}.attn_kv_b", "model.layers.{}.self_attn.kv_b_proj"),
        ("blk.{}.exp_probs_b.bias", "model.layers.{}.mlp.gate.e_score_correction_bias"),
        ("blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_experts.gate_proj"),
        ("blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_experts.up_proj"),
        ("blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_experts.down_proj"),
    ],
    ..Arch::NEUTRAL
};
