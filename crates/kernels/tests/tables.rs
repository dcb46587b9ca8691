//! What holds for every kernel: it agrees with the definition of its format, and all instruction sets, thread counts and batches
//! give the same bits.

mod common;

use common::{Random, bits, executors};
use half::bf16;
use trine_kernels::limits::{Peaks, peaks};
use trine_kernels::{
    Activation, ActivationLayout, CpuExecutor, Input, Matrix, PANEL, QuantizedActivations, interleave, multiplies_bf16,
    table, tables,
};
use trine_tensor::{FORMATS, Format, TensorInfo};

fn product(executor: &mut CpuExecutor, w: Matrix, x: &[f32]) -> Vec<f32> {
    product_in(executor, w, x, executor.activation_layout(w.format))
}

/// The product of activations in a layout.
fn product_in(executor: &mut CpuExecutor, w: Matrix, x: &[f32], layout: ActivationLayout) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / w.cols * w.rows];
    let mut quantized = QuantizedActivations::default();
    let input = if layout == ActivationLayout::F32 {
        Input::F32(x)
    } else {
        executor.quantize(x, w.cols, layout, &mut quantized);
        Input::Quantized(&quantized)
    };
    executor.product(w, input, &mut out);
    out
}

/// Random weights, encoded in a format.
fn weights(format: &'static Format, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let count = rows * cols;
    if format.ternary || format.head() > 0 {
        // Blocks without weights, and rows with another scale.
        let mut w = random.floats(count);
        w.iter_mut().enumerate().for_each(|(i, w)| {
            *w = if i / 256 % 5 == 3 { 0.0 } else { w.round() * if i / cols % 3 == 2 { 0.3 } else { 0.7 } };
        });
        return encode(format, &w, cols);
    }
    // Searching for the codes takes its time: a larger matrix has the same blocks more than once, in any order.
    let blocks = format.encode(&random.floats(count.min(2048)));
    let blocks: Vec<&[u8]> = blocks.chunks(format.bytes).collect();
    (0..count / format.block).flat_map(|_| blocks[random.next() as usize % blocks.len()]).copied().collect()
}

/// Rows of weights as a matrix of a format.
fn encode(format: &'static Format, weights: &[f32], cols: usize) -> Vec<u8> {
    TensorInfo { name: String::new(), format, shape: vec![weights.len() / cols, cols] }.encode(weights).unwrap()
}

/// The formats that products take: others are repacked to one of them.
fn formats() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.matrix_layout().is_none())
}

#[test]
fn every_product_agrees_with_its_format_and_all_machines_agree_in_every_bit() {
    let mut random = Random(1);
    let mut executors = executors();
    for format in formats() {
        for cols in [1, 15, 16, 17, 31, 32, 33, 64, 96, 128, 256, 384, 512, 2560] {
            if cols % format.block != 0 {
                continue;
            }
            for (rows, tokens) in [(1, 1), (3, 2), (4, 5), (9, 4), (70, 1), (37, 9), (2, 29)] {
                let bytes = weights(format, rows, cols, &mut random);
                let w = Matrix::new(format, rows, cols, &bytes);
                let x = random.floats(tokens * cols);
                let own = executors[0].activation_layout(format);
                let bf16 = multiplies_bf16(format).then_some(ActivationLayout::Bf16);
                for layout in [own].into_iter().chain(bf16) {
                    let reference = product_in(&mut executors[0], w, &x, layout);
                    let place = format!("{format} {rows}x{cols}, {tokens} tokens, {layout:?}");
                    for executor in &mut executors {
                        let (name, threads) = (executor.table.name, executor.threads());
                        let out = product_in(executor, w, &x, layout);
                        assert_eq!(bits(&out), bits(&reference), "{place}, {name}, {threads} threads");
                    }
                    // One token at a time gives what the batch gave.
                    for (x, out) in x.chunks(cols).zip(reference.chunks(rows)) {
                        assert_eq!(bits(&product_in(&mut executors[0], w, x, layout)), bits(out), "{place}");
                    }
                    against_decoded(w, &x, &reference, layout);
                    if executors[0].interleaves(format) {
                        interleaved(&mut executors, w, &x, &reference);
                    }
                }
            }
        }
    }
}

