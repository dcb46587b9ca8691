//! Linear layers that other quantisers packed, unpacked when they are loaded.
//!
//! GPTQ as AutoGPTQ and GPTQModel store it, AWQ as AutoAWQ's `gemm` does, and 8-bit floats with scales as DeepSeek, Qwen and compressed-tensors
//! do. FP8 models are defined with activations that are rounded to 8 bits too, where the hardware multiplies such numbers; here only the
//! weights are rounded, which is nearer to the model that was quantised.

use crate::weights::{Source, ternary_format};
use crate::{Error, Packing, Result};
use serde_json::Value;
use trine_tensor::format::{BF16, F8_E4M3, F8_E5M2, F16, F32, I32, I64, Q4_0, Q8_0, U8};
use trine_tensor::{File, Format, TensorInfo, View};

/// How `quantization_config` of a Hugging Face folder says that its linear layers are packed; `None` when it is none of these ways.
///
/// # Errors
/// When it is one of these, but in a version that is not known.
pub fn packing(config: &Value) -> Result<Option<Packing>> {
    let found = |keys: &[&str]| keys.iter().find_map(|key| config.get(key).filter(|value| !value.is_null())).cloned();
    let text = |keys: &[&str], default: &str| match found(keys) {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_lowercase),
        None => default.to_owned(),
    };
    let bad =
        |key: &str, expected: &str, found: Value| Error::bad(format!("quantization_config.{key}"), expected, found);
    let number = |keys: &[&str]| found(keys).unwrap_or(Value::Null);
    let group = || match number(&["group_size", "q_group_size"]) {
        value if value.as_i64() == Some(-1) => Ok(None),
        value => match value.as_u64().filter(|size| (1..=1 << 24).contains(size)) {
            Some(size) => Ok(Some(size as usize)),
            None => Err(bad("group_size", "-1 or inputs of a group", value)),
        },
    };
    let bits = number(&["bits", "w_bit"]);
    let format = text(&["checkpoint_format", "format", "version"], "");
    match (&*text(&["quant_method"], ""), &*format) {
        ("gptq", "" | "gptq" | "gptq_v2") if number(&["is_marlin_format"]).as_bool() != Some(true) => {
            match bits.as_u64() {
                Some(bits @ (2 | 3 | 4 | 8)) => {
                    Ok(Some(Packing::Gptq { bits: bits as usize, group: group()?, less_one: format != "gptq_v2" }))
                }
                _ => Err(bad("bits", "2, 3, 4 or 8", bits)),
            }
        }
        ("awq", "" | "gemm") if bits.as_u64() == Some(4) => Ok(Some(Packing::Awq { group: group()? })),
        ("awq", "" | "gemm") => Err(bad("bits", "4", bits)),
        ("fp8", _) => Ok(Some(Packing::Fp8 { block: block(&number(&["weight_block_size"]))? })),
        ("compressed-tensors", "float-quantized") => {
            let groups = config.get("config_groups").and_then(Value::as_object).into_iter().flatten();
            let mut blocks = groups.map(|(_, group)| {
                let weights = &group["weights"];
                match (weights["type"].as_str(), weights["num_bits"].as_u64()) {
                    (Some("float"), Some(8)) => block(&weights["block_structure"]),
                    _ => Err(bad("config_groups", "weights of 8-bit floats", weights.clone())),
                }
            });
            let first = blocks.next().transpose()?.flatten();
            for block in blocks {
                if block? != first {
                    return Err(bad("config_groups", "blocks of one size", config["config_groups"].clone()));
                }
            }
            Ok(Some(Packing::Fp8 { block: first }))
        }
        ("gptq" | "awq" | "compressed-tensors", _) => {
            let expected = "gptq or gptq_v2 of gptq, gemm of awq, or float-quantized of compressed-tensors";
            Err(bad("format", expected, format.into()))
        }
        _ => Ok(None),
    }
}

/// Rows and columns that share a scale.
fn block(value: &Value) -> Result<Option<[usize; 2]>> {
    if value.is_null() {
        return Ok(None);
    }
    let sizes: Vec<u64> = value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    match sizes[..] {
        [rows @ 1..=0x100_0000, cols @ 1..=0x100_0000] => Ok(Some([rows as usize, cols as usize])),
        _ => Err(Error::bad("quantization_config.weight_block_size", "rows and columns of a block", value)),
    }
}

