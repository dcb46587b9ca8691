//! Numbers stored as they are, little-endian: floats, and integers whose value is the weight.
//!
//! Encoding to an integer rounds to nearest, saturates, and makes 0 of NaN. `U8` has no GGUF number; it holds the
//! packed ternary matrices of Hugging Face checkpoints, and `BOOL` the masks that some of them keep.

use half::{bf16, f16};

use super::{Format, Layout};

macro_rules! number {
    ($format:ident, $id:expr, $type:ty, $to:expr, $from:expr) => {
        #[doc = concat!("`", stringify!($type), "`, as it is.")]
        pub static $format: Format = Format {
            name: stringify!($format),
            id: $id,
            block: 1,
            bytes: size_of::<$type>(),
            tail: 0,
            ternary: false,
            layout: Layout::Rows,
            decode: |row, _, out| {
                for (bytes, w) in row.as_chunks().0.iter().zip(out) {
                    *w = $to(<$type>::from_le_bytes(*bytes));
                }
            },
            encode: |weights, out| {
                for (&w, bytes) in weights.iter().zip(out.as_chunks_mut().0) {
                    let number: $type = $from(w);
                    *bytes = number.to_le_bytes();
                }
            },
        };
    };
}

number!(F32, Some(0), f32, |x| x, |w| w);
number!(F16, Some(1), f16, f16::to_f32, f16::from_f32);
number!(BF16, Some(30), bf16, bf16::to_f32, bf16::from_f32);
number!(F64, Some(28), f64, |x| x as f32, |w: f32| w as f64);
number!(I8, Some(24), i8, |x| x as f32, |w: f32| w.round() as i8);
number!(I16, Some(25), i16, |x| x as f32, |w: f32| w.round() as i16);
number!(I32, Some(26), i32, |x| x as f32, |w: f32| w.round() as i32);
number!(I64, Some(27), i64, |x| x as f32, |w: f32| w.round() as i64);
number!(U8, None, u8, |x| x as f32, |w: f32| w.round() as u8);
number!(BOOL, None, u8, |x| f32::from(x != 0), |w: f32| u8::from(w.round() > 0.0));
