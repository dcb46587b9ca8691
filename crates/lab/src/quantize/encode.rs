//! A tensor in another format, in memory.

use super::Error;
use crate::imatrix::Imatrix;
use std::sync::Mutex;
use trine_kernels::{CpuExecutor, tables};
use trine_tensor::{Format, TensorInfo, View};

/// Encodes tensors on threads that live as long as it does.
pub struct Encoder(Mutex<CpuExecutor>);

impl Encoder {
    /// With a thread for each core.
    ///
    /// # Errors
    /// When the system cannot start them.
    pub fn new() -> Result<Encoder, Error> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let table = tables().next().expect("the scalar table is always there");
        let executor = CpuExecutor::new(table, threads).map_err(trine_tensor::Error::from)?;
        Ok(Encoder(Mutex::new(executor)))
    }

    /// A matrix in another format; itself where it has that already. `importance` is [`importance_of`] it.
    ///
    /// # Errors
    /// When a weight is not finite, or the format cannot hold such a matrix.
    pub fn encode(&self, view: &View, format: &'static Format, importance: Option<&[f32]>) -> Result<View, Error> {
        if view.format == format {
            return Ok(view.clone());
        }
        let weights = view.decode();
        if let Some(&found) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::NotFinite { tensor: view.name.clone(), found });
        }
        let info = TensorInfo { format, ..view.info() };
        let bytes = if format.matrix_layout().is_some() {
            info.encode(&weights)?
        } else {
            let mut bytes = vec![0; info.size()? as usize];
            let mut executor = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            executor.encode(format, view.cols(), &weights, importance, &mut bytes);
            bytes
        };
        Ok(View::new(info.name, info.format, info.shape, bytes)?)
    }
}

/// How much errors in each column of a matrix count, `[parts, cols]`; `None` if nobody measured it.
pub fn importance_of(imatrix: Option<&Imatrix>, name: &str) -> Option<Vec<f32>> {
    Some(imatrix?.entries.get(name)?.importance())
}
