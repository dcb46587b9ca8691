//! How the layers of a model differ from each other.

use crate::keys::Keys;
use crate::{Error, Result};
use trine_tensor::{Array, Value};

/// What a layer does differently from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// Positions that a token attends to, its own included; `None` for all.
    pub window: Option<usize>,
    /// Index of its rotation in [`Spec::ropes`](crate::Spec::ropes), if it has one.
    pub rope: Option<usize>,
    /// Whether its feed-forward layer has experts.
    pub experts: bool,
}

/// The kind of each layer of a model with `ropes` rotations.
///
/// # Errors
/// When a key is of the wrong type or out of range.
pub(super) fn layer_kinds(
    keys: &Keys,
    layers: usize,
    ropes: usize,
    experts: bool,
    causal: bool,
) -> Result<Vec<LayerKind>> {
    let arch = keys.arch;
    let window = keys.count("attention.sliding_window", 0..=u32::MAX)?.filter(|&window| window > 0);
    let dense = keys.count("leading_dense_block_count", 0..=1 << 16)?.unwrap_or(0);
    // Bidirectional attention splits the window between both sides.
    let window = window.map(|window| if causal { window } else { window / 2 + 1 });
    let every = |n: usize, layer: usize| n > 0 && (layer + 1).is_multiple_of(n);
    let ahead = if arch.global_first { arch.global_every.saturating_sub(1) } else { 0 };
    let mut global: Vec<bool> = (0..layers).map(|layer| every(arch.global_every, layer + ahead)).collect();
    let mut rotary: Vec<bool> = (0..layers).map(|layer| !every(arch.nope_every, layer)).collect();
    match keys.get("attention.sliding_window_pattern") {
        Some(Value::Array(Array::Bool(windowed))) if windowed.len() == layers => {
            global = windowed.iter().map(|windowed| !windowed).collect();
        }
        Some(_) => {
            let n = keys.count("attention.sliding_window_pattern", 0..=1 << 16)?.unwrap_or(0);
            let ahead = if arch.global_first { n.saturating_sub(1) } else { 0 };
            global = (0..layers).map(|layer| every(n, layer + ahead)).collect();
        }
        None => {}
    }
    // config.json may list the layers.
    let list = |key: &str| keys.config.as_ref()?.get(key)?.as_array().filter(|list| list.len() == layers);
    // Or name the first layer with a window.
    let first = keys.config.as_ref().filter(|config| config.is_of_class("max_window_layers"));
    if let Some(first) = first.and_then(|config| config.get("max_window_layers")?.as_u64()) {
        let before = |layer: usize| (layer as u64) < first;
        // Or else the first without one, of those that would have it.
        let pattern = arch.global_every > 0;
        global =
            (0..layers).map(|layer| if pattern { global[layer] || !before(layer) } else { before(layer) }).collect();
    }
    if let Some(config) = keys.config.as_ref().filter(|config| config.is_of_class("no_rope_layer_interval")) {
        match config.count("no_rope_layer_interval")? {
            Some(0) => return Err(Error::bad("no_rope_layer_interval", "1 or more", 0)),
            Some(interval) => rotary = (0..layers).map(|layer| !every(interval as usize, layer)).collect(),
            None => {}
        }
        // Contrary to the name of the key, 1 is a layer with rope.
        if let Some(list) = config.get("no_rope_layers").and_then(|list| list.as_array()) {
            if list.len() < layers {
                return Err(Error::bad("no_rope_layers", format!("a list of {layers} layers"), list.len()));
            }
            rotary = list[..layers].iter().map(|rotary| *rotary != 0).collect();
        }
        // Those with rope attend globally.
        if arch.nope_every > 0 {
            global = rotary.clone();
        }
    }
    if let Some(types) = list("layer_types") {
        global = types.iter().map(|kind| kind != "sliding_attention").collect();
    }
    let kind = |layer: usize| {
        let window = window.filter(|_| !global[layer]);
        let rotary = rotary[layer] && ropes > 0 && !(arch.global_nope && window.is_none());
        let rope = rotary.then(|| if window.is_some() { ropes - 1 } else { 0 });
        LayerKind { window, rope, experts: experts && layer >= dense }
    };
    Ok((0..layers).map(kind).collect())
}
