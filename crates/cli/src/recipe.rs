//! Which format each tensor gets, as options say it.

use crate::exit::UsageError;
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trine_lab::imatrix::Imatrix;
use trine_lab::quantize::{MIXES, Mix, Recipe, Rule, Target, names};
use trine_tensor::format::I8;
use trine_tensor::{FORMATS, Format, format};

/// The formats of a new file.
#[derive(Args)]
#[command(next_help_heading = "Formats")]
pub struct RecipeArgs {
    /// Format of matrices, such as q4_k_m, q8_0 or i2_s
    ///
    /// A mixture of llama.cpp, which gives some matrices more bits, or one format. Q4_K, Q5_K and Q3_K are short for
    /// the mixtures with _M. w8a8 makes a folder of 8-bit integers with a scale for each row.
    #[arg(short, long, visible_alias = "to", value_name = "NAME")]
    format: Option<String>,
    /// Give all matrices the format, without a mixture
    #[arg(long, requires = "format")]
    pure: bool,
    /// Format of tensors in whose names a regular expression matches, such as 'ffn_down=q6_k'; may be repeated, the first match counts
    #[arg(long, visible_alias = "tensor-type", value_name = "REGEX=NAME")]
    tensor: Vec<String>,
    /// Format of layers, such as 0-3=q8_0; may be repeated
    #[arg(long, value_name = "LAYERS=NAME")]
    layers: Vec<String>,
    /// Format of the token embedding
    #[arg(long, visible_alias = "token-embedding-type", value_name = "NAME")]
    embedding_type: Option<String>,
    /// Format of the output head
    #[arg(long, visible_alias = "output-tensor-type", value_name = "NAME")]
    output_type: Option<String>,
    /// Importance matrix, from `trine imatrix` or llama-imatrix: columns with large inputs are kept best
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Make a model ternary that is not, or of one bit, for such a format: it will be useless until it is trained
    #[arg(long)]
    really: bool,
    /// Weights of a block, for formats that have a choice: q2_0, of 64 or 128
    #[arg(long, value_name = "N", requires = "format")]
    block_size: Option<usize>,
}

impl RecipeArgs {
    /// Whether anything is asked for.
    pub fn is_empty(&self) -> bool {
        let named = self.format.is_some() || self.embedding_type.is_some() || self.output_type.is_some();
        !named && self.tensor.is_empty() && self.layers.is_empty()
    }

    /// The options that choose formats within a file, and whether they are given.
    pub fn within_files(&self) -> [(&'static str, bool); 8] {
        [
            ("--imatrix", self.imatrix.is_some()),
            ("--tensor", !self.tensor.is_empty()),
            ("--layers", !self.layers.is_empty()),
            ("--embedding-type", self.embedding_type.is_some()),
            ("--output-type", self.output_type.is_some()),
            ("--really", self.really),
            ("--pure", self.pure),
            ("--block-size", self.block_size.is_some()),
        ]
    }

    /// The file of the importance matrix.
    pub fn imatrix(&self) -> Option<&Path> {
        self.imatrix.as_deref()
    }

    /// What the options ask for.
    ///
    /// # Errors
    /// When a format or rule cannot be read, or the importance matrix.
    pub fn recipe(&self) -> Result<Recipe> {
        let usage = |flag: &str, error: trine_lab::quantize::Error| UsageError {
            message: format!("{flag}: {error}"),
            hint: "trine quantize --help has examples",
        };
        let tensors = self.tensor.iter().map(|text| Rule::of_tensors(text).map_err(|error| usage("--tensor", error)));
        let layers = self.layers.iter().map(|text| Rule::of_layers(text).map_err(|error| usage("--layers", error)));
        let one = |flag: &str, name: &Option<String>| name.as_deref().map(|name| plain(flag, name)).transpose();
        Ok(Recipe {
            target: self.format.as_deref().map(|name| self.target(name)).transpose()?,
            rules: tensors.chain(layers).collect::<Result<_, _>>()?,
            embedding: one("--embedding-type", &self.embedding_type)?,
            output: one("--output-type", &self.output_type)?,
            imatrix: self.imatrix.as_deref().map(Imatrix::read).transpose()?.map(Arc::new),
            ternarize: self.really,
            ..Recipe::default()
        })
    }

    fn target(&self, name: &str) -> Result<Target, UsageError> {
        if name.eq_ignore_ascii_case("w8a8") {
            return Ok(Target::Format(&I8));
        }
        let mix = Mix::by_name(name);
        let format = match (mix, self.pure) {
            (Some(mix), false) => {
                self.check_block(mix.name, mix.format)?;
                return Ok(Target::Mix(mix));
            }
            (Some(mix), true) => storable(name).unwrap_or(mix.format),
            (None, _) => plain("--format", name)?,
        };
        if let Some(size) = self.block_size
            && let Some(other) = of_block(format, size)
        {
            return Ok(Target::Format(other));
        }
        self.check_block(format.name, format)?;
        Ok(Target::Format(format))
    }

    /// Refuses a size of blocks that a format does not have.
    fn check_block(&self, name: &str, format: &Format) -> Result<(), UsageError> {
        match self.block_size {
            Some(size) if size != format.block => Err(UsageError {
                message: format!(
                    "--block-size {size}: {name} has {} weights in a block, by its definition",
                    format.block
                ),
                hint: "q2_0 alone has a choice, 64 or 128; smaller blocks of other formats are formats of their own, such as q4_0 beside q4_k",
            }),
            _ => Ok(()),
        }
    }
}

/// The mixture or format of this name.
///
/// # Errors
/// When there is none.
pub fn target(flag: &str, name: &str) -> Result<Target, UsageError> {
    Mix::by_name(name).map_or_else(|| plain(flag, name).map(Target::Format), |mix| Ok(Target::Mix(mix)))
}

/// The same format with other blocks.
fn of_block(format: &Format, size: usize) -> Option<&'static Format> {
    let family = |name: &str| name.strip_suffix("_128").unwrap_or(name).to_owned();
    FORMATS.iter().copied().find(|other| family(other.name) == family(format.name) && other.block == size)
}

fn storable(name: &str) -> Option<&'static Format> {
    format::by_name(name).filter(|format| format.stores_models())
}

/// The format of this name.
fn plain(flag: &str, name: &str) -> Result<&'static Format, UsageError> {
    storable(name).ok_or_else(|| match Mix::by_name(name) {
        Some(mix) => UsageError {
            message: format!("{flag}: expected one format, found the mixture `{name}`, which is mostly {}", mix.format),
            hint: "mixtures are for --format",
        },
        None => UsageError {
            message: format!("{flag}: expected one of {}, found `{name}`", all()),
            hint: "for example q4_k_m",
        },
    })
}

/// The names of mixtures and formats.
fn all() -> String {
    let mixes: Vec<&str> = MIXES.iter().map(|mix| mix.name).collect();
    let formats = names();
    let formats: Vec<&str> = formats.split(", ").filter(|name| !mixes.contains(name)).collect();
    [mixes, formats].concat().join(", ")
}
