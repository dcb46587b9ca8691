//! What the tensors of a file become when they are loaded.

use crate::Result;
use crate::file_tensors::{FileTensors, is_weight};
use crate::quant::{BitNetWeights, Packed, QuantMethod, is_fp8, ternary_format};
use trine_tensor::format::{I8, U8};
use trine_tensor::{File, TensorInfo, View};

/// Unpacks the tensors of a file one by one.
pub struct Unpacker<'a> {
    tensors: FileTensors<'a>,
    quant_method: QuantMethod,
}

const SCALES: [&str; 3] = [".weight_scale_inv", ".weight_scale", ".weight_zero_point"];

enum Unpacked {
    Plain(View),
    Packed(Packed),
}

impl<'a> Unpacker<'a> {
    pub fn new(file: &'a File, quant_method: QuantMethod) -> Unpacker<'a> {
        Unpacker { tensors: FileTensors::of(file), quant_method }
    }

    /// `None` for scales and the like, which belong to another tensor, and for tensors that are not weights.
    fn open(&self, stored: &View) -> Result<Option<Unpacked>> {
        if !is_weight(self.tensors.file, &stored.name) {
            return Ok(None);
        }
        let belongs = |ends: &[&str], to: &str| {
            let mut layers = ends.iter().filter_map(|end| stored.name.strip_suffix(end));
            layers.any(|layer| self.tensors.contains(&format!("{layer}{to}")))
        };
        let packed = |name: &str| self.quant_method.packed(&self.tensors, name);
        let packed = match &self.quant_method {
            QuantMethod::Gptq { .. } | QuantMethod::Awq { .. } => match stored.name.strip_suffix(".qweight") {
                Some(layer) => packed(&format!("{layer}.weight"))?,
                None if belongs(&[".qzeros", ".scales", ".g_idx"], ".qweight") => return Ok(None),
                None => None,
            },
            QuantMethod::Fp8 { .. } if is_fp8(stored) => packed(&stored.name)?,
            QuantMethod::Int8 { .. } if stored.format == &I8 && stored.name.ends_with(".weight") => {
                packed(&stored.name)?
            }
            QuantMethod::Fp8 { .. } | QuantMethod::Int8 { .. }
                if belongs(&SCALES, ".weight") || self.quant_method.ignores(&stored.name) =>
            {
                return Ok(None);
            }
            _ => None,
        };
        Ok(Some(packed.map_or_else(|| Unpacked::Plain(stored.clone()), Unpacked::Packed)))
    }

    /// The unpacked tensor; `None` for scales and the like, which belong to another tensor.
    ///
    /// # Errors
    /// When it is badly packed.
    pub fn view(&self, stored: &View) -> Result<Option<View>> {
        Ok(match self.open(stored)? {
            None => None,
            Some(Unpacked::Plain(view)) => Some(view),
            Some(Unpacked::Packed(packed)) => Some(packed.view()?),
        })
    }

    /// Format and shape of the unpacked tensor, without unpacking it.
    ///
    /// # Errors
    /// When it is badly packed.
    pub fn entry(&self, stored: &View) -> Result<Option<TensorInfo>> {
        let layer = stored.name.strip_suffix(".weight").filter(|_| stored.shape.len() == 2);
        let layer = layer.filter(|layer| layer.contains(".layers.") || *layer == "lm_head");
        let bitnet = self.quant_method.bitnet().filter(|bitnet| layer.is_some_and(|layer| bitnet.converts(layer)));
        Ok(self.open(stored)?.map(|unpacked| match (unpacked, bitnet.map(|bitnet| bitnet.weights)) {
            (Unpacked::Packed(packed), _) => packed.entry(),
            (Unpacked::Plain(view), Some(BitNetWeights::Rounded)) => {
                TensorInfo { format: ternary_format(view.cols()), ..view.info() }
            }
            (Unpacked::Plain(view), Some(_)) if view.format == &U8 => {
                let shape = vec![4 * view.rows(), view.cols()];
                TensorInfo { format: ternary_format(view.cols()), shape, ..view.info() }
            }
            (Unpacked::Plain(view), _) => view.info(),
        }))
    }
}