/// Interleaving whole panels, and leaving the rows after them as they are, changes neither products nor decoded rows.
fn interleaved(executors: &mut [CpuExecutor], w: Matrix, x: &[f32], reference: &[f32]) {
    let panel = PANEL * w.format.row_bytes(w.cols).unwrap();
    let mut bytes = w.bytes.to_vec();
    for (rows, out) in w.bytes.chunks_exact(panel).zip(bytes.chunks_exact_mut(panel)) {
        interleave(w.format, rows, out);
    }
    assert_eq!(bytes == w.bytes, w.rows < PANEL);
    let all: Vec<u32> = (0..w.rows as u32).collect();
    let [mut plain, mut found] = [(); 2].map(|()| vec![0.0; w.rows * w.cols]);
    executors[0].gather(w, &all, &mut plain);
    let w = Matrix { bytes: &bytes, interleaved: true, ..w };
    for executor in executors {
        let place = format!("{} {}x{} interleaved, {}", w.format, w.rows, w.cols, executor.table.name);
        assert_eq!(bits(&product(executor, w, x)), bits(reference), "{place}");
        for (x, out) in x.chunks(w.cols).zip(reference.chunks(w.rows)) {
            assert_eq!(bits(&product(executor, w, x)), bits(out), "{place}, one token");
        }
        executor.gather(w, &all, &mut found);
        assert_eq!(bits(&found), bits(&plain), "{place}, rows");
    }
}

/// The product of decoded weights in double precision. Bytes for activations round each by half of 1/127 of the largest in its group;
/// rounding to bfloat16 is repeated here.
fn against_decoded(w: Matrix, x: &[f32], out: &[f32], layout: ActivationLayout) {
    let stride = w.format.row_bytes(w.cols).unwrap();
    let (mut row, mut x) = (vec![0.0; w.cols], x.to_vec());
    let round = |x: &mut [f32]| {
        if layout == ActivationLayout::Bf16 {
            x.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
        }
    };
    round(&mut x);
    for r in 0..w.rows {
        (w.format.decode)(&w.bytes[r * stride..][..stride], w.tail, &mut row);
        round(&mut row);
        for (t, x) in x.chunks(w.cols).enumerate() {
            let exact: f64 = row.iter().zip(x).map(|(&w, &x)| w as f64 * x as f64).sum();
            let size = row.iter().map(|&w| (w as f64).powi(2)).sum::<f64>().sqrt();
            // Rounding errors are independent: six standard deviations of a uniform error, and float32 rounding.
            let floats = [ActivationLayout::F32, ActivationLayout::Bf16].contains(&layout);
            let step = if floats { 0.0 } else { 1.0 / 127.0 / 12f64.sqrt() };
            let bound = size * (6.0 * step + 1e-6) + 1e-6;
            let found = out[t * w.rows + r] as f64;
            assert!(
                (found - exact).abs() <= bound,
                "{} {}x{}: {found} for {exact} ± {bound}",
                w.format,
                w.rows,
                w.cols
            );
        }
    }
}

#[test]
fn ternary_layouts_of_the_same_weights_give_the_same_bits() {
    let mut random = Random(2);
    let ternary: Vec<_> = formats().filter(|format| format.ternary).collect();
    assert!(ternary.len() >= 3);
    for cols in [256, 512, 2560] {
        // A scale that half precision holds, and a block of zeros.
        let w: Vec<f32> = (0..5 * cols)
            .map(|i| if i / 256 == 3 { 0.0 } else { random.float().mul_add(1.6, 0.0).round().clamp(-1.0, 1.0) * 0.75 })
            .collect();
        let x = random.floats(3 * cols);
        for mut executor in executors() {
            let outputs: Vec<_> = ternary
                .iter()
                .map(|format| {
                    bits(&product(&mut executor, Matrix::new(format, 5, cols, &encode(format, &w, cols)), &x))
                })
                .collect();
            assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "{}", executor.table.name);
        }
    }
}

