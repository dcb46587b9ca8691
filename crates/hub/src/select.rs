//! Which files of a repository make a model.

use crate::name::near;

/// Formats that are chosen where nothing is said, in this order, as by llama.cpp; then the first model.
const DEFAULT_TAGS: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// What names GGUF files that are not models but stand beside them, in llama.cpp's `gguf_filename_is_model`.
const SIDECARS: [&str; 6] = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];

/// Small files that belong to a model of safetensors, by their endings.
const BESIDE: [&str; 5] = [".json", ".jinja", ".txt", ".model", ".tiktoken"];

/// The files that were chosen, the one that opens the model first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub files: Vec<String>,
    /// Whether the folder is the model, not its first file.
    pub is_folder: bool,
}

/// There is no such model.
#[derive(Debug, PartialEq, Eq)]
pub struct NoModel {
    pub expected: String,
    pub found: Vec<String>,
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn has_ending(path: &str, ending: &str) -> bool {
    path.len() > ending.len() && path.as_bytes()[path.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
}

fn is_gguf_model(path: &str) -> bool {
    has_ending(path, ".gguf") && !SIDECARS.iter().any(|part| file_name(path).contains(part))
}

/// The name of a shard without its number, its number and how many there are: `m-00002-of-00003.gguf`.
pub fn shard(path: &str) -> Option<(&str, u32, u32)> {
    let (stem, _) = path.rsplit_once('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, index) = rest.rsplit_once('-')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    Some((prefix, number(index)?, number(count)?))
}

/// The shards of a file in order, or the file.
fn shards<'a>(paths: &'a [String], first: &'a str) -> Result<Vec<&'a str>, NoModel> {
    let Some((prefix, _, count)) = shard(first) else { return Ok(vec![first]) };
    let ending = first.rsplit('.').next().unwrap_or_default();
    let is_shard = |path: &&String| {
        path.ends_with(ending)
            && shard(path).is_some_and(|(other, index, n)| other == prefix && n == count && (1..=n).contains(&index))
    };
    let mut found: Vec<&str> = paths.iter().filter(is_shard).map(String::as_str).collect();
    found.sort_unstable();
    found.dedup();
    if found.len() != count as usize {
        let expected = format!("{count} shards of {prefix}");
        return Err(NoModel { expected, found: found.into_iter().map(str::to_owned).collect() });
    }
    Ok(found)
}

fn is_first_shard(path: &str) -> bool {
    shard(path).is_none_or(|(_, index, _)| index == 1)
}

/// Whether a name has this tag between other letters and digits.
fn has_tag(path: &str, tag: &str) -> bool {
    let (path, tag) = (path.to_ascii_lowercase(), tag.to_ascii_lowercase());
    path.match_indices(&tag).any(|(at, _)| {
        let before = path[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric());
        before && path[at + tag.len()..].starts_with(['.', '-'])
    })
}

/// The GGUF model with this tag: that with the shortest name, since `m-UD-Q4_K_M.gguf` is another one than `m-Q4_K_M.gguf`.
fn tagged<'a>(models: &[&'a str], tag: &str) -> Option<&'a str> {
    models.iter().copied().filter(|path| has_tag(path, tag)).min_by_key(|path| (path.len(), *path))
}

/// Chooses the files of a model.
///
/// # Errors
/// When there are none, or none that the selector names.
pub fn select(paths: &[String], selector: Option<&str>) -> Result<Selection, NoModel> {
    let models: Vec<&str> =
        paths.iter().map(String::as_str).filter(|path| is_gguf_model(path) && is_first_shard(path)).collect();
    let gguf = |first: &str| {
        let files = shards(paths, first)?.into_iter().map(str::to_owned).collect();
        Ok(Selection { files, is_folder: false })
    };
    let Some(selector) = selector else {
        if let Some(first) = DEFAULT_TAGS.iter().find_map(|tag| tagged(&models, tag)).or(models.first().copied()) {
            return gguf(first);
        }
        return safetensors(paths);
    };
    if let Some(path) = paths.iter().find(|path| *path == selector) {
        if has_ending(path, ".safetensors") {
            let mut files = shards(paths, path)?.into_iter().map(str::to_owned).collect::<Vec<_>>();
            files.extend(beside(paths));
            return Ok(Selection { files, is_folder: true });
        }
        return gguf(path);
    }
    if let Some(first) = tagged(&models, selector) {
        return gguf(first);
    }
    let names = paths.iter().filter(|path| !has_ending(path, ".md") && !path.starts_with('.')).cloned();
    let mut found = near(selector, names.clone());
    if found.is_empty() {
        found =
            if models.is_empty() { names.collect() } else { models.iter().map(|path| (*path).to_owned()).collect() };
    }
    Err(NoModel { expected: format!("a file or a format of quantization `{selector}`"), found })
}

