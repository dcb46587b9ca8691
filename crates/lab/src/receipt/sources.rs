//! The files that a model is made of, and their hashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use trine_tensor::receipt::{Sha256, SourceFile};
use trine_tensor::{Error, File, FileFormat};

/// Files of a folder that are read for a model beside its weights.
const BESIDE: [&str; 16] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "quantize_config.json",
    "quant_config.json",
    "modules.json",
];

/// The files of a model: its weights, and what is read beside those of a folder. None for the model in the program.
pub(crate) fn source_files(file: &File) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = file.files().iter().filter(|path| path.is_file()).cloned().collect();
    if let (FileFormat::Safetensors, Some(folder)) =
        (file.format(), file.files().first().and_then(|path| path.parent()))
    {
        files.extend(beside(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }));
    }
    files
}

/// A file, or those of a folder that are read beside weights.
pub(super) fn beside(path: &Path) -> Vec<PathBuf> {
    match path.is_dir() {
        true => BESIDE.iter().map(|name| path.join(name)).filter(|path| path.is_file()).collect(),
        false => vec![path.to_path_buf()],
    }
}

/// A file's name without its folder.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The hashes of files; `None` if it was stopped.
fn hash_files(files: &[PathBuf], stop: &AtomicBool) -> Result<Option<Vec<SourceFile>>, Error> {
    let mut hashes = Vec::new();
    for path in files {
        let at = |error| Error::Io(error).at(path);
        let input = fs::File::open(path).map_err(at)?;
        let Some(sha256) = Sha256::of_reader(input, || !stop.load(Relaxed)).map_err(at)? else { return Ok(None) };
        hashes.push(SourceFile { name: name(path), sha256 });
    }
    Ok(Some(hashes))
}

/// Does some work while the files are hashed. `proceed` is asked while the hashes take longer.
pub(crate) fn hash_together<T, E: From<Error>>(
    files: &[PathBuf],
    work: impl FnOnce() -> Result<T, E>,
    mut proceed: impl FnMut(T) -> Result<T, E>,
) -> Result<(T, Vec<SourceFile>), E> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hashes = scope.spawn(|| hash_files(files, &stop));
        let wait = || -> Result<T, E> {
            let mut done = work()?;
            while !hashes.is_finished() {
                done = proceed(done)?;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(done)
        };
        let done = wait();
        stop.store(done.is_err(), Relaxed);
        let hashes = hashes.join().expect("hashing does not panic");
        Ok((done?, hashes?.expect("it was not stopped")))
    })
}