#[test]
fn a_product_with_random_bytes_has_the_same_bits_everywhere() {
    let mut random = Random(3);
    let mut executors = executors();
    for format in formats() {
        let (rows, cols) = (5, format.block * 512usize.div_ceil(format.block));
        let mut bytes: Vec<u8> =
            (0..format.size(rows as u64, cols as u64).unwrap()).map(|_| random.next() as u8).collect();
        if format.block == 1 && format.bytes < 8 {
            bytes = format.encode(&random.floats(rows * cols)); // a float of random bits is not finite often enough to hide the rest
        }
        let w = Matrix::new(format, rows, cols, &bytes);
        let x = random.floats(2 * cols);
        let clean = |out: Vec<f32>| {
            out.into_iter().map(|y| if y.is_nan() { u32::MAX } else { y.to_bits() }).collect::<Vec<_>>()
        };
        let reference = clean(product(&mut executors[0], w, &x));
        for executor in &mut executors {
            assert_eq!(clean(product(executor, w, &x)), reference, "{format}, {}", executor.table.name);
        }
    }
}

#[test]
fn what_is_not_finite_goes_in_and_comes_out() {
    for mut executor in executors() {
        for format in ["F32", "Q8_0", "I2_S"].map(|name| trine_tensor::format::by_name(name).unwrap()) {
            let bytes = format.encode(&vec![1.0; 4 * 128]);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = vec![1.0; 128];
                x[77] = bad;
                let out = product(&mut executor, Matrix::new(format, 4, 128, &bytes), &x);
                assert!(out.iter().all(|y| !y.is_finite()), "{format} {bad}");
            }
        }
    }
}

#[test]
fn norm_add_and_gates_agree_with_double_precision_and_with_each_other() {
    let mut random = Random(4);
    for (rows, width) in [(3, 1), (3, 7), (3, 16), (3, 33), (110, 640)] {
        let (a, b) = (random.floats(rows * width), random.floats(rows * width));
        let a: Vec<f32> = a.iter().map(|a| a * 20.0).collect();
        let (gain, bias) = (random.floats(width), random.floats(width));
        let mut first: Option<Vec<u32>> = None;
        for mut executor in executors() {
            let mut out = [0; 12].map(|_| vec![0.0; rows * width]);
            executor.rms_norm(&a, &gain, 1e-5, &mut out[0]);
            executor.add(&a, &b, width, &mut out[1]);
            for (i, kind) in
                [Activation::Silu, Activation::Relu2, Activation::Gelu, Activation::GeluTanh, Activation::Clamped]
                    .into_iter()
                    .enumerate()
            {
                executor.gated_activation(kind, &a, Some(&b), width, &mut out[2 + i]);
            }
            executor.gated_activation(Activation::Silu, &a, None, width, &mut out[7]);
            executor.scale(&a, 0.3, width, &mut out[8]);
            executor.softcap(&a, 15.0, width, &mut out[9]);
            executor.layer_norm(&a, width, &gain, None, 1e-5, &mut out[10]);
            executor.layer_norm(&a, width, &gain, Some(&bias), 1e-5, &mut out[11]);
            for i in 0..rows * width {
                let (x, y) = (a[i] as f64, b[i] as f64);
                let row = &a[i / width * width..][..width];
                let mean = |f: &dyn Fn(f64) -> f64| row.iter().map(|&a| f(a as f64)).sum::<f64>() / width as f64;
                let square = mean(&|a| a * a);
                let center = mean(&|a| a);
                let normed = (x - center) / (mean(&|a| (a - center).powi(2)) + 1e-5).sqrt() * gain[i % width] as f64;
                let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                let tanh = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                let exact = [
                    x / (square + 1e-5).sqrt() * gain[i % width] as f64,
                    x + y,
                    x * sigmoid(x) * y,
                    x.max(0.0).powi(2) * y,
                    x * (1.0 + libm::erf(x / 2f64.sqrt())) / 2.0 * y,
                    x * (1.0 + tanh.tanh()) / 2.0 * y,
                    x.min(7.0) * sigmoid(1.702 * x.min(7.0)) * (y.clamp(-7.0, 7.0) + 1.0),
                    x * sigmoid(x),
                    x * 0.3f32 as f64,
                    15.0 * (x / 15.0).tanh(),
                    normed,
                    normed + bias[i % width] as f64,
                ];
                for (n, (out, exact)) in out.iter().zip(exact).enumerate() {
                    // What is left of a difference, such as `1 + erf`, is as exact as what it is left of.
                    let slack = if n < 4 { 1e-30 } else { 1e-6 * x.abs().max(1.0) * y.abs().max(1.0) };
                    let error = (out[i] as f64 - exact).abs();
                    assert!(error <= 1e-6 * exact.abs() + slack, "{n}: {} for {exact}, x = {x}", out[i]);
                }
            }
            let out = bits(&out.concat());
            assert_eq!(*first.get_or_insert(out.clone()), out, "{}", executor.table.name);
        }
    }
}

