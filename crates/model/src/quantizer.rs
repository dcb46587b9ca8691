//! Slices of weights to the bytes of a format, or to integers with scales.

use crate::device::encoder;
use crate::{DeviceOptions, Result};
use std::fmt::Display;
use trine_backend::Cpu;
use trine_tensor::format::{FORMATS, Loss, by_name};
use trine_tensor::{Error, Format, IntegerScheme, Quantized};

/// Encodes weights in slices, and decodes them: in any format of a file, in a program's own, or as integers with scales beside them.
///
/// Its threads and buffers stay from one call to the next, and nothing is copied. All lengths and values are checked; the result does not depend
/// on the number of threads, or on the instruction set.
///
/// ```
/// use trine_model::Quantizer;
/// use trine_tensor::{IntegerScheme, Quantized, format::Q4_K};
///
/// let weights: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin()).collect();
/// let mut quantizer = Quantizer::auto()?;
///
/// // A matrix of 2 rows as the bytes that a GGUF file has.
/// let mut bytes = vec![0; quantizer.size(&Q4_K, 256, weights.len())?];
/// let loss = quantizer.encode(&Q4_K, 256, &weights, &mut bytes)?;
/// assert!(loss.relative() < 0.1);
///
/// // Codes of 8 bits, and a scale for each row.
/// let mut rows = Quantized::default();
/// quantizer.quantize(IntegerScheme::AbsMax, 256, &weights, &mut rows)?;
/// assert_eq!((rows.codes.len(), rows.scales.len()), (512, 2));
///
/// // What cannot be encoded is refused.
/// let error = quantizer.encode(&Q4_K, 100, &weights[..100], &mut bytes).unwrap_err();
/// assert_eq!(error.to_string(), "weights: expected rows of a multiple of 256 for Q4_K, found 100");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Quantizer {
    cpu: Cpu,
    own: Vec<&'static Format>,
    /// The largest magnitude of each format that was used.
    largest: Vec<(&'static str, f32)>,
}

impl Quantizer {
    /// For the first device that this machine has.
    ///
    /// # Errors
    /// When the device cannot be had.
    pub fn auto() -> Result<Quantizer> {
        Quantizer::new(&DeviceOptions::default())
    }

    /// For the device that the options name.
    ///
    /// # Errors
    /// When the device cannot be had.
    pub fn new(options: &DeviceOptions) -> Result<Quantizer> {
        Ok(Quantizer { cpu: encoder(options)?, own: Vec::new(), largest: Vec::new() })
    }

    /// Adds a format of the program's own, found by its name from now on. A file with weights in it is opened with the format in
    /// [`OpenOptions::layouts`](trine_tensor::OpenOptions); products decode its rows.
    ///
    /// # Errors
    /// When the name or type number is that of another format, a block has no weights or no bytes, or the format has a layout of whole matrices.
    pub fn register(&mut self, format: &'static Format) -> Result<()> {
        let refuse = |expected, found: &dyn Display| Err(malformed(format!("format `{format}`"), expected, found));
        let mut others = FORMATS.iter().chain(&self.own);
        if format.name.is_empty() || others.clone().any(|other| other.name.eq_ignore_ascii_case(format.name)) {
            return refuse("a name of its own", &format_args!("`{format}`"));
        }
        if let (Some(id), Some(other)) = (format.id, others.find(|other| format.id.is_some() && other.id == format.id))
        {
            return refuse("a type number of its own", &format_args!("{id}, which is {other}"));
        }
        if format.block == 0 || format.bytes == 0 || format.matrix_layout().is_some() {
            return refuse("rows of blocks with weights and bytes", &format_args!("another layout"));
        }
        self.own.push(format);
        Ok(())
    }

