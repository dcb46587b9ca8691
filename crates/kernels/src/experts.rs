//! Which experts a token goes to, and how much each of them says (arXiv:1701.06538).

use crate::elementwise::exp16;
use crate::simd::{Simd, scalar::Scalar};

/// How scores of experts become a choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Experts of a token, at most as many as there are.
    pub used: usize,
    /// What makes numbers between 0 and 1 of scores.
    pub score: Score,
    /// The weights of a token's experts are divided by their sum.
    pub normalize: bool,
    /// And multiplied by this.
    pub scale: f32,
    /// Experts are in groups, of which only the best are considered.
    pub groups: Option<Groups>,
}

/// What makes numbers between 0 and 1 of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// `e^x / Σ e^x`.
    Softmax,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

/// Groups of experts, of which some are considered (arXiv:2405.04434, arXiv:2412.19437).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many, a divisor of the number of experts.
    pub count: usize,
    /// How many are considered.
    pub used: usize,
    /// A group is as good as its best experts together: one of them, or two.
    pub best: usize,
}

/// The experts of each token.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Experts of a token.
    pub used: usize,
    /// `[tokens, used]`.
    pub experts: Vec<u32>,
    /// `[tokens, used]`.
    pub weights: Vec<f32>,
}

/// Chooses for each token, whose scores are a row of `experts` in `scores`. `bias` is added for the choice alone. Of equals, the first.
///
/// # Panics
/// When the shapes disagree.
pub fn route(scores: &[f32], experts: usize, bias: Option<&[f32]>, routing: &Routing) -> Routes {
    assert!(routing.used <= experts && bias.is_none_or(|bias| bias.len() == experts));
    let simd = Scalar(());
    // The scalar table's exponential: the bits of all.
    let exp = |x: f32| exp16(simd, simd.splat(x))[0];
    let mut routes = Routes { used: routing.used, ..Routes::default() };
    let mut shares = Vec::new();
    for row in scores.chunks_exact(experts) {
        shares.clear();
        match routing.score {
            Score::Softmax => {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                shares.extend(row.iter().map(|&x| exp(x - largest)));
                let sum: f32 = shares.iter().sum();
                shares.iter_mut().for_each(|share| *share /= sum);
            }
            Score::Sigmoid => shares.extend(row.iter().map(|&x| 1.0 / (1.0 + exp(-x)))),
        }
        let mut wanted = shares.clone();
        if let Some(bias) = bias {
            wanted.iter_mut().zip(bias).for_each(|(wanted, bias)| *wanted += bias);
        }
        if let Some(groups) = routing.groups {
            leave_out(&mut wanted, groups);
        }
        let chosen = best(&wanted, routing.used);
        let sum: f32 = chosen.iter().map(|&expert| shares[expert]).sum();
        // As in the models' own code: no division by zero where all shares vanish.
        let divisor = if routing.normalize { sum + 1e-20 } else { 1.0 };
        routes.weights.extend(chosen.iter().map(|&expert| shares[expert] / divisor * routing.scale));
        routes.experts.extend(chosen.into_iter().map(|expert| expert as u32));
    }
    routes
}

/// Makes experts of groups that are not among the best ones worse than all others.
fn leave_out(wanted: &mut [f32], groups: Groups) {
    let size = wanted.len() / groups.count;
    let worth = |group: &[f32]| best(group, groups.best.min(size)).into_iter().map(|i| group[i]).sum();
    let worths: Vec<f32> = wanted.chunks(size).map(worth).collect();
    let kept = best(&worths, groups.used);
    for (i, group) in wanted.chunks_mut(size).enumerate() {
        if !kept.contains(&i) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// Where the `n` largest are, the largest first; of equals, the first. NaN counts as the smallest.
fn best(x: &[f32], n: usize) -> Vec<usize> {
    let key = |i: usize| if x[i].is_nan() { f32::NEG_INFINITY } else { x[i] };
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order.truncate(n);
    order
}
