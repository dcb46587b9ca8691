//! How measurements are printed.

use crate::table;
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::Write;

/// The form of a report.
#[derive(Args, Clone, Copy)]
pub struct ReportArgs {
    /// Form of the report: text, md, csv or json
    ///
    /// csv has a row for each test, with all numbers as they are; json has one line.
    #[arg(short, long, value_name = "FORM", value_enum, default_value = "text", hide_possible_values = true)]
    output: ReportFormat,
    /// Print one line of JSON; unknown values are null
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// The commit that the program was built from: `TRINE_COMMIT` when it was compiled.
pub fn commit() -> Option<String> {
    option_env!("TRINE_COMMIT").map(str::to_owned)
}

/// The command line, as somebody may type it again.
pub fn command() -> String {
    let quoted = |word: std::borrow::Cow<str>| match word.contains([' ', '*', '\'', '"', '$', '\\']) {
        true => format!("'{}'", word.replace('\'', "'\\''")),
        false => word.into_owned(),
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy()));
    std::iter::once("trine".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    #[value(name = "md", alias = "markdown")]
    Markdown,
    Csv,
    Json,
}

impl ReportArgs {
    pub fn format(self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.output }
    }

    /// Prints a report whose results are in the list `results` of the object `report`, or as `rows` of text below a row of titles. `left`
    /// columns are text, `legend` says what the others are.
    pub fn print<const N: usize>(self, report: &Value, rows: &[[String; N]], left: usize, legend: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match self.format() {
            ReportFormat::Json => {
                let mut report = report.clone();
                (report["commit"], report["command"]) = (commit().into(), command().into());
                writeln!(out, "{report}")?;
            }
            ReportFormat::Csv => {
                let results = report["results"].as_array().map_or(&[][..], Vec::as_slice);
                writeln!(out, "{}", table::csv(results))?;
            }
            format => {
                writeln!(out, "{}", format.table(rows, left))?;
                if !legend.is_empty() {
                    writeln!(out, "\n{legend}")?;
                }
            }
        }
        Ok(())
    }
}

impl ReportFormat {
    /// A table of rows, whose first `left` columns are text.
    pub fn table<const N: usize>(self, rows: &[[String; N]], left: usize) -> String {
        match self {
            ReportFormat::Markdown => table::markdown(rows, left),
            _ => table::columns(rows, left),
        }
    }
}
