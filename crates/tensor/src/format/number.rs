//! Numbers stored as they are, little-endian: floats, and integers whose value is the weight.
//!
//! Encoding to an integer rounds to nearest, saturates, and makes 0 of NaN. `U8` has no GGUF number; it holds the
//! packed ternary matrices of Hugging Face checkpoints, and `BOOL` the masks that some of them keep.
//! Nor have the 8-bit floats of arXiv:2209.05433; encoding to them rounds to nearest, ties to even, saturates, and makes 0 of NaN.

use half::{bf16, f16};

use super::{Format, Layout};

macro_rules! number {
    ($format:ident, $id:expr, $weights:expr, $type:ty, $to:expr, $from:expr) => {
        #[doc = concat!("`", stringify!($type), "`, as it is.")]
        pub static $format: Format = Format {
            name: stringify!($format),
            id: $id,
            block: 1,
            bytes: size_of::<$type>(),
            tail: 0,
            ternary: false,
            weights: $weights,
            layout: Layout::Rows,
            decode: |row, _, out| {
                for (bytes, w) in row.as_chunks().0.iter().zip(out) {
                    *w = $to(<$type>::from_le_bytes(*bytes));
                }
            },
            encode: |weights, _, out| {
                for (&w, bytes) in weights.iter().zip(out.as_chunks_mut().0) {
                    let number: $type = $from(w);
                    *bytes = number.to_le_bytes();
                }
            },
        };
    };
}

number!(F32, Some(0), true, f32, |x| x, |w| w);
number!(F16, Some(1), true, f16, f16::to_f32, f16::from_f32);
number!(BF16, Some(30), true, bf16, bf16::to_f32, bf16::from_f32);
number!(F64, Some(28), true, f64, |x| x as f32, |w: f32| w as f64);
number!(I8, Some(24), false, i8, |x| x as f32, |w: f32| w.round() as i8);
number!(I16, Some(25), false, i16, |x| x as f32, |w: f32| w.round() as i16);
number!(I32, Some(26), false, i32, |x| x as f32, |w: f32| w.round() as i32);
number!(I64, Some(27), false, i64, |x| x as f32, |w: f32| w.round() as i64);
number!(U8, None, false, u8, |x| x as f32, |w: f32| w.round() as u8);
number!(F8_E4M3, None, true, u8, e4m3, |w| nearest(w, e4m3, 0x7e));
number!(F8_E5M2, None, true, u8, e5m2, |w| nearest(w, e5m2, 0x7b));
number!(BOOL, None, false, u8, |x| f32::from(x != 0), |w: f32| u8::from(w.round() > 0.0));

/// 4 bits of exponent and 3 of mantissa, without infinities: an `f16` of other bias.
fn e4m3(code: u8) -> f32 {
    let code = u16::from(code);
    let small = f16::from_bits((code & 0x80) << 8 | (code & 0x7f) << 7).to_f32() * 256.0;
    if code & 0x7f == 0x7f { f32::NAN } else { small }
}

/// 5 bits of exponent and 2 of mantissa: the upper half of an `f16`.
fn e5m2(code: u8) -> f32 {
    f16::from_bits(u16::from(code) << 8).to_f32()
}

/// The code whose number is nearest, `most` being that of the largest.
fn nearest(w: f32, decode: fn(u8) -> f32, most: u8) -> u8 {
    let size = if w.is_nan() { 0.0 } else { w.abs().min(decode(most)) };
    let (mut low, mut high) = (0, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if decode(middle) <= size { low = middle } else { high = middle }
    }
    // Sums and differences of so few bits are exact.
    let (below, above) = (size - decode(low), decode(high) - size);
    let code = if below < above || below == above && low.is_multiple_of(2) { low } else { high };
    code | u8::from(w.is_sign_negative()) << 7
}
