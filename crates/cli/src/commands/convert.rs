use crate::conversion::Conversion;
use crate::exit::Exit;
use crate::recipe::RecipeArgs;
use anyhow::Result;
use clap::Args;

/// Convert a model from Hugging Face to GGUF, or back
///
/// An output whose name ends with .gguf is a GGUF file, any other a folder that transformers loads.
///
/// The output has the tokenizer, the chat template and the sampling defaults of the folder. Without --format, every weight stays
/// exactly what it is when the folder runs: matrices keep F32, F16 or BF16; those of GPTQ and AWQ become Q4_0 or Q8_0, and those of
/// FP8 BF16, where these hold them exactly, and else F32; those of BitNet become I2_S, whose scale is a float32 (--format tq2_0 is
/// what llama.cpp reads). Norms and biases become F32. One tensor at a time is in memory.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine convert Qwen3-0.6B/ qwen3.gguf\n  \
    trine convert Qwen3-0.6B/ qwen3-q8_0.gguf --format q8_0\n  \
    trine convert bitnet-b1.58-2B-4T/ bitnet.gguf --dry-run\n  \
    trine convert model.gguf folder/ --format bf16\n  \
    trine convert model.gguf w8a8/ --format w8a8")]
pub struct Convert {
    #[command(flatten)]
    conversion: Conversion,
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Convert {
    pub fn run(self) -> Result<Exit> {
        let recipe = self.recipe.recipe()?;
        match self.conversion.is_gguf() {
            true => self.conversion.run(recipe, self.recipe.imatrix(), None),
            false => self.conversion.run_folder(&recipe, &self.recipe),
        }
    }
}
