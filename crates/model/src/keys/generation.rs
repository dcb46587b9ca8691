//! The keys of `generation_config.json`, and of `general.sampling` in GGUF files: which are read, which change nothing, and which are reported because
//! nothing here does what they say.

use super::files::FileKeys;
use super::ignored::IgnoredKeys;
use super::tokenizer::empty;
use serde_json::Value;
use trine_tensor::Metadata;

/// Begins the names of GGUF's keys for sampling.
pub(crate) const SAMPLING: &str = "general.sampling.";

/// Warnings about keys `general.sampling.*` of a GGUF file.
pub(crate) fn check_sampling(metadata: &Metadata) -> Vec<String> {
    let json = |key: &str| match (metadata.f32(key), metadata.i32(key), metadata.str(key)) {
        (Ok(Some(number)), ..) => number.into(),
        (_, Ok(Some(number)), _) => number.into(),
        (.., Ok(Some(text))) => text.into(),
        _ => Value::from(true),
    };
    let keys = metadata.iter().map(|(key, _)| key).filter(|key| key.starts_with(SAMPLING));
    GGUF_SAMPLING.check(&keys.map(|key| (key.to_owned(), json(key))).collect())
}

pub static GGUF_SAMPLING: FileKeys = FileKeys {
    file: "GGUF",
    read: &[
        "general.sampling.temp",
        "general.sampling.top_k",
        "general.sampling.top_p",
        "general.sampling.min_p",
        "general.sampling.penalty_repeat",
        "general.sampling.penalty_last_n",
        "general.sampling.xtc_probability",
        "general.sampling.xtc_threshold",
        "general.sampling.mirostat_tau",
        "general.sampling.mirostat_eta",
    ],
    ignored: &[],
    neutral: &[
        ("general.sampling.sequence", |value| value == ""),
        // The version 2 is read.
        ("general.sampling.mirostat", |value| value == 0 || value == 2),
    ],
};

pub static GENERATION_CONFIG: FileKeys = FileKeys {
    file: "generation_config.json",
    read: &[
        "eos_token_id",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "max_new_tokens",
        "min_new_tokens",
        "bad_words_ids",
        "suppress_tokens",
        "stop_strings",
    ],
    ignored: &[
        IgnoredKeys {
            keys: &["bos_token_id", "pad_token_id", "decoder_start_token_id"],
            reason: "they begin texts without a prompt, fill batches or begin a decoder beside an encoder",
        },
        IgnoredKeys {
            keys: &["length_penalty", "early_stopping"],
            reason: "`generate` of transformers reads them in beam search alone, which `num_beams` turns on",
        },
        IgnoredKeys {
            keys: &[
                "use_cache",
                "cache_implementation",
                "cache_config",
                "max_cache_len",
                "return_legacy_cache",
                "low_memory",
                "prefill_chunk_size",
                "compile_config",
                "disable_compile",
                "continuous_batching_config",
                "use_mtp",
                "is_assistant",
                "num_assistant_tokens",
                "num_assistant_tokens_schedule",
                "assistant_confidence_threshold",
                "assistant_early_exit",
                "assistant_lookbehind",
                "target_lookbehind",
                "assistant_ensemble_weight",
                "speculation_type",
                "prompt_lookup_num_tokens",
                "max_matching_ngram_size",
            ],
            reason: "they change speed and memory in `generate` of transformers, not what it generates",
        },
        IgnoredKeys {
            keys: &[
                "output_attentions",
                "output_hidden_states",
                "output_scores",
                "output_logits",
                "return_dict_in_generate",
                "num_return_sequences",
            ],
            reason: "they choose what `generate` of transformers returns beside a text",
        },
        IgnoredKeys {
            keys: &["remove_invalid_values", "renormalize_logits"],
            reason: "logits that are not finite are an error here, and probabilities are normalized before a token is drawn",
        },
        IgnoredKeys {
            keys: &["transformers_version", "_from_model_config", "_commit_hash", "trust_remote_code"],
            reason: "they tell where the file comes from",
        },
        IgnoredKeys {
            keys: &["max_length"],
            reason: "it counts the prompt, too, and most files have it at the context; a shorter one is reported",
        },
    ],
    neutral: &[
        ("num_beams", |value| value == 1),
        ("num_beam_groups", |value| value == 1),
        ("diversity_penalty", |value| value.as_f64() == Some(0.0)),
        ("penalty_alpha", |value| value.as_f64() == Some(0.0)),
        ("constraints", empty),
        ("force_words_ids", empty),
        ("begin_suppress_tokens", empty),
        ("sequence_bias", empty),
        ("forced_bos_token_id", |_| false),
        ("forced_eos_token_id", |_| false),
        ("forced_decoder_ids", empty),
        ("no_repeat_ngram_size", |value| value == 0),
        ("encoder_no_repeat_ngram_size", |value| value == 0),
        ("encoder_repetition_penalty", |value| value.as_f64() == Some(1.0)),
        ("exponential_decay_length_penalty", |_| false),
        ("min_length", |value| value == 0),
        ("max_time", |_| false),
        ("top_h", |_| false),
        ("epsilon_cutoff", |value| value.as_f64() == Some(0.0)),
        ("eta_cutoff", |value| value.as_f64() == Some(0.0)),
        ("guidance_scale", |value| value.as_f64() == Some(1.0)),
        ("token_healing", empty),
        ("watermarking_config", empty),
        ("dola_layers", |_| false),
    ],
};