/// What a model of safetensors needs beside its weights: configuration, tokenizer, chat templates.
fn beside(paths: &[String]) -> Vec<String> {
    let belongs = |path: &&String| {
        let name = file_name(path);
        let is_other_index = name.ends_with(".index.json") && !name.ends_with(".safetensors.index.json");
        let is_small = BESIDE.iter().any(|ending| has_ending(name, ending)) && !is_other_index;
        // Modules of sentence-transformers are folders, such as `1_Pooling`.
        let is_module = |folder: &str| folder.starts_with(|c: char| c.is_ascii_digit()) && folder.contains('_');
        match path.split_once('/') {
            None => is_small && !name.starts_with('.'),
            Some(("additional_chat_templates", rest)) => !rest.contains('/') && is_small,
            Some((folder, rest)) => {
                is_module(folder) && !rest.contains('/') && (is_small || has_ending(name, ".safetensors"))
            }
        }
    };
    paths.iter().filter(belongs).cloned().collect()
}

fn safetensors(paths: &[String]) -> Result<Selection, NoModel> {
    let at_root = |path: &&String| !path.contains('/') && has_ending(path, ".safetensors");
    let all: Vec<&String> = paths.iter().filter(at_root).collect();
    let mut files: Vec<String> = if let Some(whole) = all.iter().find(|path| **path == "model.safetensors") {
        vec![(*whole).clone()]
    } else if let Some(first) = all.iter().find(|path| shard(path).is_some_and(|(prefix, ..)| prefix == "model")) {
        shards(paths, first)?.into_iter().map(str::to_owned).collect()
    } else {
        all.into_iter().cloned().collect()
    };
    if files.is_empty() {
        let found = paths.iter().filter(|path| !path.starts_with('.')).cloned().collect();
        return Err(NoModel { expected: "GGUF or safetensors files".to_owned(), found });
    }
    files.extend(beside(paths));
    Ok(Selection { files, is_folder: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str], selector: Option<&str>) -> Result<Vec<String>, NoModel> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        select(&paths, selector).map(|selection| selection.files)
    }

    const GGUF: &[&str] = &[
        ".gitattributes",
        "README.md",
        "imatrix.gguf",
        "m-IQ4_XS.gguf",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "m-UD-Q4_K_M.gguf",
        "mmproj-m-Q4_K_M.gguf",
        "BF16/m-BF16-00001-of-00002.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
    ];

    #[test]
    fn gguf_files_are_chosen_as_by_llama_cpp() {
        assert_eq!(chosen(GGUF, None).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen(GGUF, Some("q8_0")).unwrap(), ["m-Q8_0.gguf"]);
        assert_eq!(chosen(GGUF, Some("UD-Q4_K_M")).unwrap(), ["m-UD-Q4_K_M.gguf"]);
        assert_eq!(chosen(GGUF, Some("bf16")).unwrap(), [GGUF[8], GGUF[9]]);
        assert_eq!(chosen(GGUF, Some("m-IQ4_XS.gguf")).unwrap(), ["m-IQ4_XS.gguf"]);
        assert_eq!(chosen(GGUF, Some("mmproj-m-Q4_K_M.gguf")).unwrap(), ["mmproj-m-Q4_K_M.gguf"]);
        assert_eq!(chosen(GGUF, Some(GGUF[9])).unwrap(), [GGUF[8], GGUF[9]]);
        assert_eq!(chosen(&["m-Q8_0.gguf", "m-F16.gguf"], None).unwrap(), ["m-Q8_0.gguf"]);
        assert_eq!(chosen(&["m-Q5_K.gguf", "m-F16.gguf"], None).unwrap(), ["m-Q5_K.gguf"]);
        // A tag is not part of another.
        assert!(chosen(GGUF, Some("Q4_XS")).is_err() && chosen(GGUF, Some("Q4_K")).is_err());
        let none = chosen(GGUF, Some("m-Q4_K_S.gguf")).unwrap_err();
        assert_eq!(none.found[0], "m-Q4_K_M.gguf");
    }

    #[test]
    fn all_shards_are_needed() {
        let none = chosen(&["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], None).unwrap_err();
        assert_eq!((none.expected.as_str(), none.found.len()), ("3 shards of m", 2));
    }

    #[test]
    fn a_model_of_safetensors_has_its_configuration_and_tokenizer() {
        let paths = [
            ".gitattributes",
            "LICENSE",
            "README.md",
            "chat_template.jinja",
            "config.json",
            "consolidated.safetensors",
            "flax_model.msgpack",
            "generation_config.json",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "onnx/config.json",
            "original/params.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.json",
            "tokenizer.model",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "additional_chat_templates/rag.jinja",
        ];
        let expected = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer.model",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "additional_chat_templates/rag.jinja",
        ];
        assert_eq!(chosen(&paths, None).unwrap(), expected);
        let whole = ["config.json", "model.fp16.safetensors", "model.safetensors", "tf_model.h5"];
        assert_eq!(chosen(&whole, None).unwrap(), ["model.safetensors", "config.json"]);
        assert_eq!(chosen(&whole, Some("model.fp16.safetensors")).unwrap(), ["model.fp16.safetensors", "config.json"]);
        let none = chosen(&["README.md", "pytorch_model.bin"], None).unwrap_err();
        assert_eq!(none.expected, "GGUF or safetensors files");
    }
}
