//! What every format promises, over all of them.

use std::ops::ControlFlow;
use trine_tensor::format::{self, FORMATS, Format};
use trine_tensor::{File, TensorInfo, View};

/// Independent uniform numbers in 0..1 (splitmix64).
fn uniform(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut uniform = uniform(seed);
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn decode(format: &Format, bytes: &[u8], n: usize) -> Vec<f32> {
    let (rows, tail) = bytes.split_at(bytes.len() - format.tail);
    let mut out = vec![f32::NAN; n];
    (format.decode)(rows, tail, &mut out);
    out
}

/// Formats whose weights are points of a grid, which lacks most patterns.
const GRIDS: [&str; 7] = ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"];

fn rmse(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn formats_agree_with_the_reference_bit_for_bit() {
    let mut decoded = Vec::new();
    let mut encoded = Vec::new();
    let open = |name| File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/").to_owned() + name).unwrap();
    // The second is by ik_llama.cpp: random blocks, and what it decodes them to, as built for a CPU with fused multiply-adds.
    let files = [open("formats.safetensors"), open("iqk.safetensors")];
    for (golden, name) in files.iter().flat_map(|file| file.names().map(move |name| (file, name))) {
        let (name, field) = name.split_once('.').unwrap();
        let format = format::by_name(name).unwrap();
        match field {
            "bytes" => {
                let bytes = golden.view(&format!("{name}.bytes")).unwrap().bytes;
                let expected = golden.view(&format!("{name}.weights")).unwrap().decode();
                // Two rows, if rows have heads.
                let rows = if format.head() == 0 { 1 } else { 2 };
                let parts = bytes.chunks(bytes.len() / rows);
                let found: Vec<f32> = parts.flat_map(|row| decode(format, row, expected.len() / rows)).collect();
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_eq!(found.to_bits(), expected.to_bits(), "{name} weight {i}: {found} is not {expected}");
                }
                decoded.push(name);
            }
            "input" => {
                let input = golden.view(&format!("{name}.input")).unwrap().decode();
                let expected = golden.view(&format!("{name}.encoded")).unwrap().bytes;
                assert!(format.encode(&input) == *expected, "{name} encodes otherwise");
                encoded.push(name);
            }
            _ => {}
        }
    }
    decoded.sort();
    encoded.sort();
    // Numbers that Rust itself has are their own definition.
    let own = ["F32", "F64", "I8", "I16", "I32", "I64", "U8"];
    // Those that PyPI gguf does not know have files in golden/ternary.
    let elsewhere = |name: &&str| ["Q1_0", "Q2_0", "Q2_0_128", "IQ2_BN", "BOOL", "F8_E4M3", "F8_E5M2"].contains(name);
    let rows = of_rows().map(|format| format.name).filter(|name| !own.contains(name) && !elsewhere(name));
    let mut rest: Vec<_> = rows.collect();
    rest.sort();
    assert_eq!(decoded, rest);
    let expected =
        ["BF16", "F16", "I2_S", "MXFP4", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q8_K", "TQ1_0", "TQ2_0"];
    assert_eq!(encoded, expected);
}

/// The formats that store rows. tests/ternary.rs tests the others.
fn of_rows() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.matrix_layout().is_none())
}

#[test]
fn ternary_weights_survive_a_round_trip() {
    let mut uniform = uniform(1);
    let ternary: Vec<f32> = (0..1024).map(|_| 0.5 * ((uniform() * 3.0) as i32 - 1) as f32).collect();
    let integers: Vec<f32> = (0..1024).map(|_| (uniform() * 128.0).floor()).collect();
    // One bit holds no zero.
    for format in of_rows().filter(|format| !["Q1_0", "BOOL"].contains(&format.name)) {
        // Every format holds -s, 0, s but the integers.
        let weights = if ["U8", "I8", "I16", "I32", "I64"].contains(&format.name) { &integers } else { &ternary };
        let once = format.encode(weights);
        let found = decode(format, &once, weights.len());
        // One step of the codes: what scales take is part of the last bit, or all of it.
        let step = 0.5 / 2f32.powf(format.bits_per_weight().ceil() as f32 - 2.0);
        if format.ternary || format.block == 1 {
            assert_eq!(&found, weights, "{format}");
        } else if !GRIDS.contains(&format.name) {
            let worst = found.iter().zip(weights).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
            assert!(worst <= step, "{format}: {worst} is more than {step}");
        }
        assert_eq!(once.len() as u64, format.size(1, 1024).unwrap(), "{format}");
    }
}

