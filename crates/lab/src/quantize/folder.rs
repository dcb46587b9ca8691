//! Writes a model as a Hugging Face folder.

use super::ConversionProfile;
use super::Error;
use super::write::pooled;
use std::ops::ControlFlow;
use std::path::Path;
use trine_model::{GgufModel, HfModel, Language, ModuleFile, Spec};
use trine_tensor::format::{I8, U8};
use trine_tensor::{File, NewFolder, safetensors};

/// Checks that there is no folder, or an empty one.
///
/// # Errors
/// When there is another.
pub fn check_folder(output: &Path) -> Result<(), Error> {
    if output.exists() && !output.read_dir().is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(Error::Occupied { path: output.display().to_string() });
    }
    Ok(())
}

/// Writes `model`, as `hf` has it, to the folder `output`, which must not exist or be empty: `config.json`, safetensors in files of `shard_size`
/// bytes, tokenizer, chat templates and generation settings, and what sentence-transformers needs for embeddings. The folder appears when it is complete.
/// `profile` learns what each tensor took.
///
/// # Errors
/// When a folder of transformers cannot say what the model is, or a file cannot be read or written.
pub fn write_folder(
    model: &GgufModel,
    hf: &HfModel,
    output: &Path,
    shard_size: u64,
    profile: Option<&mut ConversionProfile>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), Error> {
    let at = |error: std::io::Error| Error::File(trine_tensor::Error::Write(error).at(output));
    check_folder(output)?;
    let folder = NewFolder::new(output).map_err(at)?;
    let files = Language::folder_files(model.metadata())?;
    let config = choose(model, hf, folder.path())?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        parent.and_then(|()| std::fs::write(&path, text)).map_err(at)
    };
    write("config.json", &config)?;
    for (name, text) in &files {
        write(name, text)?;
    }
    for module in hf.modules()? {
        match module {
            ModuleFile::Text(name, text) => write(&name, &text)?,
            ModuleFile::Matrix(name, matrix) => safetensors::write(folder.path().join(name), &[matrix])?,
        }
    }
    let mut writer = safetensors::create_shards(folder.path(), hf.tensors().to_vec(), shard_size)?;
    pooled(progress, profile, |pool| {
        for (i, info) in hf.tensors().iter().enumerate() {
            let size = info.size()?;
            pool.next(size, model)?;
            let view = pool.read(info, || Ok(hf.read(i)?))?;
            match [&U8, &I8].contains(&info.format) {
                // Packed already.
                true => pool.write(|| writer.tensor(&view.bytes))?,
                false => pool.rewrite(view, None, info, size, &mut writer)?,
            }
        }
        pool.next(0, model)
    })?;
    writer.finish()?;
    folder.finish().map_err(at)
}

/// The configuration with which the folder is the same model, tried on files without weights.
fn choose(model: &GgufModel, hf: &HfModel, folder: &Path) -> Result<String, Error> {
    let at = |error: std::io::Error| Error::File(trine_tensor::Error::Write(error).at(folder));
    // It is never finished.
    let empty = NewFolder::new(&folder.join("empty")).map_err(at)?;
    let mut writer = safetensors::create_shards(empty.path(), hf.tensors().to_vec(), u64::MAX)?;
    hf.tensors().iter().try_for_each(|_| writer.hole())?;
    writer.finish()?;
    let mut what = String::new();
    for config in hf.configs() {
        let text = serde_json::to_string_pretty(config).expect("an object of plain values");
        std::fs::write(empty.path().join("config.json"), &text).map_err(at)?;
        let file = File::open(empty.path())?;
        match Spec::of(&file).map(|spec| model.spec().difference(&spec)) {
            Ok(None) => return Ok(text),
            Ok(Some(difference)) => what = difference.to_owned(),
            Err(error) => what = error.to_string(),
        }
    }
    Err(Error::Inexpressible { arch: model.spec().arch.name(), what })
}