/// Whether these are 8-bit floats.
pub fn is_fp8(view: &View) -> bool {
    view.format == &F8_E4M3 || view.format == &F8_E5M2
}

fn shape(view: &View, expected: &[usize]) -> Result<()> {
    match view.shape == expected {
        true => Ok(()),
        false => {
            let (tensor, expected, found) = (view.name.clone(), expected.to_vec(), view.shape.clone());
            Err(Error::Shape { tensor, expected, found })
        }
    }
}

fn matrix(view: &View) -> Result<[usize; 2]> {
    match view.shape[..] {
        [rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(Error::Shape { tensor: view.name.clone(), expected: vec![1, 1], found: view.shape.clone() }),
    }
}

fn dtype(view: &View, expected: &'static str, known: &[&Format]) -> Result<()> {
    match known.contains(&view.format) {
        true => Ok(()),
        false => Err(Error::Dtype { tensor: view.name.clone(), expected, found: view.format.name }),
    }
}

/// Finite scales.
fn scales(view: &View) -> Result<Vec<f32>> {
    dtype(view, "F16, BF16 or F32", &[&F16, &BF16, &F32])?;
    let scales = view.decode();
    match scales.iter().find(|scale| !scale.is_finite()) {
        Some(&found) => Err(Error::BadWeight { tensor: view.name.clone(), expected: "finite scales", found }),
        None => Ok(scales),
    }
}

/// The 32-bit words of a tensor, row-major.
struct Words(View);

impl Words {
    fn of(view: View) -> Result<Words> {
        dtype(&view, "I32", &[&I32])?;
        Ok(Words(view))
    }

    fn at(&self, i: usize) -> u32 {
        u32::from_le_bytes(self.0.bytes.as_chunks().0[i])
    }

    fn all(&self) -> Vec<u32> {
        self.0.bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }
}

/// Bits `[k * bits, (k + 1) * bits)` of a stream of words, low bits first.
fn code(word: impl Fn(usize) -> u32, k: usize, bits: usize) -> i16 {
    let (at, shift) = (k * bits / 32, k * bits % 32);
    let mut code = word(at) >> shift;
    if shift + bits > 32 {
        code |= word(at + 1) << (32 - shift);
    }
    (code & ((1 << bits) - 1)) as i16
}

/// A matrix of integers, each times the scale of its row and of the group of its column.
pub struct Codes<'a> {
    name: String,
    rows: usize,
    /// Group of each column.
    groups: Vec<usize>,
    /// `[groups, rows]`
    scales: Vec<f32>,
    /// The least and the largest integer that there can be.
    range: [i16; 2],
    /// The integer at a row and a column, which is of this group.
    code: Box<dyn Fn(usize, usize, usize) -> i16 + 'a>,
}

/// The matrix `[outputs, inputs]` of a layer that GPTQ packed: `scale * (code - zero)`, codes in a stream along the inputs, zeros along the outputs.
///
/// # Errors
/// When a tensor is missing or does not fit the others.
pub fn gptq<'a>(source: &Source, layer: &str, bits: usize, group: Option<usize>, less_one: bool) -> Result<Codes<'a>> {
    let part = |part: &str| source.stored(&format!("{layer}.{part}"));
    let packed = part("qweight")?;
    let [lines, rows] = matrix(&packed)?;
    if !(lines * 32).is_multiple_of(bits) {
        let expected = vec![lines.next_multiple_of(bits), rows];
        return Err(Error::Shape { tensor: packed.name, expected, found: packed.shape });
    }
    let cols = lines * 32 / bits;
    let scale = part("scales")?;
    let [count, _] = matrix(&scale)?;
    shape(&scale, &[count, rows])?;
    let natural = |col: usize| group.map_or(0, |size| col / size);
    let mut groups: Vec<usize> = (0..cols).map(natural).collect();
    if source.contains(&format!("{layer}.g_idx")) {
        let index = part("g_idx")?;
        shape(&index, &[cols])?;
        dtype(&index, "I32 or I64", &[&I32, &I64])?;
        let given = index.decode();
        // Some files without order by activation leave it zero.
        if given.iter().any(|&group| group != 0.0) {
            if let Some(&found) = given.iter().find(|&&group| group < 0.0 || group >= count as f32) {
                return Err(Error::BadWeight { tensor: index.name, expected: "groups that have scales", found });
            }
            groups = given.iter().map(|&group| group as usize).collect();
        }
    }
    check_groups(&scale, &groups, rows)?;
    let zero = part("qzeros")?;
    let stride = (rows * bits).div_ceil(32);
    shape(&zero, &[count, stride])?;
    let mut zeros = Words::of(zero)?.all();
    if less_one {
        zeros.chunks_exact_mut(stride).for_each(|row| increment(row, bits));
    }
    let zeros: Vec<i16> =
        (0..count * rows).map(|i| code(|word| zeros[i / rows * stride + word], i % rows, bits)).collect();
    let (packed, range) = (Words::of(packed)?, range(&zeros, bits));
    let code =
        Box::new(move |row, col, group| code(|i| packed.at(i * rows + row), col, bits) - zeros[group * rows + row]);
    Ok(Codes { name: format!("{layer}.weight"), rows, groups, scales: scales(&scale)?, range, code })
}