#[test]
fn encoding_never_panics_and_decodes_to_finite_weights() {
    let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-45, 0.0, -0.0, 1e-30, 7e4];
    for format in of_rows().filter(|f| !["F32", "F16", "BF16", "F64"].contains(&f.name)) {
        for (i, &a) in ends.iter().enumerate() {
            let mut weights = gaussian(512, 3);
            weights[..256].fill(a);
            weights[256..].chunks_mut(5).enumerate().for_each(|(j, chunk)| chunk[0] = ends[(i + j) % ends.len()]);
            let found = decode(format, &format.encode(&weights), weights.len());
            assert!(found.iter().all(|w| w.is_finite()), "{format} of {a}");
        }
    }
}

#[test]
fn searched_scales_beat_plain_rounding() {
    let weights = gaussian(256 * 64, 2);
    // Plain rounding with unrounded scales from the extremes of each sub-block: already better than a file could hold.
    let plain = |n: usize, levels: f32, symmetric: bool| -> Vec<f32> {
        let round = |part: &[f32]| {
            let max = part.iter().fold(0f32, |m, &w| if symmetric { m.max(w.abs()) } else { m.max(w) });
            let min = part.iter().fold(0f32, |m, &w| m.min(w));
            let (low, d) = if symmetric { (0.0, max / levels) } else { (min, (max - min) / levels) };
            part.iter().map(|w| ((w - low) / d).round() * d + low).collect::<Vec<_>>()
        };
        weights.chunks(n).flat_map(round).collect()
    };
    let formats = [
        (&format::Q4_K, plain(32, 15.0, false)),
        (&format::Q5_K, plain(32, 31.0, false)),
        (&format::Q6_K, plain(16, 31.0, true)),
    ];
    for (format, plain) in formats {
        let searched = rmse(&weights, &decode(format, &format.encode(&weights), weights.len()));
        let plain = rmse(&weights, &plain);
        println!("{format}: rmse {searched:.5}, plain rounding {plain:.5}, {:.3} of it", searched / plain);
        assert!(searched < 0.97 * plain, "{format}: rmse {searched}, plain rounding {plain}");
    }
}

#[test]
fn errors_in_important_columns_are_smaller_where_a_format_has_scales_to_choose() {
    let (rows, cols) = (32, 512);
    let weights = gaussian(rows * cols, 6);
    let mut uniform = uniform(8);
    let importance: Vec<f32> = (0..cols).map(|_| (8.0 * uniform() - 4.0).exp()).collect();
    let error = |format: &Format, importance_used: Option<&[f32]>| -> f64 {
        let mut out = vec![0; format.size(rows as u64, cols as u64).unwrap() as usize];
        (format.encode)(&weights, importance_used, &mut out);
        let pairs = weights.iter().zip(decode(format, &out, weights.len())).zip(importance.iter().cycle());
        pairs.map(|((a, b), i)| f64::from(*i) * f64::from(a - b).powi(2)).sum()
    };
    let blind = ["Q8_0", "Q8_1", "Q8_K", "MXFP4", "NVFP4", "Q1_0", "Q2_0", "Q2_0_128", "TQ1_0", "TQ2_0", "I2_S"];
    for format in of_rows().filter(|format| format.block > 1 && format.head() == 0) {
        let ratio = error(format, Some(&importance)) / error(format, None);
        println!("{format}: {ratio:.3} of the error");
        if blind.contains(&format.name) {
            assert!(ratio == 1.0, "{format}: {ratio}");
        } else {
            assert!(ratio < 0.93, "{format}: {ratio}");
            // All columns alike, the numbers themselves do not count; nor do numbers that say nothing.
            let ones = format_bytes(format, &weights, &[1.0; 512]);
            assert!(ones == format_bytes(format, &weights, &[1024.0; 512]), "{format}");
            for nothing in [0.0, f32::NAN, -1.0, f32::INFINITY] {
                let found = decode(format, &format_bytes(format, &weights, &[nothing; 512]), weights.len());
                assert!(rmse(&weights, &found) < 0.7, "{format} with an importance of {nothing}");
            }
        }
    }
}

