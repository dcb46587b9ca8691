//! Routing of tokens to experts (arXiv:1701.06538).

use crate::math::exp;
use crate::simd::SimdF32;
use crate::simd::scalar::Scalar;

/// How the router's scores choose the experts of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Experts per token, at most as many as there are.
    pub top_k: usize,
    pub scoring: ScoringFunction,
    /// Divide the weights of a token's experts by their sum.
    pub normalize: bool,
    /// Factor of the weights.
    pub scale: f32,
    /// Choose among the best groups of experts only.
    pub groups: Option<ExpertGroups>,
}

/// What maps scores to 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoringFunction {
    /// `e^x / Σ e^x`.
    Softmax,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

/// Group-limited routing (arXiv:2405.04434, arXiv:2412.19437).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Groups of equal size, a divisor of the number of experts.
    pub n_groups: usize,
    /// Groups to choose from.
    pub top_k: usize,
    /// The score of a group is the sum of this many of its best experts: 1 or 2.
    pub summed: usize,
}

/// The experts of each token.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    pub top_k: usize,
    /// `[tokens, top_k]`, best first.
    pub experts: Vec<u32>,
    /// `[tokens, top_k]`, as `experts`.
    pub weights: Vec<f32>,
}

/// Memory for [`route_token`]: `[n_experts]` each, but `[n_groups]` of `groups`.
pub(crate) struct RouteScratch<'a> {
    pub weights: &'a mut [f32],
    pub scores: &'a mut [f32],
    pub groups: &'a mut [f32],
    pub order: &'a mut [u32],
}

/// Chooses the experts of a token with router scores `logits`, best first; of equal ones, the first. `bias`
/// is added for the choice alone.
pub(crate) fn route_token(
    logits: &[f32],
    bias: Option<&[f32]>,
    routing: &Routing,
    scratch: RouteScratch,
    experts: &mut [u32],
    weights: &mut [f32],
) {
    let RouteScratch { weights: all, scores, groups: group_scores, order } = scratch;
    // The scalar exponential, which has the bits of all instruction sets.
    let exp = |x: f32| exp(Scalar, Scalar.splat(x))[0];
    match routing.scoring {
        ScoringFunction::Softmax => {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            all.iter_mut().zip(logits).for_each(|(weight, &x)| *weight = exp(x - largest));
            let sum: f32 = all.iter().sum();
            all.iter_mut().for_each(|weight| *weight /= sum);
        }
        ScoringFunction::Sigmoid => {
            all.iter_mut().zip(logits).for_each(|(weight, &x)| *weight = 1.0 / (1.0 + exp(-x)));
        }
    }
    scores.copy_from_slice(all);
    if let Some(bias) = bias {
        scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
    }
    if let Some(groups) = routing.groups {
        exclude_groups(scores, groups, group_scores, order);
    }
    let chosen = top_k(scores, routing.top_k, order);
    let sum: f32 = chosen.iter().map(|&expert| all[expert as usize]).sum();
    // As in the models' own code: no division by zero where all weights vanish.
    let divisor = if routing.normalize { sum + 1e-20 } else { 1.0 };
    for ((weight, expert), &chosen) in weights.iter_mut().zip(experts).zip(chosen) {
        *weight = all[chosen as usize] / divisor * routing.scale;
        *expert = chosen;
    }
}

/// Sets the scores of experts outside the best groups to -∞.
fn exclude_groups(scores: &mut [f32], groups: ExpertGroups, group_scores: &mut [f32], order: &mut [u32]) {
    let size = scores.len() / groups.n_groups;
    for (score, group) in group_scores.iter_mut().zip(scores.chunks(size)) {
        *score = top_k(group, groups.summed.min(size), order).iter().map(|&i| group[i as usize]).sum();
    }
    let kept = top_k(group_scores, groups.top_k, order);
    for (i, group) in scores.chunks_mut(size).enumerate() {
        if !kept.contains(&(i as u32)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of the `k` largest, the largest first; of equal ones, the first. NaN counts as the smallest.
fn top_k<'a>(x: &[f32], k: usize, order: &'a mut [u32]) -> &'a [u32] {
    let key = |i: u32| if x[i as usize].is_nan() { f32::NEG_INFINITY } else { x[i as usize] };
    let order = &mut order[..x.len()];
    (0..).zip(&mut *order).for_each(|(i, slot)| *slot = i);
    order.sort_unstable_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    &order[..k.min(order.len())]
}
