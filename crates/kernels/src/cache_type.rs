//! What the KV cache keeps keys and values as.

use crate::simd::LANES;
use std::fmt;
use std::str::FromStr;
use trine_tensor::Format;
use trine_tensor::format::{BF16, F16, F32, Q4_0, Q8_0};

/// The formats that a KV cache can have. A new one is a row here and an arm in `unpack` of `kv.rs`.
pub static KV_FORMATS: &[&Format] = &[&F32, &F16, &BF16, &Q8_0, &Q4_0];

/// What keys and values are kept as, each in one of [`KV_FORMATS`]: `q8_0`, or `q8_0/q4_0` for keys and values that differ.
///
/// Rows of a block format are kept rotated by a Hadamard transform, as are the queries that meet such keys, and what is read of such values is
/// rotated back: an outlier in one number of a head then costs all of them a little, not its block much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheType {
    pub keys: &'static Format,
    pub values: &'static Format,
}

impl CacheType {
    pub const F32: CacheType = CacheType::both(&F32);

    /// Keys and values in one format.
    pub const fn both(format: &'static Format) -> CacheType {
        CacheType { keys: format, values: format }
    }

    /// Both formats, keys first.
    pub fn formats(self) -> [&'static Format; 2] {
        [self.keys, self.values]
    }

    /// Whether a cache can have both formats.
    pub fn is_supported(self) -> bool {
        self.formats().iter().all(|format| KV_FORMATS.contains(format))
    }

    /// Elements that rows are padded to a multiple of.
    pub(crate) fn block(self) -> usize {
        LANES.max(self.keys.block).max(self.values.block)
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.keys.name.to_lowercase())?;
        if self.values == self.keys { Ok(()) } else { write!(f, "/{}", self.values.name.to_lowercase()) }
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<CacheType, String> {
        let format = |name: &str| {
            let known = KV_FORMATS.iter().copied().find(|format| format.name.eq_ignore_ascii_case(name));
            known.ok_or_else(|| {
                let names: Vec<String> = KV_FORMATS.iter().map(|format| format.name.to_lowercase()).collect();
                let names = names.join(", ");
                format!("expected one of {names}, or two as KEYS/VALUES, found `{name}`")
            })
        };
        let (keys, values) = text.split_once('/').unwrap_or((text, text));
        Ok(CacheType { keys: format(keys)?, values: format(values)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["f32", "q8_0", "q8_0/q4_0", "bf16/f16"] {
            assert_eq!(name.parse::<CacheType>().unwrap().to_string(), name);
        }
        assert_eq!("Q8_0/q8_0".parse::<CacheType>().unwrap().to_string(), "q8_0");
        for (name, wrong) in [("q5_1", "q5_1"), ("q8_0/", ""), ("f16/q4_0/q4_0", "q4_0/q4_0")] {
            let expected =
                format!("expected one of f32, f16, bf16, q8_0, q4_0, or two as KEYS/VALUES, found `{wrong}`");
            assert_eq!(name.parse::<CacheType>().unwrap_err(), expected);
        }
    }
}