/// The least and the largest difference of a code and one of these zero points.
fn range(zeros: &[i16], bits: usize) -> [i16; 2] {
    let (least, most) = (zeros.iter().min().copied().unwrap_or(0), zeros.iter().max().copied().unwrap_or(0));
    [-most, (1 << bits) - 1 - least]
}

/// Adds one to each code of a stream. GPTQModel subtracts one from words as wholes, with borrows from one code to the next, which this takes back.
fn increment(words: &mut [u32], bits: usize) {
    let mut carry = 0;
    for (i, word) in words.iter_mut().enumerate() {
        let ones = (0..32).filter(|bit| (32 * i + bit) % bits == 0).fold(0, |ones, bit| ones | 1u64 << bit);
        let sum = u64::from(*word) + ones + carry;
        *word = sum as u32;
        // Only where a code goes on in the next word.
        carry = if (32 * (i + 1)).is_multiple_of(bits) { 0 } else { sum >> 32 };
    }
}

/// Where the code of a column is among the eight of an AWQ word.
const AWQ_ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The matrix `[outputs, inputs]` of a layer that AWQ packed: `scale * (code - zero)`, eight outputs in a word.
///
/// # Errors
/// When a tensor is missing or does not fit the others.
pub fn awq<'a>(source: &Source, layer: &str, group: Option<usize>) -> Result<Codes<'a>> {
    let part = |part: &str| source.stored(&format!("{layer}.{part}"));
    let (packed, scale, zero) = (part("qweight")?, part("scales")?, part("qzeros")?);
    let [cols, stride] = matrix(&packed)?;
    let rows = 8 * stride;
    let count = group.map_or(1, |size| cols.div_ceil(size));
    shape(&scale, &[count, rows])?;
    shape(&zero, &[count, stride])?;
    let groups: Vec<usize> = (0..cols).map(|col| group.map_or(0, |size| col / size)).collect();
    let code = |word: u32, row: usize| (word >> (4 * AWQ_ORDER[row % 8]) & 15) as i16;
    let (packed, zeros) = (Words::of(packed)?, Words::of(zero)?.all());
    let zeros: Vec<i16> = (0..count * rows).map(|i| code(zeros[i / rows * stride + i % rows / 8], i % rows)).collect();
    let range = range(&zeros, 4);
    let code =
        Box::new(move |row, col, group| code(packed.at(col * stride + row / 8), row) - zeros[group * rows + row]);
    Ok(Codes { name: format!("{layer}.weight"), rows, groups, scales: scales(&scale)?, range, code })
}

fn check_groups(scales: &View, groups: &[usize], rows: usize) -> Result<()> {
    let count = groups.iter().max().map_or(0, |last| last + 1);
    if count > scales.rows() { shape(scales, &[count, rows]) } else { Ok(()) }
}

