//! The `Quantizer`: every length, every kind of values, every format, and a format of the test's own.

use trine_backend::{CpuOptions, tables};
use trine_model::{DeviceOptions, Quantizer};
use trine_tensor::format::{F32, I2_S, IQ2_BN, Layout, Q4_K, TL2, TQ2_0};
use trine_tensor::{FORMATS, File, Format, IntegerScheme, Metadata, OpenOptions, Quantized, TensorInfo, View, gguf};

/// 4 weights of a byte each, and their scale.
static OWN: Format = own("OWN", Some(9001));

const fn own(name: &'static str, id: Option<u32>) -> Format {
    Format {
        name,
        id,
        block: 4,
        bytes: 8,
        tail: 0,
        ternary: false,
        weights: true,
        layout: Layout::Rows,
        decode: |row, _, out| {
            for (block, out) in row.chunks_exact(8).zip(out.chunks_exact_mut(4)) {
                let scale = f32::from_le_bytes(block[..4].try_into().unwrap());
                block[4..].iter().zip(out).for_each(|(&q, w)| *w = scale * f32::from(q as i8));
            }
        },
        encode: |weights, _, out| {
            for (block, out) in weights.chunks_exact(4).zip(out.chunks_exact_mut(8)) {
                let scale = block.iter().fold(0f32, |most, w| most.max(w.abs())).min(3e38) / 127.0;
                out[..4].copy_from_slice(&scale.to_le_bytes());
                let code = |w: &f32| if scale > 0.0 { (w / scale).round() as i8 as u8 } else { 0 };
                out[4..].iter_mut().zip(block).for_each(|(out, w)| *out = code(w));
            }
        },
    }
}

fn quantizer(threads: usize) -> Quantizer {
    let cpu = CpuOptions { threads, ..CpuOptions::default() };
    Quantizer::new(&DeviceOptions { cpu, ..DeviceOptions::default() }).unwrap()
}

/// Formats that are stored by rows, and are no type of activations or indices.
fn by_rows() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.stores_models() && format.matrix_layout().is_none())
}

/// Numbers from -1 to 1, the same everywhere.
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Values of each kind that a tensor may have.
fn values(kind: usize, len: usize, seed: u64) -> Vec<f32> {
    let mut next = random(seed);
    let scale = [1.0, 0.0, 1e-40, 1e-3, 1e4, 1e38, 3.4e38][kind % 7];
    (0..len).map(|_| next() * scale).collect()
}

