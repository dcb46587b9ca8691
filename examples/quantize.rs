//! A weight format of a program's own: `cargo run --release --example quantize`.
//!
//! A [`Format`] is a row of numbers and two functions. Once a [`Quantizer`] knows it, weights are encoded in it as in any other; the error tells
//! whether it is worth its bits. A GGUF file with such weights is read, and its model run, when `OpenOptions::layouts` has the format.

use trine::Quantizer;
use trine::tensor::format::Layout;
use trine::tensor::{Format, IntegerScheme, Quantized};

const BLOCK: usize = 16;
const BYTES: usize = 12;

/// 16 weights as a float32 scale and codes of 4 bits: the square roots of the weights, so that small ones are kept better than large ones.
static ROOTS: Format = Format {
    name: "ROOTS",
    id: Some(9000),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let (scale, codes) = block.split_first_chunk().expect("a scale");
        let scale = f32::from_le_bytes(*scale);
        for (i, w) in out.iter_mut().enumerate() {
            let root = f32::from(codes[i / 2] >> (4 * (i % 2)) & 15) / 7.0 - 1.0;
            *w = scale * root * root.abs();
        }
    }
}

fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BYTES)) {
        // An encoder meets any number, also one that is none.
        let block: Vec<f32> =
            block.iter().map(|w| if w.is_nan() { 0.0 } else { w.clamp(f32::MIN, f32::MAX) }).collect();
        let scale = block.iter().fold(0f32, |most, w| most.max(w.abs()));
        out.fill(0);
        out[..4].copy_from_slice(&scale.to_le_bytes());
        for (i, w) in block.iter().enumerate() {
            let root = if scale > 0.0 { (w.abs() / scale).sqrt().copysign(*w) } else { 0.0 };
            out[4 + i / 2] |= (((root + 1.0) * 7.0).round() as u8) << (4 * (i % 2));
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut quantizer = Quantizer::auto()?;
    quantizer.register(&ROOTS)?;
    // 64 rows of 1024 weights; sums of sines are near a normal distribution.
    let (rows, cols) = (64, 1024);
    let noise = |i: usize| (1..6).map(|k| (i as f32 * k as f32 * 1.618).sin()).sum::<f32>() / 50.0;
    let weights: Vec<f32> = (0..rows * cols).map(noise).collect();

    println!("format       bits   error");
    for name in ["Q8_0", "Q5_K", "ROOTS", "Q4_0", "Q3_K"] {
        let format = quantizer.format(name)?;
        let mut bytes = vec![0; quantizer.size(format, cols, weights.len())?];
        let loss = quantizer.encode(format, cols, &weights, &mut bytes)?;
        println!("{name:<10} {:>6.3} {:>7.4}", format.bits_per_weight(), loss.relative());
    }

    let (mut integers, mut again) = (Quantized::default(), vec![0.0; weights.len()]);
    for (name, scheme) in [("absmean", IntegerScheme::AbsMean), ("absmax", IntegerScheme::AbsMax)] {
        quantizer.quantize(scheme, cols, &weights, &mut integers)?;
        integers.dequantize(&mut again);
        let error: f32 = weights.iter().zip(&again).map(|(w, a)| (w - a).powi(2)).sum();
        let all: f32 = weights.iter().map(|w| w * w).sum();
        println!("{name:<10} {:>14.4}", (error / all).sqrt());
    }
    Ok(())
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
