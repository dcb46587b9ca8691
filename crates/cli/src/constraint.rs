//! What an answer must look like.

use crate::input::file;
use crate::sampling::HEADING;
use anyhow::Result;
use clap::Args;
use std::path::Path;
use trine_grammar::{Constraint, Limits};

/// Options that say where an answer ends, as a constraint does.
pub const NOT_WITH: [&str; 3] = ["ignore_eos", "stop", "stop_token_ids"];

#[derive(Args)]
#[group(multiple = false)]
pub struct ConstraintArgs {
    /// Answer with JSON that a JSON Schema describes
    ///
    /// Drafts 4 to 2020-12; what is not supported is an error. Properties come in the order of the schema.
    #[arg(long, value_name = "FILE", help_heading = HEADING, value_parser = file(json_schema), conflicts_with_all = NOT_WITH)]
    json_schema: Option<Constraint>,
    /// Answer with a text that a regular expression matches as a whole
    #[arg(long, value_name = "REGEX", help_heading = HEADING, hide_short_help = true, allow_hyphen_values = true)]
    #[arg(conflicts_with_all = NOT_WITH)]
    regex: Option<String>,
    /// Answer with a text of a grammar, in GBNF or Lark
    ///
    /// The rules of GBNF are written with `::=`, and the answer is `root`. Those of Lark are written with `:`, and the answer is `start`.
    #[arg(long, value_name = "FILE", help_heading = HEADING, hide_short_help = true, value_parser = file(grammar))]
    #[arg(conflicts_with_all = NOT_WITH)]
    grammar: Option<Constraint>,
    /// Answer with one of these texts
    #[arg(
        long,
        value_name = "TEXT,...",
        help_heading = HEADING,
        hide_short_help = true,
        value_delimiter = ',',
        allow_hyphen_values = true,
        conflicts_with_all = NOT_WITH
    )]
    choices: Vec<String>,
}

impl ConstraintArgs {
    /// What was passed, checked as far as that needs no model.
    pub fn constraint(&self) -> Result<Option<Constraint>> {
        let file = self.json_schema.clone().or_else(|| self.grammar.clone());
        let text = file.or_else(|| self.regex.clone().map(Constraint::Regex));
        let choices = || (!self.choices.is_empty()).then(|| Constraint::Choices(self.choices.clone()));
        let constraint = text.or_else(choices);
        constraint.as_ref().map_or(Ok(()), Constraint::check)?;
        Ok(constraint)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = trine_tensor::read_small(path, Limits::default().bytes as u64);
    let text = String::from_utf8(bytes.map_err(|error| error.to_string())?);
    let text = text.map_err(|_| format!("{}: expected UTF-8, found other bytes", path.display()))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn json_schema(path: &Path) -> Result<Constraint, String> {
    read(path).map(Constraint::JsonSchema)
}

fn grammar(path: &Path) -> Result<Constraint, String> {
    read(path).map(Constraint::grammar)
}
