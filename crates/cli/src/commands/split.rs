use crate::conversion::Conversion;
use crate::exit::Exit;
use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use trine_lab::quantize::Recipe;

/// Split a model into several files
///
/// The files are OUTPUT-00001-of-00003.gguf and so on, as llama.cpp names them, or OUTPUT.gguf if one is enough. Every command opens all of them by the name of one.
/// They appear when all are complete.
#[derive(Args)]
#[command(mut_arg("shard_size", |arg| arg.help("Size of a file [default: 5GB]")))]
#[command(after_help = "Example:\n  trine split model.gguf parts/model --shard-size 2GB")]
pub struct Split {
    #[command(flatten)]
    conversion: Conversion,
}

impl Split {
    pub fn run(mut self) -> Result<Exit> {
        self.conversion.shard_size.get_or_insert(ByteSize::gb(5));
        self.conversion.name_gguf();
        self.conversion.run(Recipe::default(), None, None)
    }
}