impl Codes<'_> {
    /// The matrix in the smallest format that holds every weight exactly, whatever its codes are.
    pub fn info(&self) -> TensorInfo {
        let blocks = self.groups.len().is_multiple_of(32)
            && self.groups.chunks(32).all(|block| block.iter().all(|group| *group == block[0]))
            && exact(&F16, &self.scales);
        let within = |low: i16, high: i16| blocks && low <= self.range[0] && self.range[1] <= high;
        let format = if within(-8, 7) {
            &Q4_0
        } else if within(-128, 127) {
            &Q8_0
        } else {
            &F32
        };
        TensorInfo { name: self.name.clone(), format, shape: vec![self.rows, self.groups.len()] }
    }

    /// The matrix.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn view(&self) -> Result<View> {
        let (entry, codes) = (self.info(), self.codes());
        if entry.format != &F32 {
            return Ok(View::new(&self.name, entry.format, entry.shape, self.blocks(entry.format, &codes))?);
        }
        let groups = self.groups.iter().cycle().zip(0..);
        let weight = |(&code, (group, i)): (&i16, (&usize, usize))| {
            f32::from(code) * self.scales[group * self.rows + i / self.groups.len()]
        };
        floats(&entry, &codes.iter().zip(groups).map(weight).collect::<Vec<_>>())
    }

    /// `[rows, cols]`, taken so that rows of a word and of a cache line come together.
    fn codes(&self) -> Vec<i16> {
        let cols = self.groups.len();
        let mut codes = vec![0; self.rows * cols];
        for (i, some) in codes.chunks_mut(16 * cols).enumerate() {
            for (col, &group) in self.groups.iter().enumerate() {
                for (j, out) in some[col..].iter_mut().step_by(cols).enumerate() {
                    *out = (self.code)(16 * i + j, col, group);
                }
            }
        }
        codes
    }

    /// As blocks of 32 with an F16 scale and 4 or 8 bits for each weight.
    fn blocks(&self, format: &'static Format, codes: &[i16]) -> Vec<u8> {
        let cols = self.groups.len();
        let mut bytes = Vec::with_capacity(codes.len() / 32 * format.bytes);
        for (i, block) in codes.chunks_exact(32).enumerate() {
            let scale = self.scales[self.groups[i * 32 % cols] * self.rows + i * 32 / cols];
            bytes.extend(F16.encode(&[scale]));
            match format == &Q4_0 {
                true => bytes.extend((0..16).map(|j| (block[j] + 8) as u8 | ((block[16 + j] + 8) as u8) << 4)),
                false => bytes.extend(block.iter().map(|&code| code as u8)),
            }
        }
        bytes
    }
}

/// A matrix of 8-bit floats times its scales.
pub struct Scaled {
    weight: View,
    scales: Vec<f32>,
    /// Rows and columns that share a scale.
    block: [usize; 2],
}

/// A matrix of 8-bit floats with its scales: one, or one for each row or block, `weight_scale_inv` or `weight_scale` beside it.
///
/// # Errors
/// When they are missing or do not fit.
pub fn fp8(source: &Source, weight: View, block: Option<[usize; 2]>) -> Result<Scaled> {
    let [rows, cols] = matrix(&weight)?;
    // Scales of activations, which are not quantised here.
    let layer = weight.name.trim_end_matches("weight");
    for unused in ["input_scale", "activation_scale"].map(|part| format!("{layer}{part}")) {
        if source.contains(&unused) {
            source.stored(&unused)?;
        }
    }
    let inverse = format!("{}_scale_inv", weight.name);
    let scale = source.stored(&if source.contains(&inverse) { inverse } else { format!("{}_scale", weight.name) })?;
    let block = match (block, &scale.shape[..]) {
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
    Ok(Scaled { weight, scales: scales(&scale)?, block })
}

impl Scaled {
    /// The matrix in the smallest format of floats that holds it exactly, whatever its weights are: 16 bits where all scales are powers of two.
    pub fn info(&self) -> TensorInfo {
        let power = |scale: &f32| scale.abs().to_bits() & 0x7f_ffff == 0 && (1e-30..1e30).contains(&scale.abs());
        let format = if self.scales.iter().all(power) { &BF16 } else { &F32 };
        TensorInfo { format, ..self.weight.info() }
    }

    /// The matrix.
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
        floats(&self.info(), &weights)
    }
}

