//! Optimizers: how weights change by their gradients.
//!
//! A [`Rule`] updates one weight; an [`Optimizer`] says which rule updates which weights. A new one is a file with its rule, and a row of
//! [`OPTIMIZERS`]: `optimizer.name`, its error messages, the memory that `--plan` prints and the contents of checkpoints follow.

pub mod adamw;
pub mod muon;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::LazyLock;
use trine_kernels::CpuExecutor;

/// All optimizers, by the names in configurations.
pub static OPTIMIZERS: &[Optimizer] = &[
    Optimizer { name: "adamw", matrices: &adamw::RULE, others: &adamw::RULE },
    Optimizer { name: "muon", matrices: &muon::RULE, others: &adamw::RULE },
];

static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| OPTIMIZERS.iter().map(|optimizer| optimizer.name).collect());

/// A value of `optimizer.name`.
pub struct Optimizer {
    pub name: &'static str,
    /// Updates the matrices inside layers.
    pub matrices: &'static Rule,
    /// Updates embeddings, output heads, norms and biases.
    pub others: &'static Rule,
}

/// How a weight changes by its gradient.
pub struct Rule {
    /// The float32 states that the rule keeps for each weight between steps, such as the mean of its gradients. They begin as zeros; checkpoints
    /// keep them as tensors with these names as suffixes, `blk.0.ffn_up.weight.m`.
    pub states: &'static [&'static str],
    /// Bytes that an update of a weight of so many rows and columns takes beside the states.
    pub scratch: fn([usize; 2]) -> usize,
    /// Updates a weight, `[rows, cols]`, by its gradient of the same shape. There is one slice for each of `states`.
    pub update: RuleUpdate,
}

/// The update of a weight: of `cols` columns, `w`, its gradient, and the states.
pub type RuleUpdate = fn(&mut CpuExecutor, &Hyperparameters, usize, &mut [f32], &[f32], &mut [&mut [f32]]);

/// The values with which a [`Rule`] computes one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperparameters {
    /// Updates of this weight, this one included: at least 1. Skipped steps do not count.
    pub step: u64,
    pub learning_rate: f64,
    /// Decay rate of the mean of gradients, or of their momentum.
    pub beta1: f64,
    /// Decay rate of the mean of squared gradients.
    pub beta2: f64,
    /// Added to denominators.
    pub eps: f64,
    /// Decoupled from the gradient: weights shrink by `learning_rate * weight_decay`.
    pub weight_decay: f64,
    /// Gradients are multiplied by it first: it clips them, and removes the loss scale.
    pub grad_factor: f32,
}

impl Optimizer {
    /// The row of [`OPTIMIZERS`] with this name, or `None`.
    pub fn by_name(name: &str) -> Option<&'static Optimizer> {
        OPTIMIZERS.iter().find(|optimizer| optimizer.name == name)
    }

    /// The rule for a weight; `inner` if it is a matrix inside a layer.
    pub fn rule(&self, inner: bool) -> &'static Rule {
        if inner { self.matrices } else { self.others }
    }
}

impl fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Optimizer {
    fn eq(&self, other: &Optimizer) -> bool {
        self.name == other.name
    }
}

impl Serialize for Optimizer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Optimizer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = &'static Optimizer;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name in quotes")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<&'static Optimizer, E> {
                Optimizer::by_name(name).ok_or_else(|| E::unknown_variant(name, &NAMES))
            }
        }

        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_kernels::tables;

    #[test]
    fn every_rule_goes_down_a_slope() {
        let mut machine = CpuExecutor::new(tables().next().unwrap(), 2).unwrap();
        let rules = OPTIMIZERS.iter().flat_map(|optimizer| [optimizer.matrices, optimizer.others]);
        for rule in rules {
            // The loss is half the sum of squares: its gradient is the weight itself.
            let mut w: Vec<f32> = (0..48).map(|i| (i % 7) as f32 - 2.5).collect();
            let loss = |w: &[f32]| w.iter().map(|w| w * w).sum::<f32>();
            let before = loss(&w);
            let mut states = vec![vec![0.0; w.len()]; rule.states.len()];
            for step in 1..=8 {
                let hyper = Hyperparameters {
                    step,
                    learning_rate: 0.05,
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: 0.0,
                    grad_factor: 1.0,
                };
                let mut states: Vec<&mut [f32]> = states.iter_mut().map(|state| &mut state[..]).collect();
                let grad = w.clone();
                (rule.update)(&mut machine, &hyper, 8, &mut w, &grad, &mut states);
            }
            assert!(loss(&w) < 0.95 * before, "{:?}: {} of {before}", rule.states, loss(&w));
            assert!(states.iter().flatten().any(|&x| x != 0.0));
        }
    }

    #[test]
    fn an_optimizer_is_its_name() {
        for optimizer in OPTIMIZERS {
            let text = serde_json::to_string(optimizer).unwrap();
            assert_eq!(text, format!("\"{}\"", optimizer.name));
            assert_eq!(serde_json::from_str::<&'static Optimizer>(&text).unwrap(), optimizer);
        }
        let error = serde_json::from_str::<&'static Optimizer>("\"sgd\"").unwrap_err().to_string();
        assert!(error.contains("sgd") && error.contains("adamw") && error.contains("muon"), "{error}");
    }
}