/// Rows of weights, encoded by the importance of columns.
fn format_bytes(format: &Format, weights: &[f32], importance: &[f32]) -> Vec<u8> {
    let rows = (weights.len() / importance.len()) as u64;
    let mut out = vec![0; format.size(rows, importance.len() as u64).unwrap() as usize];
    (format.encode)(weights, Some(importance), &mut out);
    out
}

/// No code of `n` bits per weight has a smaller error than `2^-n` on Gaussian weights of variance 1 (Shannon's distortion-rate function).
#[test]
fn errors_are_near_the_least_that_so_many_bits_allow() {
    let weights = gaussian(256 * 32, 5);
    for format in FORMATS.iter().filter(|format| format.block > 1 && !format.encodes_trits()) {
        let error = rmse(&weights, &decode(format, &format.encode(&weights), weights.len()));
        let ratio = error / 2f64.powf(-format.bits_per_weight());
        let bound = match format.name {
            // Bytes under a scale for activations too, with sums beside them.
            "Q8_1" | "Q8_K" => 4.0,
            // Their blocks are longer than those of the least error.
            name if GRIDS.contains(&name) => 1.55,
            name if name.starts_with("IQ4") || name.ends_with("_K") => 1.7,
            // A scale for few weights, as ggml writes them.
            _ => 2.5,
        };
        println!("{format}: rmse {error:.5}, {ratio:.3} of the least");
        assert!(ratio > 1.0 && ratio < bound, "{format}: rmse {error}, {ratio} of the least");
    }
}

#[test]
fn rows_of_a_view_are_those_of_the_whole() {
    for format in of_rows() {
        let weights = gaussian(3 * 512, 4);
        let entry = TensorInfo { name: "w".to_owned(), format, shape: vec![3, 512] };
        let view = View::new("w", format, vec![3, 512], entry.encode(&weights).unwrap()).unwrap();
        let mut row = vec![0.0; 512];
        for (i, expected) in view.decode().chunks(512).enumerate() {
            view.decode_row(i, &mut row);
            assert_eq!(row, expected, "{format}");
        }
        assert!(View::new("w", format, vec![3, 512], view.bytes.slice(1..)).is_err(), "{format}");
        assert_eq!(view.tail().len(), format.tail, "{format}");
    }
}

#[test]
fn names_and_numbers_lead_to_formats() {
    for format in FORMATS {
        assert_eq!(format::by_name(&format.name.to_lowercase()), Some(*format));
        // Several formats may have a number, of which it means the first.
        assert_eq!(format.id.and_then(format::by_id).and_then(|first| first.id), format.id);
    }
    assert_eq!(format::I2_S.size(2, 256), Some(2 * 256 / 4 + 32));
    assert_eq!(format::Q4_K.size(u64::MAX, 256), None);
    assert_eq!(format::Q4_K.row_bytes(255), None);
}

