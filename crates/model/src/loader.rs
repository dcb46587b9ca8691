//! Uploads weights to a device, one at a time, as the parts of layers.

use crate::weights::ModelWeights;
use crate::{Error, NormKind, Result, Spec};
use std::ops::ControlFlow;
use trine_backend::{Backend, Ops, Role};
use trine_tensor::View;
use trine_tensor::format::{I8, I16, I32, I64};

pub(crate) struct Loader<'a, B: Backend> {
    pub backend: &'a mut B,
    pub weights: &'a ModelWeights<'a>,
    pub spec: &'a Spec,
    pub progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    pub done: u64,
}

impl<B: Backend> Loader<'_, B> {
    pub fn upload(&mut self, view: View, role: Role) -> Result<B::Weight> {
        // GGUF has integers only where they are the weights themselves.
        let integers = !self.weights.is_gguf() && [&I8, &I16, &I32, &I64].contains(&view.format);
        if integers || view.format.id.is_none() {
            return Err(Error::NotWeights { tensor: view.name, found: view.format.name });
        }
        self.done += view.bytes.len() as u64;
        let view = match &self.weights.rewrite {
            Some(rewrite) => rewrite.apply(view)?,
            None => view,
        };
        let weight = self.backend.upload(view, role)?;
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(weight),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// The role of the weights of linear layers.
    pub fn role(&self) -> Role {
        if self.spec.bit_linear { Role::BitLinear } else { Role::Linear }
    }

    /// The role of a matrix by its name in the file.
    fn role_of(&self, name: &str) -> Role {
        match self.spec.quant_method.bitnet() {
            Some(_) if self.weights.bitnet(name).is_none() => Role::Linear,
            _ => self.role(),
        }
    }

    pub fn bias(&mut self, name: &str, shape: &[usize]) -> Result<Option<B::Weight>> {
        let name = format!("{name}.bias");
        match self.weights.contains(&name) || self.neighbour_has(&name) {
            true => self.upload(self.weights.get(&name, shape)?, Role::Bias).map(Some),
            false => Ok(None),
        }
    }

    /// Whether another layer has this tensor: the first, or for the first the second.
    fn neighbour_has(&self, name: &str) -> bool {
        let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        part.is_some_and(|(layer, part)| {
            let neighbour = if layer == "0" { 1 } else { 0 };
            self.weights.contains(&format!("blk.{neighbour}.{part}"))
        })
    }

    /// A norm with weights of `shape`, over the last dimension.
    pub fn norm(&mut self, name: &str, shape: &[usize]) -> Result<Norm<B::Weight>> {
        let gain = self.upload(self.weights.norm(&format!("{name}.weight"), shape)?, Role::Norm)?;
        let kind = self.spec.arch.norm;
        let bias = if kind == NormKind::Layer { self.bias(name, shape)? } else { None };
        Ok(Norm { gain, bias, kind, width: shape[shape.len() - 1] })
    }

    pub fn norm_if(&mut self, wanted: bool, name: &str, shape: &[usize]) -> Result<Option<Norm<B::Weight>>> {
        if wanted { self.norm(name, shape).map(Some) } else { Ok(None) }
    }

    pub fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear<B::Weight>> {
        let weight = self.weights.linear(&format!("{name}.weight"), rows, cols)?;
        let bias = self.bias(name, &[rows])?;
        self.linear_of(weight, bias)
    }

    /// A linear layer with this matrix.
    pub fn linear_of(&mut self, weight: View, bias: Option<B::Weight>) -> Result<Linear<B::Weight>> {
        let role = self.role_of(&weight.name);
        let eps = self.weights.bitnet(&weight.name).and_then(|bitnet| bitnet.norm_eps);
        let gain = eps.map(|_| self.weights.input_norm(&weight.name, weight.cols())).transpose()?;
        let weight = self.upload(weight, role)?;
        let gain = gain.map(|gain| self.upload(gain, Role::Norm)).transpose()?;
        Ok(Linear { weight, bias, input_norm: gain.zip(eps) })
    }
}

pub(crate) struct Norm<W> {
    pub gain: W,
    bias: Option<W>,
    pub kind: NormKind,
    width: usize,
}

impl<W> Norm<W> {
    pub fn forward<B: Backend<Weight = W>>(&self, be: &mut B, x: &B::Act, eps: f32) -> B::Act {
        match self.kind {
            NormKind::Rms => be.rms_norm(&self.gain, x, eps),
            NormKind::Layer => be.layer_norm(&self.gain, self.bias.as_ref(), x, self.width, eps),
        }
    }
}

pub(crate) struct Linear<W> {
    weight: W,
    bias: Option<W>,
    /// Weights and epsilon of an RMSNorm on the inputs.
    input_norm: Option<(W, f32)>,
}

impl<W> Linear<W> {
    pub fn of(weight: W, bias: Option<W>) -> Linear<W> {
        Linear { weight, bias, input_norm: None }
    }

    pub fn forward<B: Backend<Weight = W>>(&self, be: &mut B, x: &B::Act) -> B::Act {
        let y = match &self.input_norm {
            Some((gain, eps)) => {
                let x = be.rms_norm(gain, x, *eps);
                be.linear(&self.weight, &x)
            }
            None => be.linear(&self.weight, x),
        };
        match &self.bias {
            Some(bias) => be.bias(bias, &y),
            None => y,
        }
    }
}
