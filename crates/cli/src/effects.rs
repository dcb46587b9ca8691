//! Options of `convert` and `quantize` that would change nothing.

use crate::exit::UsageError;
use trine_lab::quantize::{Plan, PlannedTensor, Recipe};

/// Why `--really` has no part in a plan.
pub const NOT_REALLY: &str =
    "--really: no matrix that is not ternary gets a ternary format, and none gets one of one bit";
pub const OMIT_REALLY: &str = "omit it, or choose a ternary format, such as --format tq2_0";

/// Refuses options that have no part in a plan.
///
/// # Errors
/// When there is one.
pub fn check(recipe: &Recipe, plan: &Plan) -> Result<(), UsageError> {
    let refuse = |message: String, hint| Err(UsageError { message, hint });
    let matrices = || plan.tensors.iter().filter(|tensor| tensor.is_matrix()).map(|tensor| tensor.info.name.as_str());
    let is_tied = !matrices().any(|name| name == "output.weight");
    let has_own = |name: &str| match name {
        "token_embd.weight" => recipe.embedding.is_some() || is_tied && recipe.output.is_some(),
        "output.weight" => recipe.output.is_some(),
        _ => false,
    };
    for (i, rule) in recipe.rules.iter().enumerate() {
        let matching: Vec<&str> = matrices().filter(|name| rule.matches(name)).collect();
        if matching.is_empty() {
            return refuse(
                format!("{rule}: no matrix matches, and vectors keep their format"),
                "trine convert --dry-run lists tensors",
            );
        }
        let is_taken = |name: &&str| has_own(name) || recipe.rules[..i].iter().any(|earlier| earlier.matches(name));
        if matching.iter().all(is_taken) {
            return refuse(
                format!("{rule}: all matrices that match have a format by other options"),
                "omit it, or put it first",
            );
        }
    }
    let layers = matrices().filter_map(|name| name.strip_prefix("blk.")?.split_once('.')?.0.parse::<usize>().ok());
    let layers = layers.max().map_or(0, |last| last + 1);
    if let Some(rule) = recipe.rules.iter().find(|rule| rule.last_layer().is_some_and(|last| last >= layers)) {
        return refuse(format!("--layers {rule}: the model has {layers} layers, counted from 0"), "name no others");
    }
    let is_ruled = |name: &str| has_own(name) || recipe.rules.iter().any(|rule| rule.matches(name));
    if recipe.target.is_some() && matrices().all(is_ruled) {
        return refuse("--format: all matrices have a format by other options".to_owned(), "omit it");
    }
    if is_tied && recipe.embedding.is_some() && recipe.output.is_some() {
        let message =
            "--output-type: the model has no head but the embedding, for which --embedding-type is".to_owned();
        return refuse(message, "omit one of both");
    }
    if recipe.ternarize && !plan.tensors.iter().any(PlannedTensor::may_be_destroyed) {
        return refuse(NOT_REALLY.to_owned(), OMIT_REALLY);
    }
    if recipe.imatrix.is_some() && !plan.tensors.iter().any(PlannedTensor::uses_importance) {
        let message = "--imatrix: no matrix gets a format for which the importance of columns counts".to_owned();
        return refuse(
            message,
            "omit it, or choose such a format, as q4_k or iq3_s; f16, q8_0 and ternary formats are none",
        );
    }
    Ok(())
}
