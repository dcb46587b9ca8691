use crate::conversion::{self, Conversion};
use crate::exit::Exit;
use anyhow::Result;
use clap::Args;
use trine_lab::quantize::{Recipe, names};

/// Convert a model to another number format
///
/// Matrices are converted, vectors are kept. Rows that are not multiples of 256 weights get a format of about as many bits with
/// blocks of 32. A ternary format (TQ1_0, TQ2_0, I2_S, TL1, TL2, IQ1_BN, ...) accepts only weights that are ternary already,
/// and keeps the embedding and the head. The input must be a model that `trine run` can run.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine quantize model-f16.gguf model-q4_k.gguf --format q4_k\n  \
    trine quantize bitnet-tq2_0.gguf bitnet-i2_s.gguf --format i2_s\n  \
    trine quantize Qwen3-0.6B/ qwen3-q8_0.gguf --format q8_0")]
pub struct Quantize {
    #[command(flatten)]
    conversion: Conversion,
    /// Format, such as q8_0, q4_k or i2_s
    #[arg(short, long, visible_alias = "to", value_name = "NAME")]
    #[arg(long_help = format!("Format, one of {}", names().to_lowercase()))]
    format: String,
}

impl Quantize {
    pub fn run(self) -> Result<Exit> {
        let format = conversion::format(&self.format)?;
        self.conversion.run(&Recipe { format: Some(format) })
    }
}
