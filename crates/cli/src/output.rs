//! Output files, which appear only when they are complete.

use crate::exit::UsageError;
use crate::interrupt;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, ValueHint};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use trine_tensor::Replacement;

/// Refuses `-`: no file is written to standard output.
fn check_name(path: &Path) -> Result<(), UsageError> {
    if path == Path::new("-") {
        let message = "expected the name of a file, found `-`".to_owned();
        return Err(UsageError { message, hint: "./- is a file of this name" });
    }
    Ok(())
}

/// Checks that no file is replaced that nobody wants to have replaced; the hint says how.
///
/// # Errors
/// When there is a file at the path, which `force` allows, or the path is `-`.
pub fn check_new(path: &Path, force: bool, hint: &'static str) -> Result<(), UsageError> {
    check_name(path)?;
    if !force && path.is_file() {
        return Err(UsageError { message: format!("{}: expected no file, found one", path.display()), hint });
    }
    Ok(())
}

/// Checks that a file replaces only what was written as such a file: `begin` is what one begins with, white space left out.
///
/// # Errors
/// When there is another file at the path.
pub fn check_kind(path: &Path, begin: &str) -> Result<(), UsageError> {
    let mut found = Vec::new();
    let read = |file: File| file.take(64).read_to_end(&mut found);
    let is_other = path.is_file() && File::open(path).and_then(read).is_ok_and(|n| n > 0);
    let found: String = String::from_utf8_lossy(&found).split_whitespace().collect();
    if is_other && !found.starts_with(begin) {
        let message = format!("{}: expected no file, or one that this option wrote, found another", path.display());
        return Err(UsageError { message, hint: "choose another name" });
    }
    Ok(())
}

/// Arguments that name a file to write.
const OUTPUTS: [&str; 7] = ["out", "output", "profile", "save_baseline", "write_model", "svg", "png"];

/// Checks that no argument names a file to write that another argument names, too, to be read or written.
///
/// # Errors
/// When one does. `--baseline` is read before `--save-baseline` is written.
pub fn check_distinct(command: &Command, matches: &ArgMatches) -> Result<(), UsageError> {
    if let Some((name, matches)) = matches.subcommand() {
        return command.find_subcommand(name).map_or(Ok(()), |command| check_distinct(command, matches));
    }
    let is_path = |arg: &&Arg| {
        let is_file =
            arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "FILE" || name == "FILES"));
        is_file || arg.get_value_hint() == ValueHint::AnyPath
    };
    let named =
        |arg| matches.get_raw(Arg::get_id(arg).as_str()).into_iter().flatten().map(move |path| (arg, Path::new(path)));
    let paths: Vec<(&Arg, &Path)> = command.get_arguments().filter(is_path).flat_map(named).collect();
    let is_output = |arg: &Arg| OUTPUTS.contains(&arg.get_id().as_str());
    for &(arg, path) in paths.iter().filter(|(arg, path)| is_output(arg) && (path.is_file() || !path.exists())) {
        let may = |other: &Arg| arg.get_id() == "save_baseline" && other.get_id() == "baseline";
        let is_used = |other: &Arg, path: &Path| path.exists() || is_output(other);
        let others = paths.iter().filter(|(other, path)| other != &arg && !may(other) && is_used(other, path));
        if let Some((other, _)) = others.into_iter().find(|(_, other)| is_same_file(path, other)) {
            let message = format!("{}: expected another file, found that of {other}", path.display());
            return Err(UsageError { message, hint: "choose another name" });
        }
    }
    Ok(())
}

/// Whether two paths lead to the same file, by the same name or another.
fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    a == b || a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// A file that appears only when it is complete.
pub struct OutputFile {
    path: PathBuf,
    to: To,
}

enum To {
    /// A new file, or the replacement of an existing one.
    File(Replacement),
    /// A pipe or a device, which must not be replaced.
    Device(File),
}

impl OutputFile {
    /// Checks that the file can be written, before the work for it begins.
    ///
    /// # Errors
    /// When it cannot, or when it is `-`, or `input`, which is read, or a file in the folder `input`.
    pub fn new(path: &Path, input: &Path) -> Result<OutputFile> {
        check_name(path)?;
        let open = || -> io::Result<To> {
            if path.exists() && !path.is_file() {
                let file = interrupt::waiting(|| File::options().write(true).open(path))?;
                interrupt::watch(&file);
                return Ok(To::Device(file));
            }
            let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let is_inside = || target.parent().is_some_and(|folder| is_same_file(folder, input));
            if is_same_file(path, input) || path.exists() && is_inside() {
                return Err(io::Error::other("expected another file, found one that is read"));
            }
            Ok(To::File(Replacement::new(path)?))
        };
        Ok(OutputFile { path: path.to_owned(), to: open().with_context(|| path.display().to_string())? })
    }

    /// Writes the whole file.
    ///
    /// # Errors
    /// When `body` or the system fails.
    pub fn write(self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let OutputFile { path, to } = self;
        let write = || match to {
            To::Device(file) => {
                let mut out = BufWriter::new(file);
                body(&mut out)?;
                out.flush()
            }
            To::File(mut file) => {
                body(&mut file)?;
                file.finish()
            }
        };
        write().with_context(|| path.display().to_string())
    }
}