/// Whether a format of floats holds these as they are.
fn exact(format: &'static Format, weights: &[f32]) -> bool {
    let mut again = [0.0; 1024];
    weights.chunks(1024).all(|some| {
        let again = &mut again[..some.len()];
        (format.decode)(&format.encode(some), &[], again);
        some == again
    })
}

fn floats(entry: &TensorInfo, weights: &[f32]) -> Result<View> {
    if let Some(&found) = weights.iter().find(|w| !w.is_finite()) {
        return Err(Error::BadWeight { tensor: entry.name.clone(), expected: "finite weights", found });
    }
    Ok(View::new(&entry.name, entry.format, entry.shape.clone(), entry.format.encode(weights))?)
}

/// What the tensors of a file stand for, where another quantiser packed them.
pub struct Unpack<'a>(Source<'a>);

/// A tensor as it is, or one that is several in the file.
enum Parts<'a> {
    Plain(View),
    Codes(Codes<'a>),
    Scaled(Scaled),
}

impl<'a> Unpack<'a> {
    /// Of a file whose linear layers are packed like this.
    pub fn new(file: &'a File, packing: Packing) -> Unpack<'a> {
        Unpack(Source::new(file, packing))
    }

    /// What a tensor of the file stands for; `None` for scales and the like, which belong to another, and for what no model takes for a weight.
    fn parts(&self, stored: &View) -> Result<Option<Parts<'a>>> {
        let Unpack(source) = self;
        if !source.is_weight(&stored.name) {
            return Ok(None);
        }
        let belongs = |ends: &[&str], to: &str| {
            ends.iter()
                .any(|end| stored.name.strip_suffix(end).is_some_and(|layer| source.has(&format!("{layer}{to}"))))
        };
        let layer = stored.name.strip_suffix(".qweight");
        Ok(Some(match (source.packing(), layer) {
            (Packing::Gptq { bits, group, less_one }, Some(layer)) => {
                Parts::Codes(gptq(source, layer, bits, group, less_one)?)
            }
            (Packing::Awq { group }, Some(layer)) => Parts::Codes(awq(source, layer, group)?),
            (Packing::Gptq { .. } | Packing::Awq { .. }, None)
                if belongs(&[".qzeros", ".scales", ".g_idx"], ".qweight") =>
            {
                return Ok(None);
            }
            (Packing::Fp8 { block }, _) if is_fp8(stored) => Parts::Scaled(fp8(source, stored.clone(), block)?),
            (Packing::Fp8 { .. }, _)
                if belongs(&[".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale"], ".weight") =>
            {
                return Ok(None);
            }
            _ => Parts::Plain(stored.clone()),
        }))
    }

    /// The tensor unpacked; `None` for scales and the like, which belong to another.
    ///
    /// # Errors
    /// When it is badly packed.
    pub fn view(&self, stored: &View) -> Result<Option<View>> {
        Ok(match self.parts(stored)? {
            None => None,
            Some(Parts::Plain(view)) => Some(view),
            Some(Parts::Codes(codes)) => Some(codes.view()?),
            Some(Parts::Scaled(scaled)) => Some(scaled.view()?),
        })
    }

    /// With which format and shape it is loaded, without unpacking it.
    ///
    /// # Errors
    /// When it is badly packed.
    pub fn loaded(&self, stored: &View) -> Result<Option<TensorInfo>> {
        let linear = stored.name.contains(".layers.") && stored.name.ends_with(".weight") && stored.shape.len() == 2;
        Ok(self.parts(stored)?.map(|parts| match (parts, self.0.packing()) {
            (Parts::Codes(codes), _) => codes.info(),
            (Parts::Scaled(scaled), _) => scaled.info(),
            (Parts::Plain(view), Packing::Online) if linear => {
                TensorInfo { format: ternary_format(view.cols()), ..view.info() }
            }
            (Parts::Plain(view), Packing::Times | Packing::Over) if linear && view.format == &U8 => {
                let shape = vec![4 * view.rows(), view.cols()];
                TensorInfo { format: ternary_format(view.cols()), shape, ..view.info() }
            }
            (Parts::Plain(view), _) => view.info(),
        }))
    }
}
