//! Keys that nothing computed here depends on, and where the program that made the file ignores them as well.

/// Keys that change no logits.
#[derive(Debug)]
pub struct IgnoredKeys {
    pub keys: &'static [&'static str],
    /// Why they change nothing.
    pub reason: &'static str,
}

/// Keys of `config.json`. `golden/keys.py` changes each and compares the logits of transformers.
pub static IGNORED_HF_KEYS: &[IgnoredKeys] = &[
    IgnoredKeys {
        keys: &["architectures", "auto_map", "_name_or_path", "transformers_version", "custom_pipelines", "model_name"],
        reason: "names of the model and its code: `model_type` says what is computed",
    },
];

/// Keys of an architecture in GGUF, without its prefix.
pub static IGNORED_GGUF_KEYS: &[IgnoredKeys] = &[];

pub(super) fn is_ignored(table: &[IgnoredKeys], key: &str) -> bool {
    table.iter().any(|row| row.keys.contains(&key))
}