#[test]
fn an_instruction_set_is_chosen_by_name_or_refused_with_the_names() {
    assert_eq!(table("SCALAR").unwrap().name, "scalar");
    assert_eq!(tables().last().unwrap().name, "scalar");
    let message = table("neon9").err().unwrap().to_string();
    assert!(message.contains("neon9") && tables().all(|table| message.contains(table.name)), "{message}");
}

#[test]
fn every_table_counts_the_multiplications_of_its_peaks_right() {
    for table in tables() {
        for threads in [1, 2] {
            // `peaks` checks the sums itself.
            let Peaks { int8, f32, bf16 } = peaks(table, threads, &[]);
            assert!(int8 > 0.0 && f32 > 0.0 && bf16.is_none_or(|bf16| bf16 > 0.0), "{}", table.name);
        }
    }
}

#[test]
fn every_table_encodes_to_the_bytes_of_the_format() {
    let mut random = Random(7);
    // Two rows of three blocks: blocks that are searched at once belong to both.
    let cols = 768;
    let mut weights = random.floats(2 * cols);
    weights[40] = f32::NAN;
    weights[300..400].fill(0.25);
    weights[1000..1256].fill(0.0);
    let mut importance: Vec<f32> = random.floats(cols).into_iter().map(|x| x * x).collect();
    importance[64..128].fill(0.0);
    for format in formats() {
        // A row with a head is encoded alone.
        let rows = if format.head() == 0 { 2 } else { 1 };
        let weights = &weights[..rows * cols];
        let encoded = |importance: Option<&[f32]>| {
            let mut expected = vec![0; format.size(rows as u64, cols as u64).unwrap() as usize];
            (format.encode)(weights, importance, &mut expected);
            for table in tables() {
                let mut found = vec![0; expected.len()];
                table.encode(format, weights, importance, &mut found);
                assert!(found == expected, "{format} with {}, importance: {}", table.name, importance.is_some());
            }
            expected
        };
        let is_used = encoded(None) != encoded(Some(&importance));
        assert_eq!(is_used, format.uses_importance(), "{format}");
    }
}

/// However the work is cut: each row as if it were alone, with the importance of its part.
#[test]
fn executors_encode_as_the_format_does() {
    let mut random = Random(11);
    let (rows, cols, parts) = (150, 512, 3);
    let weights = random.floats(rows * cols);
    let importance: Vec<f32> = random.floats(parts * cols).into_iter().map(|x| x * x).collect();
    let mut executor = CpuExecutor::new(tables().next().unwrap(), 3).unwrap();
    for format in formats().filter(|format| format.tail == 0) {
        for importance in [None, Some(&importance[..])] {
            let stride = format.row_bytes(cols).unwrap();
            let mut expected = vec![0; rows * stride];
            for (i, (row, out)) in weights.chunks(cols).zip(expected.chunks_mut(stride)).enumerate() {
                let part = i / (rows / parts);
                (format.encode)(row, importance.map(|all| &all[part * cols..][..cols]), out);
            }
            let mut found = vec![0; expected.len()];
            executor.encode(format, cols, &weights, importance, &mut found);
            assert!(found == expected, "{format}, importance: {}", importance.is_some());
        }
    }
}
