//! Hugging Face tensors as weights: unpacked where a quantizer packed them.

use crate::Result;
use crate::file_tensors::{FileTensors, find, missing};
use crate::quant::QuantMethod;
use std::cell::RefCell;
use trine_tensor::{File, TensorInfo, View};

/// The weights of a file by the names they have there, with or without the usual prefixes.
pub struct FileWeights<'a> {
    pub(crate) tensors: FileTensors<'a>,
    quant_method: QuantMethod,
    /// Whether what is packed is only described: zeros, in memory that nobody touches.
    pub(crate) shapes: bool,
    /// The last matrix that was unpacked: several parts of it may be read in succession.
    unpacked: RefCell<Option<View>>,
}

impl<'a> FileWeights<'a> {
    pub(crate) fn new(file: &'a File, quant_method: QuantMethod) -> FileWeights<'a> {
        FileWeights { tensors: FileTensors::of(file), quant_method, shapes: false, unpacked: RefCell::default() }
    }

    /// The full name in the file; of a packed matrix the one it would have unpacked.
    fn name(&self, name: &str) -> Option<String> {
        find(self.tensors.file, name).or_else(|| {
            matches!(self.quant_method, QuantMethod::Gptq { .. } | QuantMethod::Awq { .. }).then_some(())?;
            let packed = find(self.tensors.file, &format!("{}.qweight", name.strip_suffix(".weight")?))?;
            Some(format!("{}.weight", packed.strip_suffix(".qweight")?))
        })
    }

    /// Whether the file has this weight, packed or not.
    pub fn contains(&self, name: &str) -> bool {
        self.name(name).is_some()
    }

    /// A weight, unpacked.
    ///
    /// # Errors
    /// When it is missing or badly packed.
    pub fn view(&self, name: &str) -> Result<View> {
        let name = self.name(name).unwrap_or_else(|| name.to_owned());
        if let Some(view) = self.unpacked.borrow().as_ref().filter(|view| view.name == name) {
            return Ok(view.clone());
        }
        let Some(packed) = self.quant_method.packed(&self.tensors, &name)? else {
            return self.tensors.view(&name).map_err(missing);
        };
        let view = if self.shapes { zeros(packed.entry())? } else { packed.view()? };
        *self.unpacked.borrow_mut() = Some(view.clone());
        Ok(view)
    }
}

/// A tensor of zeros, which takes no memory until it is read.
pub(crate) fn zeros(info: TensorInfo) -> Result<View> {
    let size = info.size()? as usize;
    // A refusal of zeros would end the program.
    let room = Vec::<u8>::new().try_reserve_exact(size);
    room.map_err(|_| trine_backend::Error::NoMemory { bytes: size })?;
    Ok(View::new(info.name, info.format, info.shape, vec![0; size])?)
}