#[test]
fn lengths_and_values_are_encoded_or_refused_by_what_they_are() {
    let mut quantizer = quantizer(2);
    for format in by_rows() {
        for len in [0, 1, 2, 31, 32, 33, 63, 64, 127, 128, 129, 255, 256, 257, 511, 512, 768, 1024, 33 << 10] {
            for kind in 0..7 {
                let weights = values(kind, len, len as u64 + 1);
                let size = match quantizer.size(format, len, len) {
                    Ok(size) => size,
                    Err(error) => {
                        assert!(!len.is_multiple_of(format.block), "{format} {len}");
                        let error = error.to_string();
                        assert!(error.contains(format.name) && error.ends_with(&format!("found {len}")), "{error}");
                        continue;
                    }
                };
                assert!(len.is_multiple_of(format.block), "{format} {len}");
                let mut bytes = vec![1; size];
                let mut again = vec![0.0; len];
                match quantizer.encode(format, len, &weights, &mut bytes) {
                    Ok(loss) => {
                        quantizer.decode(format, len, &bytes, &mut again).unwrap();
                        let zeros = weights.iter().all(|&w| w == 0.0);
                        assert!(!format.encodes_trits() || zeros || len == 1, "{format}: dense weights made ternary");
                        // A rounded Gaussian, or uniform numbers, lose about 2^-bits; nothing loses all.
                        let most = (4.0 * (-format.bits_per_weight()).exp2()).clamp(0.01, 0.7);
                        assert!(loss.relative() <= most, "{format} {len} {kind}: {}", loss.relative());
                        let error = weights.iter().zip(&again).map(|(w, a)| f64::from(w - a).powi(2)).sum::<f64>();
                        let all = weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
                        assert!(error.sqrt() <= (most + 1e-6) * all.sqrt(), "{format} {len} {kind}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        let expected = format!("weights: expected weights that {format} can hold, found ");
                        assert!(error.starts_with(&expected), "{error}");
                        // Usual weights fit every format that is not ternary, small ones all but NVFP4, whose scales have 8 bits.
                        let usual = [0, 1, 3].contains(&kind) && (kind != 3 || format.name != "NVFP4");
                        assert!(format.encodes_trits() || !usual, "{format} {len} {kind}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_is_refused_where_it_is() {
    let mut quantizer = quantizer(2);
    for (at, bad) in [(0, f32::NAN), (100_000, f32::INFINITY), (131_071, f32::NEG_INFINITY), (70_000, -f32::NAN)] {
        let mut weights = values(0, 1 << 17, 1);
        weights[at] = bad;
        let expected = format!("weight {at}: expected a finite number, found {bad}");
        for format in by_rows() {
            let mut bytes = vec![0; quantizer.size(format, 1 << 16, 1 << 17).unwrap()];
            let error = quantizer.encode(format, 1 << 16, &weights, &mut bytes).unwrap_err();
            assert_eq!(error.to_string(), expected, "{format}");
        }
        let error = quantizer.quantize(IntegerScheme::AbsMax, 64, &weights, &mut Quantized::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn ternary_weights_survive_ternary_formats_and_dense_ones_are_refused() {
    let mut quantizer = quantizer(2);
    let mut next = random(7);
    let trits: Vec<f32> = (0..1024).map(|_| (next() * 1.5).round().clamp(-1.0, 1.0) * 0.25).collect();
    for format in [&I2_S, &TQ2_0, &IQ2_BN] {
        let mut bytes = vec![0; quantizer.size(format, 512, 1024).unwrap()];
        let loss = quantizer.encode(format, 512, &trits, &mut bytes).unwrap();
        assert_eq!(loss.relative(), 0.0, "{format}");
        let error = quantizer.encode(format, 512, &values(0, 1024, 1), &mut bytes).unwrap_err().to_string();
        assert!(error.starts_with(&format!("weights: expected weights that {format} can hold")), "{error}");
    }
    let error = quantizer.size(&TL2, 1024, 1024).unwrap_err().to_string();
    assert_eq!(error, "format: expected a format that is stored by rows, found TL2");
}

#[test]
fn integers_are_the_nearest_of_their_scale() {
    let mut quantizer = quantizer(2);
    let mut out = Quantized::default();
    for scheme in [IntegerScheme::AbsMean, IntegerScheme::AbsMax, IntegerScheme::ZeroPoint] {
        for (group, groups) in [(0, 0), (1, 1), (1, 7), (7, 3), (33, 5), (256, 4), (100_003, 1), (64, 2000)] {
            for kind in 0..7 {
                // One side of zero for some, so that zero points are at an end.
                let shift = [0.0, 1.0, -1.0][(kind + groups) % 3];
                let mut weights = values(kind, group * groups, (group + kind) as u64);
                let most = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
                weights.iter_mut().for_each(|w| *w = *w * 0.5 + shift * most * 0.5);
                quantizer.quantize(scheme, group, &weights, &mut out).unwrap();
                assert_eq!((out.codes.len(), out.scales.len(), out.group), (weights.len(), groups, group));
                assert_eq!(out.zero_points.len(), if scheme == IntegerScheme::ZeroPoint { groups } else { 0 });
                let mut again = vec![0.0; weights.len()];
                out.dequantize(&mut again);
                for (i, (&w, &a)) in weights.iter().zip(&again).enumerate() {
                    let scale = f64::from(out.scales[i / group]);
                    let (w, a, error) = (f64::from(w), f64::from(a), (f64::from(w) - f64::from(a)).abs());
                    // The scale of the smallest numbers there are is itself one of few.
                    let slack = 1e-6 * w.abs() + 2e-43;
                    let bound = match scheme {
                        IntegerScheme::AbsMean => (scale / 2.0).max(w.abs() - scale),
                        IntegerScheme::AbsMax => scale / 2.0,
                        IntegerScheme::ZeroPoint => scale,
                    };
                    let place = format!("{scheme:?} {group} {kind}: {w:e} became {a:e} with the scale {scale:e}");
                    assert!(a.is_finite() && error <= bound * 1.0001 + slack, "{place}");
                    assert!(w != 0.0 || a == 0.0, "{place}");
                    assert!(scheme != IntegerScheme::AbsMean || out.codes[i].abs() <= 1);
                }
            }
        }
        let error = quantizer.quantize(scheme, 7, &[1.0; 20], &mut out).unwrap_err();
        assert_eq!(error.to_string(), "weights: expected groups of 7, found 20");
        assert!(quantizer.quantize(scheme, 0, &[1.0; 20], &mut out).is_err());
    }
}

/// The reference code of BitNet: `scale = 1 / w.abs().mean(); (w * scale).round().clamp(-1, 1) / scale`.
#[test]
fn absmean_is_that_of_bitnet() {
    let (mut quantizer, mut out) = (quantizer(1), Quantized::default());
    quantizer.quantize(IntegerScheme::AbsMean, 4, &[0.5, -0.1, 0.0, -1.0], &mut out).unwrap();
    assert_eq!((out.codes, out.scales), (vec![1, 0, 0, -1], vec![0.4]));
}

#[test]
fn finer_groups_lose_less() {
    let mut quantizer = quantizer(2);
    // Rows of different size, as models have them, and columns within them.
    let mut next = random(3);
    let weights: Vec<f32> =
        (0..64 * 1024).map(|i| next() * next() * (1 + i / 1024 % 7) as f32 * (1 + i % 13) as f32).collect();
    for scheme in [IntegerScheme::AbsMax, IntegerScheme::ZeroPoint] {
        let (mut out, mut again) = (Quantized::default(), vec![0.0; weights.len()]);
        let errors: Vec<f64> = [weights.len(), 1024, 256, 64, 32, 16]
            .map(|group| {
                quantizer.quantize(scheme, group, &weights, &mut out).unwrap();
                out.dequantize(&mut again);
                weights.iter().zip(&again).map(|(w, a)| f64::from(w - a).powi(2)).sum()
            })
            .into();
        assert!(errors.is_sorted_by(|a, b| a > b), "{scheme:?}: {errors:?}");
    }
}

#[test]
fn threads_and_instruction_sets_change_no_byte() {
    let weights = values(0, 64 << 10, 5);
    let mut expected: Option<(Vec<u8>, Quantized)> = None;
    for table in tables() {
        for threads in [1, 3] {
            let cpu = CpuOptions { threads, table, ..CpuOptions::default() };
            let mut quantizer = Quantizer::new(&DeviceOptions { cpu, ..DeviceOptions::default() }).unwrap();
            let (mut bytes, mut integers) =
                (vec![0; quantizer.size(&Q4_K, 1024, weights.len()).unwrap()], Quantized::default());
            quantizer.encode(&Q4_K, 1024, &weights, &mut bytes).unwrap();
            assert_eq!(bytes, Q4_K.encode(&weights));
            quantizer.quantize(IntegerScheme::ZeroPoint, 1024, &weights, &mut integers).unwrap();
            let expected = expected.get_or_insert((bytes.clone(), integers.clone()));
            assert!(*expected == (bytes, integers), "{} with {threads} threads", table.name);
        }
    }
    let named = DeviceOptions { device: "cpu:scalar".parse().unwrap(), ..DeviceOptions::default() };
    assert!(Quantizer::new(&named).is_ok());
}

#[test]
fn a_format_of_ones_own_is_used_by_its_name_and_read_from_files() {
    static TAKEN: Format = own("q8_0", None);
    static NUMBER: Format = own("OTHER", Some(9001));
    let mut quantizer = quantizer(1);
    assert!(quantizer.format("own").unwrap_err().to_string().contains("found `own`"));
    quantizer.register(&OWN).unwrap();
    for (format, expected) in [
        (&OWN, "format `OWN`: expected a name of its own, found `OWN`"),
        (&TAKEN, "format `q8_0`: expected a name of its own, found `q8_0`"),
        (&NUMBER, "format `OTHER`: expected a type number of its own, found 9001, which is OWN"),
        (&TL2, "format `TL2`: expected a name of its own, found `TL2`"),
    ] {
        assert_eq!(quantizer.register(format).unwrap_err().to_string(), expected);
    }
    let format = quantizer.format("own").unwrap();
    let weights = values(0, 64, 9);
    let mut bytes = vec![0; quantizer.size(format, 8, 64).unwrap()];
    assert!(quantizer.encode(format, 8, &weights, &mut bytes).unwrap().relative() < 0.01);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.gguf");
    let info = TensorInfo { name: "w".to_owned(), format, shape: vec![8, 8] };
    let view = View::new("w", format, info.shape.clone(), bytes).unwrap();
    gguf::write(&path, &Metadata::new(), &[view]).unwrap();
    assert!(File::open(&path).unwrap_err().to_string().contains("9001"));
    let file = File::open_with(&path, &OpenOptions { layouts: vec![format], ..OpenOptions::default() }).unwrap();
    let view = file.view("w").unwrap();
    assert_eq!(view.format, format);
    let mut again = vec![0.0; 64];
    quantizer.decode(format, 8, &view.bytes, &mut again).unwrap();
    assert_eq!(view.decode(), again);
    assert_ne!(view.format, &F32);
}
