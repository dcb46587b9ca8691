//! Keys that nothing computed here depends on, and where the program that made the file ignores them as well.

/// Keys that change nothing.
#[derive(Debug)]
pub struct IgnoredKeys {
    pub keys: &'static [&'static str],
    /// Why they change nothing.
    pub reason: &'static str,
}

/// Keys of `config.json`. `golden/keys.py` changes those of transformers' classes and compares the logits.
pub static IGNORED_HF_KEYS: &[IgnoredKeys] = &[
    IgnoredKeys {
        keys: &[
            "architectures",
            "auto_map",
            "_name_or_path",
            "transformers_version",
            "model_name",
            "dtype",
            "torch_dtype",
            "problem_type",
            "id2label",
            "label2id",
            "finetuning_task",
            "task_specific_params",
            "tokenizer_class",
            "language",
            "license",
        ],
        reason: "names, labels and types, which `PreTrainedConfig` of transformers keeps and no `forward` reads",
    },
    IgnoredKeys {
        keys: &[
            "attention_dropout",
            "attn_pdrop",
            "embd_pdrop",
            "resid_pdrop",
            "residual_dropout",
            "hidden_dropout",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "embedding_dropout",
            "classifier_dropout",
            "summary_first_dropout",
            "mlp_dropout",
            "initializer_range",
            "initializer_factor",
            "initializer_cutoff_factor",
            "output_router_logits",
            "router_aux_loss_coef",
            "router_jitter_noise",
            "aux_loss_alpha",
            "seq_aux",
            "num_nextn_predict_layers",
            "gradient_checkpointing",
            "ep_size",
        ],
        reason: "used in training alone: dropout, `_init_weights`, `load_balancing_loss_func`, jitter under `self.training`",
    },
    IgnoredKeys {
        keys: &[
            "output_attentions",
            "output_hidden_states",
            "return_dict",
            "use_cache",
            "torchscript",
            "chunk_size_feed_forward",
            "is_encoder_decoder",
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_autoset",
            "pretraining_tp",
            "reorder_and_upcast_attn",
            "reference_compile",
            "deterministic_flash_attn",
            "sparse_prediction",
            "sparse_pred_ignore_index",
            "use_mambapy",
            "cache_implementation",
        ],
        reason: "what a forward pass of transformers returns, and how it runs (`apply_chunking_to_forward`, `_upcast_and_reordered_attn` in modeling_gpt2.py)",
    },
    IgnoredKeys {
        keys: &[
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "sep_token_id",
            "cls_token_id",
            "decoder_start_token_id",
            "image_token_index",
            "image_token_id",
            "boi_token_index",
            "eoi_token_index",
            "mm_tokens_per_image",
        ],
        reason: "ids of tokens, which the tokenizer and `GenerationConfig` have, or of parts that are not loaded (modeling_gemma3.py)",
    },
    IgnoredKeys {
        keys: &[
            "summary_type",
            "summary_use_proj",
            "summary_proj_to_labels",
            "summary_activation",
            "classifier_activation",
            "classifier_bias",
            "classifier_pooling",
            "decoder_bias",
        ],
        reason: "heads for other tasks (`GPT2DoubleHeadsModel`, `ModernBertForSequenceClassification`, `ModernBertForMaskedLM`)",
    },
    IgnoredKeys {
        keys: &[
            "n_ctx",
            "experts_per_token",
            "layer_switch",
            "mlp_type",
            "norm_type",
            "order_of_interleaved_layers",
            "_sliding_window_pattern",
            "max_window_layers",
            "rotary_pct",
            "rope_parameters.max_position_embeddings",
            "qk_head_dim",
            "use_embedding_sharing",
            "use_gated_activation",
            "use_parallel_block",
            "use_parallel_embedding",
            "initial_context_length",
        ],
        reason: "in published files, and read by no modeling_*.py of these models in transformers",
    },
    IgnoredKeys {
        keys: &[
            "shared_expert_intermediate_size",
            "n_shared_experts",
            "topk_group",
            "topk_method",
            "hidden_act",
            "hidden_activation",
            "rope_parameters.type",
            "rope_scaling.type",
            "type_vocab_size",
        ],
        reason: "where nothing reads them, the shapes of tensors or another key say it, in transformers, too (`DeepseekV2TopkRouter`)",
    },
];

/// Whether a row has the key.
pub(super) fn is_ignored(table: &[IgnoredKeys], key: &str) -> bool {
    table.iter().any(|row| row.keys.contains(&key))
}
