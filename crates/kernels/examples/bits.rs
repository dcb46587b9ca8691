//! Products of every format by every instruction set of this CPU, and a hash of their bits, which is the same on every machine; the same of
//! products with weights and activations that are rounded to bfloat16:
//! `cargo run --release -p trine-kernels --example bits`, natively or under an emulator.

use trine_kernels::{
    ActivationLayout, CpuExecutor, Input, Matrix, PANEL, QuantizedActivations, interleave, multiplies_bf16, tables,
};
use trine_tensor::{FORMATS, Format, TensorInfo};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut random = Random(1);
    let mut executors = tables().map(|table| CpuExecutor::new(table, 1)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = executors.iter().map(|executor| executor.table.name).collect();
    let (mut products, mut differ, mut hash) = (0, 0, Hash::default());
    let (mut bf16_products, mut bf16_differ, mut bf16_hash) = (0, 0, Hash::default());
    for format in FORMATS.iter().copied().filter(|format| format.matrix_layout().is_none()) {
        for cols in [512, 768] {
            for (rows, tokens) in [(1, 1), (37, 1), (37, 2), (21, 5), (18, 9)] {
                let bytes = random.weights(format, rows, cols)?;
                let plain = Matrix::new(format, rows, cols, &bytes);
                let x = random.floats(tokens * cols);
                let (executors, scalar) = executors.split_at_mut(names.len() - 1);
                let layout = scalar[0].activation_layout(format);
                let reference = product(&mut scalar[0], plain, &x, layout);
                hash.add(&reference);
                let mut panels = plain.bytes.to_vec();
                if scalar[0].interleaves(format) {
                    let panel = PANEL * plain.bytes.len() / rows;
                    let whole = plain.bytes.chunks_exact(panel).zip(panels.chunks_exact_mut(panel));
                    whole.for_each(|(rows, out)| interleave(format, rows, out));
                }
                let interleaved = Matrix { bytes: &panels, interleaved: scalar[0].interleaves(format), ..plain };
                for executor in executors.iter_mut().chain(&mut *scalar) {
                    for w in [plain, interleaved] {
                        products += 1;
                        if product(executor, w, &x, layout) != reference {
                            differ += 1;
                            println!("{format} {rows}x{cols}, {tokens} tokens: {} differs", executor.table.name);
                        }
                    }
                }
                if !multiplies_bf16(format) {
                    continue;
                }
                let reference = product(&mut scalar[0], plain, &x, ActivationLayout::Bf16);
                bf16_hash.add(&reference);
                for executor in executors.iter_mut().chain(scalar) {
                    bf16_products += 1;
                    if product(executor, plain, &x, ActivationLayout::Bf16) != reference {
                        bf16_differ += 1;
                        println!(
                            "{format} as bfloat16, {rows}x{cols}, {tokens} tokens: {} differs",
                            executor.table.name
                        );
                    }
                }
            }
        }
    }
    println!("{}: {products} products, {differ} differ, hash {:016x}", names.join(", "), hash.0);
    println!("as bfloat16: {bf16_products} products, {bf16_differ} differ, hash {:016x}", bf16_hash.0);
    Ok(())
}

/// FNV-1a.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bits: &[u32]) {
        bits.iter().for_each(|&bits| self.0 = (self.0 ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3));
    }
}

/// The bits of a product, `[tokens, rows]`.
fn product(executor: &mut CpuExecutor, w: Matrix, x: &[f32], layout: ActivationLayout) -> Vec<u32> {
    let mut out = vec![f32::NAN; x.len() / w.cols * w.rows];
    let mut quantized = QuantizedActivations::default();
    let input = if layout == ActivationLayout::F32 {
        Input::F32(x)
    } else {
        executor.quantize(x, w.cols, layout, &mut quantized);
        Input::Quantized(&quantized)
    };
    executor.product(w, input, &mut out);
    out.iter().map(|x| x.to_bits()).collect()
}

/// Numbers that look random and are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// In -1..1.
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0).collect()
    }

    /// Weights that the format encoded, some blocks of them again and again: encoders search.
    fn weights(&mut self, format: &'static Format, rows: usize, cols: usize) -> trine_tensor::Result<Vec<u8>> {
        if format.ternary || format.head() > 0 {
            let weights: Vec<f32> = self.floats(rows * cols).iter().map(|w| w.round() * 0.7).collect();
            return TensorInfo { name: String::new(), format, shape: vec![rows, cols] }.encode(&weights);
        }
        let blocks = format.encode(&self.floats(512));
        let blocks: Vec<&[u8]> = blocks.chunks(format.bytes).collect();
        let count = rows * cols / format.block;
        Ok((0..count).flat_map(|_| blocks[self.next() as usize % blocks.len()]).copied().collect())
    }
}
