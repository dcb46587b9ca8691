//! What differs between two models, whatever files they are in: keys, tokenizer, templates, and the numbers of each tensor.

use crate::quantize::Error;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use trine_model::GgufModel;
use trine_tensor::receipt::without_receipt;
use trine_tensor::{Array, Value, View};

/// The differences of two models.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Keys of what the model is: its architecture, its tokenizer, its chat templates, how it samples.
    pub keys: Vec<KeyDiff>,
    /// Keys that describe the file: names, authors and licenses, formats of weights, how it was trained. They make no other model of it.
    pub descriptions: Vec<KeyDiff>,
    /// The tensors that both have.
    pub tensors: Vec<TensorDiff>,
    pub only_first: Vec<String>,
    pub only_second: Vec<String>,
}

/// A key with different values, in words; `None` where a model lacks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDiff {
    pub key: String,
    pub first: Option<String>,
    pub second: Option<String>,
}

/// How far the second model's tensor is from the first's.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDiff {
    pub name: String,
    pub formats: [&'static str; 2],
    pub shapes: [Vec<usize>; 2],
    /// `None` if their shapes differ.
    pub distance: Option<Distance>,
}

/// The distance of two tensors of one shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// The largest difference of two weights.
    pub max_abs: f64,
    /// The root mean square of the differences.
    pub rms: f64,
    /// The root mean square of the differences, as a share of that of the first tensor's weights; 0 if nothing differs.
    pub relative: f64,
    /// The cosine of the angle between both; 1 if nothing differs.
    pub cosine: f64,
}

impl Diff {
    /// Whether the models are the same, but for the formats of their weights and what describes their files.
    pub fn is_same(&self) -> bool {
        let same = |tensor: &TensorDiff| tensor.distance.is_some_and(|distance| distance.max_abs == 0.0);
        let none = self.only_first.is_empty() && self.only_second.is_empty();
        self.keys.is_empty() && none && self.tensors.iter().all(same)
    }
}

/// Compares two models. `progress` gets how many tensors of the first are done, and may break off.
///
/// # Errors
/// When a tensor cannot be read; [`Error::Cancelled`] when `progress` breaks off.
pub fn diff(
    first: &GgufModel,
    second: &GgufModel,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Diff, Error> {
    let (descriptions, keys) = keys(first, second).into_iter().partition(|diff| is_description(&diff.key));
    let mut diff = Diff { keys, descriptions, ..Diff::default() };
    let place = |name: &str| second.tensors().iter().position(|tensor| tensor.name == name);
    for (i, tensor) in first.tensors().iter().enumerate() {
        if progress(i).is_break() {
            return Err(Error::Cancelled);
        }
        let Some(j) = place(&tensor.name) else {
            diff.only_first.push(tensor.name.clone());
            continue;
        };
        let (a, b) = (first.read(i)?, second.read(j)?);
        let shapes = [a.shape.clone(), b.shape.clone()];
        let distance = if a.shape == b.shape { Some(distance(&a, &b)) } else { None };
        diff.tensors.push(TensorDiff {
            name: tensor.name.clone(),
            formats: [a.format.name, b.format.name],
            shapes,
            distance,
        });
        first.release();
        second.release();
    }
    let names: BTreeSet<&str> = first.tensors().iter().map(|tensor| &*tensor.name).collect();
    let others = second.tensors().iter().map(|tensor| &*tensor.name);
    diff.only_second = others.filter(|name| !names.contains(name)).map(str::to_owned).collect();
    Ok(diff)
}

/// Whether a key describes the file, whatever the model in it.
fn is_description(key: &str) -> bool {
    let is_model = key == "general.architecture" || key == "general.type" || key.starts_with("general.sampling.");
    key.starts_with("general.") && !is_model || key.starts_with("trine.train.")
}

fn keys(first: &GgufModel, second: &GgufModel) -> Vec<KeyDiff> {
    // Where files are from does not make models differ.
    let [a, b] = [first, second].map(|model| without_receipt(model.metadata()));
    let all = a.iter().map(|(key, _)| key).chain(b.iter().map(|(key, _)| key).filter(|key| a.get(key).is_none()));
    let [a, b] = [&a, &b].map(|metadata| |key: &str| metadata.get(key).filter(|value| !says_nothing(key, value)));
    let differs = all.filter(|key| a(key) != b(key));
    differs
        .map(|key| {
            let (key, a, b) = (key.to_owned(), a(key), b(key));
            let describe = |value: Option<&Value>, other| value.map(|value| describe(value, other));
            KeyDiff { key, first: describe(a, b), second: describe(b, a) }
        })
        .collect()
}

/// Whether a value says what its absence says.
fn says_nothing(key: &str, value: &Value) -> bool {
    key.ends_with(".rope.scaling.type") && *value == Value::String("none".into())
}

/// A value in a line, from about where it differs from another.
fn describe(value: &Value, other: Option<&Value>) -> String {
    const LONGEST: usize = 60;
    let shortened = |text: &str, other: &str| {
        let same = text.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let from = if text.len() > LONGEST { text.floor_char_boundary(same.saturating_sub(10)) } else { 0 };
        let rest: String = text[from..].chars().take(LONGEST).collect();
        let place = if from > 0 { format!("at byte {from} of {}: ", text.len()) } else { String::new() };
        format!("{place}{rest:?}")
    };
    match (value, other) {
        (Value::String(text), Some(Value::String(other))) => shortened(text, other),
        (Value::String(text), _) => shortened(text, ""),
        (Value::Array(Array::String(all)), Some(Value::Array(Array::String(other)))) => {
            let same = all.iter().zip(other.iter()).take_while(|(a, b)| a == b).count();
            match all.iter().nth(same) {
                Some(string) => format!("{} strings, {string:?} at {same}", all.len()),
                None => format!("{} strings", all.len()),
            }
        }
        (Value::Array(array), _) => format!("an array of {}", array.len()),
        (other, _) => {
            let text = format!("{other:?}");
            // The name of the type is around the number.
            text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text).to_owned()
        }
    }
}

/// The distance of two tensors of the same shape.
fn distance(a: &View, b: &View) -> Distance {
    let (a, b) = (a.by_rows(), b.by_rows());
    let (mut x, mut y) = (vec![0.0; a.cols()], vec![0.0; b.cols()]);
    let (mut squares, mut products) = ([0f64; 3], 0f64);
    let mut max_abs = 0f64;
    for row in 0..a.rows() {
        a.decode_row(row, &mut x);
        b.decode_row(row, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let (x, y) = (f64::from(x), f64::from(y));
            // Equal infinities differ by nothing, and so do two NaN; one differs from every number.
            let error = if x == y || x.is_nan() && y.is_nan() { 0.0 } else { x - y };
            max_abs = max_abs.max(if error.is_nan() { f64::INFINITY } else { error.abs() });
            squares[0] += x * x;
            squares[1] += y * y;
            squares[2] += error * error;
            products += x * y;
        }
    }
    let share = |part: f64, whole: f64| if part == 0.0 { 0.0 } else { part / whole };
    Distance {
        max_abs,
        rms: (squares[2] / (a.rows() * a.cols()) as f64).sqrt(),
        relative: share(squares[2], squares[0]).sqrt(),
        cosine: if squares[2] == 0.0 { 1.0 } else { share(products, (squares[0] * squares[1]).sqrt()) },
    }
}