/// By the tables of arXiv:2209.05433.
#[test]
fn eight_bit_floats_are_those_of_the_paper() {
    for (format, exponents, bias, most) in [(&format::F8_E4M3, 16, 7, 448.0), (&format::F8_E5M2, 32, 15, 57344.0)] {
        let (mantissas, mut codes) = (128 / exponents, 0..128u8);
        for exponent in 0..exponents {
            for (mantissa, code) in (0..mantissas).zip(&mut codes) {
                let fraction = f32::from(mantissa as u8) / mantissas as f32;
                let power = 2f32.powi(i32::max(exponent, 1) - bias);
                let expected = if exponent == 0 { fraction * power } else { (1.0 + fraction) * power };
                let found = decode(format, &[code, code | 0x80], 2);
                if expected > most {
                    assert!(!found[0].is_finite() && !found[1].is_finite(), "{format}: {code}");
                } else {
                    assert_eq!(found, [expected, -expected], "{format}: {code}");
                    assert_eq!(format.encode(&found), [code, code | 0x80], "{format}");
                }
            }
        }
    }
    // Ties go to even, what is too large saturates.
    let found = decode(&format::F8_E4M3, &format::F8_E4M3.encode(&[1.0625, 1.1875, 1.07, 1e9, -465.0]), 5);
    assert_eq!(found, [1.0, 1.25, 1.125, 448.0, -448.0]);
}

#[test]
fn block_formats_hold_large_weights_or_the_largest_that_they_can() {
    for format in of_rows().filter(|format| format.block > 1) {
        for large in [1e6, 1e12, 1e20, 1e38, f32::MAX] {
            let weights: Vec<f32> = (0..1024).map(|i| if i % 3 == 0 { large } else { -large }).collect();
            let found = decode(format, &format.encode(&weights), weights.len());
            let largest = found.iter().fold(0f32, |most, w| most.max(w.abs()));
            assert!((2e3..=f32::MAX).contains(&largest), "{format}: {large:e} becomes {largest:e}");
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_told_from_what_it_rounds() {
    let check = |format: &'static Format, weights: &[f32]| {
        let info = TensorInfo { name: "w".into(), format, shape: vec![4, weights.len() / 4] };
        let view = View::new("w", format, info.shape.clone(), info.encode(weights).unwrap()).unwrap();
        view.check_encoded(weights, &mut || ControlFlow::Continue(()))
    };
    let plain = gaussian(1024, 5);
    let mut uniform = uniform(7);
    let small: Vec<f32> = (0..1024).map(|_| 0.02 * (uniform() - 0.5)).collect();
    // A few weights much larger than the others, as embeddings have them.
    let outliers: Vec<f32> = plain.iter().enumerate().map(|(i, w)| if i % 100 == 0 { 40.0 * w } else { *w }).collect();
    let with = |weight: f32| {
        let mut weights = plain.clone();
        weights[300] = weight;
        weights
    };
    for format in FORMATS.iter().filter(|format| format.stores_models() && !format.encodes_trits()) {
        // One bit holds the mean alone.
        let outliers = if format.name == "Q1_0" { &plain } else { &outliers };
        for weights in [&plain, &small, outliers, &vec![0.0; 1024]] {
            let _ = check(format, weights).unwrap_or_else(|error| panic!("{error}"));
        }
        let refused = |weights: &[f32]| check(format, weights).is_err();
        let floats = ["F32", "F64", "BF16"].contains(&format.name);
        assert_eq!(refused(&with(1e38)), !floats && format.name != "MXFP4", "{format}");
        assert!(floats || ["MXFP4", "IQ4_KS"].contains(&format.name) || refused(&vec![1e-9; 1024]), "{format}");
        assert!(refused(&with(f32::INFINITY)) && refused(&with(f32::NAN)), "{format}");
    }
    let error = check(&format::F16, &with(1e5)).unwrap_err().to_string();
    assert_eq!(error, "tensor \"w\": expected weights that F16 can hold, found 1e5, which would become inf");
    assert!(check(&format::I8, &plain).is_err());
    for format in FORMATS {
        let other = ["I8", "I16", "I32", "I64", "U8", "BOOL", "Q8_1", "Q8_K"].contains(&format.name);
        assert_eq!(format.weights, !other, "{format}");
    }
}
