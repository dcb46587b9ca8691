//! The keys of the small files beside a tokenizer, and of a GGUF file's tokenizer: which are read, which change nothing, and which are reported
//! because nothing here does what they say.

use super::files::FileKeys;
use super::ignored::IgnoredKeys;
use serde_json::Value;
use trine_tensor::{Metadata, Value as Metadatum};

/// Warnings about keys `tokenizer.*` of a GGUF file.
pub(crate) fn check_tokenizer(metadata: &Metadata) -> Vec<String> {
    let full = |value: &Metadatum| !matches!(value, Metadatum::Array(list) if list.is_empty());
    let values = metadata.iter().filter(|(key, _)| key.starts_with("tokenizer."));
    GGUF_TOKENIZER.check(&values.map(|(key, value)| (key.to_owned(), full(value).into())).collect())
}

pub(super) fn empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(value) => !value,
        _ => false,
    }
}

pub static TOKENIZER_CONFIG: FileKeys = FileKeys {
    file: "tokenizer_config.json",
    read: &[
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
        "model_specific_special_tokens",
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "chat_template",
        "legacy",
        "tokenizer_class",
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "truncation_side",
        "model_max_length",
        "*_token",
    ],
    ignored: &[
        IgnoredKeys {
            keys: &[
                "padding_side",
                "padding",
                "truncation",
                "truncation_strategy",
                "max_length",
                "stride",
                "pad_to_multiple_of",
                "pad_token_type_id",
                "pad_token_id",
                "max_len",
                "model_input_names",
                "return_token_type_ids",
            ],
            reason: "they shape batches; `__call__` of transformers pads and truncates only where it is told to",
        },
        IgnoredKeys {
            keys: &[
                "clean_up_tokenization_spaces",
                "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
                "spaces_between_special_tokens",
                "errors",
                "trim_offsets",
            ],
            reason: "they change how `decode` of transformers shows tokens, not which are read or generated; llama.cpp ignores them",
        },
        IgnoredKeys {
            keys: &[
                "use_default_system_prompt",
                "response_template",
                "response_schema",
                "chat_control_tokens",
                "tool_parser_type",
            ],
            reason: "templates and parsers of other programs: the chat template alone writes a prompt",
        },
        IgnoredKeys {
            keys: &[
                "sp_model_kwargs",
                "use_fast",
                "from_slow",
                "backend",
                "fast_tokenizer_files",
                "add_special_tokens",
            ],
            reason: "they choose the implementation in transformers, or are arguments of calls",
        },
        IgnoredKeys {
            keys: &[
                "tokenizer_type",
                "model_type",
                "processor_class",
                "auto_map",
                "trust_remote_code",
                "name_or_path",
                "_name_or_path",
                "_commit_hash",
                "transformers_version",
                "special_tokens_map_file",
                "tokenizer_file",
                "vocab_file",
                "merges_file",
                "is_local",
                "local_files_only",
                "cache_dir",
                "device_map",
                "init_inputs",
                "verbose",
                "deprecation_warnings",
                "vocab_size",
                "fix_mistral_regex",
            ],
            reason: "they tell where files come from; transformers takes the files of the folder, too",
        },
        IgnoredKeys {
            keys: &["bos_token_id", "eos_token_id", "unk_token_id", "sep_token_id", "cls_token_id", "mask_token_id"],
            reason: "transformers finds ids by the names of tokens",
        },
        IgnoredKeys {
            keys: &["do_basic_tokenize", "never_split", "wordpieces_prefix"],
            reason: "tokenizer.json has what they mean, and the fast tokenizers of transformers read it from there",
        },
    ],
    neutral: &[("split_special_tokens", empty)],
};

pub static SPECIAL_TOKENS_MAP: FileKeys = FileKeys {
    file: "special_tokens_map.json",
    read: &["additional_special_tokens", "extra_special_tokens", "*_token"],
    ignored: &[],
    neutral: &[],
};

/// Keys of GGUF. For [`FileKeys::neutral`], their value is whether they have one that is not empty.
pub static GGUF_TOKENIZER: FileKeys = FileKeys {
    file: "GGUF",
    read: &[
        "tokenizer.chat_template",
        "tokenizer.chat_template.*",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.token_type_count",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.separator_token_id",
        "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.cls_token_id",
        "tokenizer.ggml.mask_token_id",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_eos_token",
        "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.remove_extra_whitespaces",
        "tokenizer.ggml.precompiled_charsmap",
        "tokenizer.ggml.normalizer.lowercase",
        "tokenizer.ggml.normalizer.strip_accents",
        "tokenizer.ggml.fim_pad_token_id",
        "tokenizer.ggml.fim_rep_token_id",
        "tokenizer.ggml.fim_sep_token_id",
        "tokenizer.trine.space_prefix_once",
        "tokenizer.trine.metaspace",
    ],
    ignored: &[
        IgnoredKeys {
            keys: &["tokenizer.chat_templates"],
            reason: "the names of further templates, which the keys `tokenizer.chat_template.*` have, too",
        },
        IgnoredKeys {
            keys: &["tokenizer.ggml.add_sep_token"],
            reason: "llama.cpp reads it for pairs of texts alone (`llama_vocab::get_add_sep`)",
        },
        IgnoredKeys {
            keys: &[
                "tokenizer.ggml.fim_pre_token_id",
                "tokenizer.ggml.fim_suf_token_id",
                "tokenizer.ggml.fim_mid_token_id",
                "tokenizer.ggml.prefix_token_id",
                "tokenizer.ggml.suffix_token_id",
                "tokenizer.ggml.middle_token_id",
                "tokenizer.ggml.image_token_id",
            ],
            reason: "names for prompts that fill in the middle, which no command writes; llama.cpp's tokenizer ignores them",
        },
        IgnoredKeys {
            keys: &["tokenizer.huggingface.json", "tokenizer.rwkv.world", "tokenizer.ggml.added_tokens"],
            reason: "other programs' vocabulary, beside that of `tokenizer.ggml`; llama.cpp ignores them",
        },
    ],
    neutral: &[("tokenizer.ggml.suppress_tokens", empty)],
};
