use crate::conversion::Conversion;
use crate::exit::Exit;
use anyhow::Result;
use clap::Args;
use trine_lab::quantize::Recipe;

/// Merge the files of a split model
///
/// The input is one of the files, or a folder with them. Files of different models are refused.
#[derive(Args)]
#[command(after_help = "Example:\n  trine merge parts/model-00001-of-00003.gguf model.gguf")]
pub struct Merge {
    #[command(flatten)]
    conversion: Conversion,
}

impl Merge {
    pub fn run(self) -> Result<Exit> {
        self.conversion.run(Recipe::default(), None, None)
    }
}
