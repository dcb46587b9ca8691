//! Models of a hub by their names, and the variables of Hugging Face's programs.
//!
//! `OWNER/REPO` names a model of the cache wherever a command takes one, unless there is a file or folder of this name. Only `trine pull`
//! reaches for a network.

use crate::exit::UsageError;
use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser, ValueParser};
use clap::{Arg, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use trine_hub::{Cache, HubOptions, Reference};

/// Bytes of a file of certificates.
const CERTIFICATES: u64 = 16 << 20;

/// Arguments that are models in some commands, where they are paths.
const MODELS: [&str; 9] =
    ["model", "models", "input", "first", "second", "reference", "reference_model", "embedding_model", "against"];

/// A variable that is set, and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of Hugging Face's programs.
fn home() -> Option<PathBuf> {
    let of_user = || {
        Some(
            variable("XDG_CACHE_HOME")
                .map_or_else(|| Some(dirs::home_dir()?.join(".cache")), |path| Some(path.into()))?
                .join("huggingface"),
        )
    };
    variable("HF_HOME").map(PathBuf::from).or_else(of_user)
}

/// The folder of downloaded models.
pub fn cache() -> Option<Cache> {
    let folder = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
    folder.or_else(|| Some(home()?.join("hub"))).map(Cache::new)
}

/// Where models come from and go to.
///
/// # Errors
/// When variables forbid it, or name a file that cannot be read.
pub fn options() -> Result<HubOptions> {
    if variable("HF_HUB_OFFLINE")
        .is_some_and(|value| !["0", "false", "no", "off"].iter().any(|off| value.eq_ignore_ascii_case(off)))
    {
        let message = "expected a network, found HF_HUB_OFFLINE".to_owned();
        return Err(UsageError { message, hint: "unset it to download" }.into());
    }
    let cache =
        cache().context("expected a home folder of the user, found none: HF_HUB_CACHE names a folder for models")?;
    let mut options = HubOptions::new(cache.root().to_owned());
    let text = |name: &'static str| {
        let text = variable(name).map(OsString::into_string).transpose();
        text.map_err(|_| UsageError { message: format!("{name}: expected UTF-8"), hint: "set it again" })
    };
    if let Some(endpoint) = text("HF_ENDPOINT")? {
        options.endpoint = endpoint;
    }
    options.token = match text("HF_TOKEN")? {
        Some(token) => Some(token.trim().to_owned()),
        None => saved_token()?,
    };
    if let Some(path) = variable("SSL_CERT_FILE").or_else(|| variable("REQUESTS_CA_BUNDLE")).map(PathBuf::from) {
        options.certificates = Some(trine_tensor::read_small(&path, CERTIFICATES)?);
    }
    Ok(options)
}

/// The token that `hf auth login` wrote.
fn saved_token() -> Result<Option<String>> {
    let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home()?.join("token")));
    let Some(path) = path.filter(|path| path.is_file()) else { return Ok(None) };
    let bytes = trine_tensor::read_small(&path, 1 << 16)?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// The model that a path may name instead of a file.
fn reference(path: &Path) -> Option<Reference> {
    let text = path.to_str()?;
    let (repo, _) = text.split_once(':').unwrap_or((text, ""));
    text.parse().ok().filter(|_| repo.contains('/'))
}

/// The file or folder of a model: what the path names, else a model of the cache.
fn resolve(path: PathBuf) -> PathBuf {
    if path.exists() {
        return path;
    }
    let found = reference(&path).and_then(|reference| cache()?.find(&reference, None));
    found.unwrap_or(path)
}

/// The command line, whose models may be named as on the hub.
pub fn with_models(command: Command) -> Command {
    let is_run = command.get_name() == "run";
    let is_path = |arg: &Arg| arg.get_value_parser().type_id() == ValueParser::path_buf().type_id();
    let named = |arg: Arg| match arg.get_id().as_str() {
        id if !MODELS.contains(&id) || !is_path(&arg) => arg,
        // It refuses an empty name itself.
        _ if is_run => arg.value_parser(OsStringValueParser::new().map(|name| resolve(name.into()))),
        _ => arg.value_parser(PathBufValueParser::new().map(resolve)),
    };
    command.mut_args(named).mut_subcommands(with_models)
}

/// Refuses to write to a file of the cache, whose name is its hash.
pub fn check_not_cached(path: &Path) -> Result<(), UsageError> {
    let (Some(cache), Ok(file)) = (cache(), path.canonicalize()) else { return Ok(()) };
    if !cache.root().canonicalize().is_ok_and(|folder| file.starts_with(folder)) {
        return Ok(());
    }
    let message = format!("{}: expected a file of your own, found one of the cache of models", path.display());
    Err(UsageError { message, hint: "copy it, or write another with `trine convert`" })
}

/// What downloads the model that a path may name.
pub fn hint(path: &Path) -> Option<String> {
    let reference = reference(path)?;
    let is_file = path.extension().is_some_and(|end| ["gguf", "safetensors", "json"].iter().any(|known| end == *known));
    let in_folder = path.parent().is_some_and(Path::exists);
    (!is_file && !in_folder)
        .then(|| format!("check the path; if it is a model of a hub, `trine pull {reference}` downloads it"))
}
