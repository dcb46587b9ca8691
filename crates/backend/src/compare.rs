//! Two devices side by side: how a new one is brought up.

use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, KvBlock, KvShape, OpOf, Role,
    Routing, Stage,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use trine_tensor::View;

/// Runs every operation on two backends and records the first one whose results differ by more than its tolerance.
///
/// Both get the same operands: the right backend goes on with the results of the left one, so an error is found where it arises. The choice
/// of experts is not compared; one that differs shows in the experts' outputs.
pub struct Compare<A, B> {
    left: A,
    right: B,
    tolerance: Tolerance,
    found: Found,
    /// The layer and the pass that run now.
    layer: Option<usize>,
    pass: usize,
    caches: HashMap<CacheId, (CacheId, CacheId)>,
    created: u32,
}

/// Largest relative error that an operation of this name may have, `‖left - right‖ / ‖left‖` over all its outputs.
pub type Tolerance = fn(op: &str) -> f64;

/// Where a [`Compare`] leaves what it found.
pub type Found = Arc<Mutex<Option<Drift>>>;

/// An operation whose results differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The name of the operation, as of [`Op::name`](crate::Op::name).
    pub op: &'static str,
    /// The layer it is in; `None` outside of layers.
    pub layer: Option<usize>,
    /// The forward pass, counted from 1.
    pub pass: usize,
    /// `‖left - right‖ / ‖left‖`; infinite where one of them is not finite and the other is.
    pub error: f64,
    pub tolerance: f64,
    /// Row and column of the largest difference.
    pub at: [usize; 2],
    pub values: [f32; 2],
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Drift { op, layer, pass, error, tolerance, at: [row, column], values: [left, right] } = self;
        let layer = layer.map_or_else(String::new, |layer| format!(" of layer {layer}"));
        write!(
            f,
            "`{op}`{layer} in pass {pass}: relative error {error:.2e}, expected at most {tolerance:.0e}; the largest difference is in row \
             {row}, column {column}: {left} and {right}"
        )
    }
}

/// An operand on both devices.
pub struct Both<L, R> {
    left: L,
    right: R,
}

impl<A: Backend, B: Backend> Compare<A, B> {
    /// Compares `right` with `left`. What is found first is left in the second value.
    pub fn new(left: A, right: B, tolerance: Tolerance) -> (Compare<A, B>, Found) {
        let found = Found::default();
        let shared = found.clone();
        let caches = HashMap::new();
        (Compare { left, right, tolerance, found: shared, layer: None, pass: 0, caches, created: 0 }, found)
    }

    /// Compares the results of an operation, and goes on with the left one.
    fn both(&mut self, op: &'static str, left: A::Act, right: B::Act) -> Both<A::Act, B::Act> {
        let [mut l, mut r] = [Vec::new(), Vec::new()];
        let columns = self.left.columns(&left);
        // A device that cannot be read fails when the pass is finished, too.
        if self.left.to_host(&left, &mut l).is_err() || self.right.to_host(&right, &mut r).is_err() {
            return Both { left, right };
        }
        let mut found = self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if found.is_none() {
            let (error, worst) = difference(&l, &r);
            let tolerance = (self.tolerance)(op);
            if error > tolerance {
                let at = [worst / columns.max(1), worst % columns.max(1)];
                let values = [l.get(worst), r.get(worst)].map(|x| x.copied().unwrap_or(f32::NAN));
                *found = Some(Drift { op, layer: self.layer, pass: self.pass, error, tolerance, at, values });
            }
        }
        Both { right: self.right.to_device(&l, columns), left }
    }
}

/// The relative error of `right`, and where the largest difference is.
fn difference(left: &[f32], right: &[f32]) -> (f64, usize) {
    if left.len() != right.len() {
        return (f64::INFINITY, left.len().min(right.len()));
    }
    let (mut squares, mut norm, mut largest, mut worst) = (0.0, 0.0, 0.0, 0);
    for (i, (&l, &r)) in left.iter().zip(right).enumerate() {
        if l == r || l.is_nan() && r.is_nan() {
            norm += if l.is_finite() { f64::from(l).powi(2) } else { 0.0 };
            continue;
        }
        let difference = (f64::from(l) - f64::from(r)).abs();
        if !difference.is_finite() {
            return (f64::INFINITY, i);
        }
        if difference > largest {
            (largest, worst) = (difference, i);
        }
        squares += difference.powi(2);
        norm += f64::from(l).powi(2);
    }
    (if squares == 0.0 { 0.0 } else { (squares / norm).sqrt() }, worst)
}

