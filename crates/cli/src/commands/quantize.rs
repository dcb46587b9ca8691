use crate::conversion::Conversion;
use crate::exit::{Exit, UsageError};
use crate::recipe::RecipeArgs;
use crate::search::SearchArgs;
use anyhow::Result;
use clap::Args;

/// Convert a model to another number format
///
/// Matrices are converted, vectors are kept. The mixtures of llama.cpp, such as q4_k_m, give those tensors more bits that
/// llama-quantize gives more; --pure gives all the same. Rows that are not multiples of 256 weights get a format of about as many bits
/// with blocks of 32. --imatrix tells which columns matter most. --target-bpw chooses a mixture of its own: it measures what each
/// format costs in each group of tensors, as the divergence of the model's predictions.
///
/// A ternary format (TQ1_0, TQ2_0, I2_S, TL1, TL2, IQ1_BN, ...) accepts only weights that are ternary already, and keeps the embedding
/// and the head. The input must be a model that `trine run` can run.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine quantize f16.gguf q4.gguf --format q4_k_m\n  \
    trine quantize Qwen3-0.6B/ qwen3-q8_0.gguf --format q8_0\n  \
    trine quantize f16.gguf iq2.gguf --format iq2_m --imatrix imatrix.gguf\n  \
    trine quantize f16.gguf my.gguf -f q4_k --tensor ffn_down=q6_k\n  \
    trine quantize f16.gguf my.gguf -f q4_k --layers 0-1=q8_0\n  \
    trine quantize f16.gguf 4.gguf --target-bpw 4.2 --text text.txt\n  \
    trine quantize f16.gguf q4.gguf -f q4_k --profile trace.json\n  \
    trine quantize bitnet-tq2_0.gguf bitnet-i2_s.gguf --format i2_s")]
pub struct Quantize {
    #[command(flatten)]
    conversion: Conversion,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    search: SearchArgs,
}

impl Quantize {
    pub fn run(self) -> Result<Exit> {
        if self.recipe.is_empty() && !self.search.is_some() {
            let message = "expected --format, or formats of some tensors".to_owned();
            return Err(UsageError { message, hint: "for example --format q4_k_m" }.into());
        }
        self.conversion.run(self.recipe.recipe()?, self.recipe.imatrix(), Some(&self.search))
    }
}