    /// The format of this name, in any case.
    ///
    /// # Errors
    /// When there is none.
    pub fn format(&self, name: &str) -> Result<&'static Format> {
        let own = self.own.iter().copied().find(|format| format.name.eq_ignore_ascii_case(name));
        own.or_else(|| by_name(name)).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().chain(&self.own).map(|format| format.name).collect();
            malformed("format".to_owned(), &format!("one of {}", names.join(", ")), &format_args!("`{name}`"))
        })
    }

    /// The bytes of `len` weights in rows of `cols`.
    ///
    /// # Errors
    /// When these are not whole rows, or rows not whole blocks.
    pub fn size(&self, format: &Format, cols: usize, len: usize) -> Result<usize> {
        let refuse = |expected: String, found: usize| Err(malformed("weights".to_owned(), &expected, &found));
        if format.matrix_layout().is_some() {
            let expected = "a format that is stored by rows";
            return Err(malformed("format".to_owned(), expected, &format_args!("{format}")));
        }
        if len > 0 && (cols == 0 || !len.is_multiple_of(cols)) {
            return refuse(format!("rows of {cols}"), len);
        }
        if !cols.is_multiple_of(format.block) {
            return refuse(format!("rows of a multiple of {} for {format}", format.block), cols);
        }
        let rows = len / cols.max(1);
        let size = format.size(rows as u64, cols as u64).and_then(|size| usize::try_from(size).ok());
        size.map_or_else(|| refuse("a size that fits memory".to_owned(), len), Ok)
    }

    /// Encodes weights, `[rows, cols]`, and returns what that lost. `out` has [`Quantizer::size`] bytes; after an error, they are of no use.
    ///
    /// # Errors
    /// When a length is wrong, a weight is not finite, or the format cannot hold the weights: they are beyond its range, so small that they vanish,
    /// or not ternary for a ternary format.
    pub fn encode(&mut self, format: &'static Format, cols: usize, weights: &[f32], out: &mut [u8]) -> Result<Loss> {
        let size = self.size(format, cols, weights.len())?;
        check_len(&format_args!("bytes of {format}"), size, out.len())?;
        self.check_finite(weights)?;
        if weights.is_empty() {
            out.fill(0);
            return Ok(Loss::default());
        }
        let loss = self.cpu.executor().encode(format, cols, weights, None, out);
        if !loss.is_rounding(format, self.largest(format)) || format.encodes_trits() && !loss.is_ternary() {
            let (weight, encoded) = loss.worst();
            let expected = format!("weights that {format} can hold");
            return Err(malformed(
                "weights".to_owned(),
                &expected,
                &format_args!("{weight:e}, which would become {encoded:e}"),
            ));
        }
        Ok(loss)
    }

    /// Decodes bytes to the weights of rows of `cols`.
    ///
    /// # Errors
    /// When a length is wrong.
    pub fn decode(&mut self, format: &'static Format, cols: usize, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        check_len(&format_args!("bytes of {format}"), self.size(format, cols, out.len())?, bytes.len())?;
        self.cpu.executor().decode(format, cols, bytes, out);
        Ok(())
    }

    /// Makes integers of weights, each `group` of which share a scale: all of a matrix, a row, or a part of one.
    ///
    /// # Errors
    /// When the weights are not whole groups, or one is not finite.
    pub fn quantize(
        &mut self,
        scheme: IntegerScheme,
        group: usize,
        weights: &[f32],
        out: &mut Quantized,
    ) -> Result<()> {
        if !weights.is_empty() && (group == 0 || !weights.len().is_multiple_of(group)) {
            return Err(malformed("weights".to_owned(), &format!("groups of {group}"), &weights.len()));
        }
        self.check_finite(weights)?;
        self.cpu.executor().integers(scheme, group, weights, out);
        Ok(())
    }

    fn check_finite(&mut self, weights: &[f32]) -> Result<()> {
        if self.cpu.executor().largest(weights) < f32::INFINITY.to_bits() {
            return Ok(());
        }
        let (i, found) = weights.iter().enumerate().find(|(_, w)| !w.is_finite()).expect("one of them is not");
        Err(malformed(format!("weight {i}"), "a finite number", found))
    }

    /// [`Format::largest`], asked once.
    fn largest(&mut self, format: &'static Format) -> f32 {
        if let Some(&(_, largest)) = self.largest.iter().find(|(name, _)| *name == format.name) {
            return largest;
        }
        let largest = format.largest();
        self.largest.push((format.name, largest));
        largest
    }
}

fn check_len(what: &dyn Display, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(malformed("slice".to_owned(), &format!("{expected} {what}"), &found)) }
}

fn malformed(place: String, expected: &str, found: &dyn Display) -> crate::Error {
    Error::Malformed { place, expected: expected.to_owned(), found: found.to_string() }.into()
}
