//! FP8: 8-bit floats with a scale per matrix, row or block.

use super::check::{floats, matrix, scales, shape};
use crate::Result;
use crate::file_tensors::FileTensors;
use trine_tensor::format::{BF16, F8_E4M3, F8_E5M2, F32};
use trine_tensor::{TensorInfo, View};

/// Ends of the names of scales that nothing here uses: activations, keys and values are not rounded to 8-bit floats, and not by calibrated scales.
static UNUSED_SCALES: &[&str] = &[
    ".input_scale",
    ".input_zero_point",
    ".activation_scale",
    ".output_scale",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".prob_scale",
];

/// Whether a tensor is a scale of activations, or of a KV cache of 8-bit floats.
pub fn is_unused_scale(name: &str) -> bool {
    UNUSED_SCALES.iter().any(|end| name.ends_with(end))
}

pub fn is_fp8(view: &View) -> bool {
    view.format == &F8_E4M3 || view.format == &F8_E5M2
}

/// A matrix of 8-bit floats times its scales.
pub struct Fp8 {
    weight: View,
    scales: Vec<f32>,
    /// Rows and columns per scale.
    block: [usize; 2],
}

impl Fp8 {
    /// A matrix and its scales, which are named `weight_scale_inv` or `weight_scale`.
    ///
    /// # Errors
    /// When the scales are missing or do not fit.
    pub fn open(tensors: &FileTensors, weight: View, block_size: Option<[usize; 2]>) -> Result<Fp8> {
        let [rows, cols] = matrix(&weight)?;
        let inverse = format!("{}_scale_inv", weight.name);
        let scale =
            tensors.view(&if tensors.contains(&inverse) { inverse } else { format!("{}_scale", weight.name) })?;
        let block = match (block_size, &scale.shape[..]) {
            (None, [] | [1] | [1, 1]) => [rows, cols],
            (None, _) => {
                shape(&scale, &[rows, 1][..scale.shape.len().clamp(1, 2)])?;
                [1, cols]
            }
            (Some([high, wide]), _) => {
                shape(&scale, &[rows.div_ceil(high), cols.div_ceil(wide)])?;
                [high, wide]
            }
        };
        Ok(Fp8 { weight, scales: scales(&scale)?, block })
    }

    /// Shape, and the smallest float format that holds every weight exactly: BF16 where all scales are powers of two.
    pub fn entry(&self) -> TensorInfo {
        let power = |scale: &f32| scale.abs().to_bits() & 0x7f_ffff == 0 && (1e-30..1e30).contains(&scale.abs());
        let format = if self.scales.iter().all(power) { &BF16 } else { &F32 };
        TensorInfo { format, ..self.weight.info() }
    }

    /// The unpacked matrix.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn view(&self) -> Result<View> {
        let [high, wide] = self.block;
        let (cols, across) = (self.weight.cols(), self.weight.cols().div_ceil(wide));
        let mut weights = self.weight.decode();
        for (i, w) in weights.iter_mut().enumerate() {
            *w *= self.scales[i / cols / high * across + i % cols / wide];
        }
        floats(&self.entry(), &weights)
    }
}