impl<A: Backend, B: Backend> Backend for Compare<A, B> {
    type Weight = Both<A::Weight, B::Weight>;
    type Act = Both<A::Act, B::Act>;
    type Routes = Both<A::Routes, B::Routes>;
    type Pass = Both<A::Pass, B::Pass>;

    fn info(&self) -> DeviceInfo {
        self.left.info()
    }

    fn columns(&self, x: &Self::Act) -> usize {
        self.left.columns(&x.left)
    }

    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error> {
        Ok(Both { left: self.left.upload(view.clone(), role)?, right: self.right.upload(view, role)? })
    }

    fn to_device(&mut self, values: &[f32], columns: usize) -> Self::Act {
        Both { left: self.left.to_device(values, columns), right: self.right.to_device(values, columns) }
    }

    fn to_host(&mut self, x: &Self::Act, out: &mut Vec<f32>) -> Result<(), Error> {
        self.left.to_host(&x.left, out)
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        let left = self.left.create_cache(shape.clone())?;
        let right = self.right.create_cache(shape).inspect_err(|_| self.left.release_cache(left))?;
        let id = CacheId(self.created);
        self.created += 1;
        self.caches.insert(id, (left, right));
        Ok(id)
    }

    fn release_cache(&mut self, cache: CacheId) {
        let (left, right) = self.caches.remove(&cache).expect("a KV cache of this id");
        self.left.release_cache(left);
        self.right.release_cache(right);
    }

    fn trim(&mut self) {
        self.left.trim();
        self.right.trim();
    }

    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) {
        let (left, right) = self.caches[&cache];
        self.left.copy_block(left, from, to);
        self.right.copy_block(right, from, to);
    }

    /// The length of the left one's bytes, these, and the right one's.
    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> {
        let ((left, right), mut more) = (self.caches[&cache], Vec::new());
        self.left.read_block(left, block, &mut more)?;
        out.clear();
        out.extend_from_slice(&(more.len() as u64).to_le_bytes());
        out.extend_from_slice(&more);
        self.right.read_block(right, block, &mut more)?;
        out.extend_from_slice(&more);
        Ok(())
    }

    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) {
        let (left, right) = self.caches[&cache];
        let (len, bytes) = bytes.split_first_chunk().expect("the bytes of a block");
        let (first, second) = bytes.split_at(u64::from_le_bytes(*len) as usize);
        self.left.write_block(left, block, first);
        self.right.write_block(right, block, second);
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let (left, right) = (self.left.memory()?, self.right.memory()?);
        Some(DeviceMemory { weights: left.weights + right.weights, activations: left.activations + right.activations })
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.left.set_activation_precision(precision);
        self.right.set_activation_precision(precision);
    }

    fn enter(&mut self, stage: Stage) {
        self.layer = if let Stage::Layer(i) = stage { Some(i) } else { None };
        self.left.enter(stage);
        self.right.enter(stage);
    }

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> Self::Pass {
        (self.pass, self.layer) = (self.pass + 1, None);
        let (left, right) = self.caches[&cache];
        Both { left: self.left.begin(left, batch), right: self.right.begin(right, batch) }
    }

    fn finish(&mut self, pass: Self::Pass) -> Result<(), Error> {
        self.left.finish(pass.left)?;
        self.right.finish(pass.right)
    }

    fn run(&mut self, op: OpOf<Self>) -> Self::Act {
        let left = self.left.run(op.map(|w| &w.left, |a| &a.left, |r| &r.left, |p| &p.left));
        let right = self.right.run(op.map(|w| &w.right, |a| &a.right, |r| &r.right, |p| &p.right));
        self.both(op.name(), left, right)
    }

    fn route(&mut self, scores: &Self::Act, bias: Option<&Self::Weight>, routing: &Routing) -> Self::Routes {
        let left = self.left.route(&scores.left, bias.map(|bias| &bias.left), routing);
        Both { left, right: self.right.route(&scores.right, bias.map(|bias| &bias.right), routing) }
    }

    fn chosen_experts(&mut self, routes: &Self::Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        self.left.chosen_experts(&routes.left, out)
    }

    fn add_norm(&mut self, gain: &Self::Weight, a: &Self::Act, b: &Self::Act, eps: f32) -> (Self::Act, Self::Act) {
        let left = self.left.add_norm(&gain.left, &a.left, &b.left, eps);
        let right = self.right.add_norm(&gain.right, &a.right, &b.right, eps);
        (self.both("add_norm", left.0, right.0), self.both("add_norm", left.1, right.1))
    }
}
