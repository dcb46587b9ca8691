//! Experts of a feed-forward layer.

use crate::keys::Keys;
use crate::{Error, Result};
use trine_backend::{ExpertGroups, Routing, ScoringFunction};

/// Experts of a feed-forward layer (arXiv:1701.06538).
#[derive(Clone, Debug)]
pub struct Experts {
    pub n_experts: usize,
    pub intermediate_size: usize,
    pub routing: Routing,
}

/// The experts of a model, if it has some.
///
/// # Errors
/// When a key is missing, of the wrong type or out of range.
pub(super) fn experts(keys: &Keys) -> Result<Option<Experts>> {
    let Some(n_experts) = keys.count("expert_count", 0..=1 << 16)?.filter(|&count| count > 0) else { return Ok(None) };
    let used = keys.required("expert_used_count", 1..=n_experts as u32)?;
    let intermediate_size = match keys.count("expert_feed_forward_length", 0..=1 << 24)?.filter(|&width| width > 0) {
        Some(width) => width,
        None => keys.required("feed_forward_length", 1..=1 << 24)?,
    };
    let score = match keys.count("expert_gating_func", 0..=2)?.unwrap_or(1) {
        2 => ScoringFunction::Sigmoid,
        _ => ScoringFunction::Softmax,
    };
    let groups = match keys.count("expert_group_count", 0..=1 << 16)?.filter(|&groups| groups > 1) {
        None => None,
        Some(groups) if n_experts % groups != 0 => {
            let expected = format!("a divisor of {n_experts} experts");
            return Err(Error::bad(keys.file_key("expert_group_count"), expected, groups));
        }
        Some(groups) => {
            let kept = keys.required("expert_group_used_count", 1..=groups as u32)?;
            if kept * (n_experts / groups) < used {
                let expected = format!("groups with {used} experts or more together");
                return Err(Error::bad(keys.file_key("expert_group_used_count"), expected, kept));
            }
            // DeepSeek V3, with sigmoids, ranks groups by their two best experts; V2 by the best one.
            Some(ExpertGroups {
                n_groups: groups,
                top_k: kept,
                summed: if score == ScoringFunction::Sigmoid { 2 } else { 1 },
            })
        }
    };
    let scale = keys.float("expert_weights_scale", 0.0)?.filter(|&scale| scale != 0.0).unwrap_or(1.0);
    let normalize = keys.flag("expert_weights_norm")?.unwrap_or(false);
    Ok(Some(Experts {
        n_experts,
        intermediate_size,
        routing: Routing { top_k: used, scoring: score, normalize, scale, groups },
    }))
}
