//! A `config.json` that says what the keys of a GGUF file say.

use crate::as_gguf::BIT_LINEAR;
use crate::gguf_model::TOKEN_TYPES;
use crate::hf::{BASES, Class, FRACTIONS, LOCAL_BASES, PARTS};
use crate::keys::names::{COUNTS, FLAGS, NUMBERS, is_known};
use crate::{ARCHS, GgufModel, Result, Spec, arch};
use serde_json::{Map, Value, json};
use trine_tensor::{Metadata, Value as Key, View};

/// Class names of transformers, by `model_type`.
static CLASSES: &[(&str, &str)] = &[
    ("llama", "LlamaForCausalLM"),
    ("mistral", "MistralForCausalLM"),
    ("ministral", "MinistralForCausalLM"),
    ("ministral3", "Ministral3ForCausalLM"),
    ("mixtral", "MixtralForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM"),
    ("qwen2_moe", "Qwen2MoeForCausalLM"),
    ("qwen3_moe", "Qwen3MoeForCausalLM"),
    ("bitnet", "BitNetForCausalLM"),
    ("gemma", "GemmaForCausalLM"),
    ("gemma2", "Gemma2ForCausalLM"),
    ("gemma3_text", "Gemma3ForCausalLM"),
    ("phi", "PhiForCausalLM"),
    ("phi3", "Phi3ForCausalLM"),
    ("olmo2", "Olmo2ForCausalLM"),
    ("olmoe", "OlmoeForCausalLM"),
    ("granite", "GraniteForCausalLM"),
    ("granitemoe", "GraniteMoeForCausalLM"),
    ("smollm3", "SmolLM3ForCausalLM"),
    ("starcoder2", "Starcoder2ForCausalLM"),
    ("gpt2", "GPT2LMHeadModel"),
    ("gpt_neox", "GPTNeoXForCausalLM"),
    ("stablelm", "StableLmForCausalLM"),
    ("cohere", "CohereForCausalLM"),
    ("cohere2", "Cohere2ForCausalLM"),
    ("gpt_oss", "GptOssForCausalLM"),
    ("deepseek_v2", "DeepseekV2ForCausalLM"),
    ("deepseek_v3", "DeepseekV3ForCausalLM"),
    ("bert", "BertModel"),
    ("modernbert", "ModernBertModel"),
    ("gemma3_text_bidirectional", "Gemma3TextModel"),
];

/// The end of what is no `model_type` of its own, but one with `use_bidirectional_attention`.
const BIDIRECTIONAL: &str = "_bidirectional";

/// What a model is, and the names of its tensors in a folder.
pub(super) struct Source<'a> {
    pub spec: &'a Spec,
    pub metadata: &'a Metadata,
    pub names: &'a [String],
    pub rotations: &'a [View],
    pub bit_linear: bool,
    pub w8a8: bool,
}

/// The values of `model_type` of models that transformers has and that may be this one.
pub(super) fn model_types(model: &GgufModel) -> Vec<&'static str> {
    let arch = model.spec().arch;
    // Both compute the same but for the choice of experts, which V3 corrects by a bias.
    let v3 = model.tensors().iter().any(|info| info.name.contains("exp_probs_b"));
    let named = ARCHS.iter().filter(|other| other.gguf == arch.gguf).flat_map(|arch| arch.hf).copied();
    let fits = |name: &&str| !name.starts_with("deepseek") || name.ends_with("v3") == v3;
    named.filter(|name| CLASSES.iter().any(|(known, _)| known == name)).filter(fits).collect()
}

impl Source<'_> {
    /// A key of the architecture.
    fn key(&self, name: &str) -> Option<Value> {
        Some(match *self.metadata.get(&format!("{}.{name}", self.spec.arch.name()))? {
            Key::U32(x) => x.into(),
            Key::I32(x) => x.into(),
            Key::U64(x) => x.into(),
            Key::U16(x) => x.into(),
            // The decimal number that was meant.
            Key::F32(x) => x.to_string().parse::<f64>().unwrap_or(f64::from(x)).into(),
            Key::F64(x) => x.into(),
            Key::Bool(x) => x.into(),
            _ => return None,
        })
    }

    /// The configuration as a model of this type.
    pub fn config(&self, model_type: &str, dtype: &str) -> Result<Map<String, Value>> {
        let spec = self.spec;
        let named = CLASSES.iter().find(|(name, _)| *name == model_type).map(|(_, class)| class);
        let bidirectional = model_type.ends_with(BIDIRECTIONAL);
        let model_type = model_type.trim_end_matches(BIDIRECTIONAL);
        let Some(class) = Class::of(model_type) else { return Ok(Map::new()) };
        let has = |key: &str| class.has(key) && is_known(model_type, key);
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| _ = config.insert(key.to_owned(), value);
        put("model_type", model_type.into());
        put("architectures", json!([named]));
        if bidirectional {
            put("use_bidirectional_attention", true.into());
        }
        if let Some(types) = self.metadata.u32(TOKEN_TYPES)?.filter(|_| spec.arch.encoder) {
            put("type_vocab_size", types.into());
        }
        for (hf, gguf) in COUNTS.iter().chain(NUMBERS).chain(FLAGS).filter(|(hf, _)| has(hf)) {
            match self.key(gguf) {
                // What is not there is not computed, whatever the default is; transformers divides by zero.
                Some(value) if hf.ends_with("softcapping") && value == 0.0 => put(hf, Value::Null),
                None if hf.ends_with("softcapping") => put(hf, Value::Null),
                Some(value) => put(hf, value),
                None => {}
            }
        }
        put("vocab_size", spec.vocab_size.into());
        let heads = if spec.mla.is_some() { spec.n_heads } else { spec.n_kv_heads };
        for (key, value) in [("num_key_value_heads", heads), ("head_dim", spec.head_dim)] {
            let unusual = key == "head_dim" && spec.head_dim * spec.n_heads != spec.hidden_size;
            if (has(key) || unusual) && (spec.mla.is_none() || key != "head_dim") {
                put(key, value.into());
            }
        }
        if let Some(mla) = spec.mla {
            put("qk_nope_head_dim", mla.qk_nope_head_dim.into());
            put("q_lora_rank", mla.q_lora_rank.into());
            put("rope_interleave", true.into());
        }
        put("tie_word_embeddings", spec.tied.into());
        let activation = ["hidden_activation", "hidden_act", "activation_function"].into_iter().find(|key| has(key));
        let name = arch::ACTIVATIONS.iter().find(|(_, activation)| *activation == spec.activation);
        if let (Some(key), Some((names, _))) = (activation, name) {
            put(key, names[0].into());
        }
        for (key, parts) in PARTS.iter().filter(|(key, _)| has(key)) {
            put(key, self.names.iter().any(|name| parts.iter().any(|part| name.contains(part))).into());
        }
        if has("query_pre_attn_scalar") {
            let scalar = f64::from(spec.attention_scale).powi(-2);
            put("query_pre_attn_scalar", (scalar.round() as u64).into());
        }
        if let Some(width) = self.key("expert_shared_feed_forward_length") {
            put("shared_expert_intermediate_size", width);
        }
        if let Some(experts) = &spec.experts {
            if model_type.starts_with("deepseek") {
                let v3 = model_type.ends_with("v3");
                let groups = experts.routing.groups.is_some();
                put(
                    "scoring_func",
                    if self.key("expert_gating_func") == Some(2.into()) { "sigmoid" } else { "softmax" }.into(),
                );
                put(
                    "topk_method",
                    if v3 {
                        "noaux_tc"
                    } else if groups {
                        "group_limited_greedy"
                    } else {
                        "greedy"
                    }
                    .into(),
                );
                put("norm_topk_prob", experts.routing.normalize.into());
                if !groups {
                    put("n_group", 1.into());
                    put("topk_group", 1.into());
                }
            } else if has("norm_topk_prob") {
                put("norm_topk_prob", experts.routing.normalize.into());
            }
        }
        self.layers(&has, &mut put);
        self.rope(&has, &mut put)?;
        let ids = [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")];
        for (key, name) in ids {
            let id = self.metadata.u32(&format!("tokenizer.ggml.{name}_token_id"))?.filter(|&id| id != u32::MAX);
            put(key, id.into());
        }
        if self.bit_linear {
            let packed =
                json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline" });
            put("quantization_config", packed);
        }
        if self.w8a8 {
            let weights = json!({
                "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false
            });
            let inputs =
                json!({ "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true });
            let group = json!({ "targets": ["Linear"], "weights": weights, "input_activations": inputs });
            let w8a8 = json!({
                "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
                "config_groups": { "group_0": group }, "ignore": ["lm_head"],
            });
            put("quantization_config", w8a8);
        }
        put("torch_dtype", dtype.into());
        Ok(config)
    }

    /// Which layers have a window, and which no rope.
    fn layers(&self, has: &dyn Fn(&str) -> bool, put: &mut dyn FnMut(&str, Value)) {
        let (spec, arch) = (self.spec, self.spec.arch);
        let window = spec.max_window();
        if has("sliding_window") {
            // Bidirectional attention splits it, in transformers, too.
            let whole = self.key("attention.sliding_window").filter(|_| !spec.causal && window.is_some());
            put("sliding_window", whole.unwrap_or(window.into()));
        }
        let windowed: Vec<bool> = spec.layer_kinds.iter().map(|kind| kind.window.is_some()).collect();
        if has("use_sliding_window") {
            put("use_sliding_window", window.is_some().into());
            put("max_window_layers", windowed.iter().position(|&windowed| windowed).unwrap_or(spec.n_layers).into());
        }
        // Where all layers have it, `sliding_window` says so; with a list, transformers takes Mistral for Ministral.
        if windowed.contains(&true) && windowed.contains(&false) {
            let kinds = windowed.iter().map(|&windowed| if windowed { "sliding_attention" } else { "full_attention" });
            put("layer_types", kinds.collect::<Vec<_>>().into());
        }
        if arch.nope_every > 0 {
            let rotary = spec.layer_kinds.iter().map(|kind| u8::from(kind.rope.is_some()));
            put("no_rope_layers", rotary.collect::<Vec<_>>().into());
        }
    }

    fn rope(&self, has: &dyn Fn(&str) -> bool, put: &mut dyn FnMut(&str, Value)) -> Result<()> {
        let spec = self.spec;
        let Some(rope) = spec.ropes.first() else { return Ok(()) };
        let decimal = |x: f32| x.to_string().parse::<f64>().unwrap_or(f64::from(x));
        let first = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
        if let Some(name) = first(&BASES) {
            put(name, decimal(spec.rope_base).into());
        }
        if let (Some(name), Some(base)) = (first(&LOCAL_BASES), self.key("rope.freq_base_swa")) {
            put(name, base);
        }
        let dims = 2 * rope.frequencies.len();
        if let Some(name) = first(&FRACTIONS).filter(|_| spec.mla.is_none()) {
            put(name, (dims as f64 / spec.head_dim as f64).into());
        }
        let list = |name: &str| self.rotations.iter().find(|view| view.name == name).map(View::decode);
        let original = self.key("rope.scaling.original_context_length");
        if has("original_max_position_embeddings") {
            put("original_max_position_embeddings", original.clone().unwrap_or(spec.context_length.into()));
        }
        let scaling =
            if let (Some(long), Some(short)) = (list("rope_factors_long.weight"), list("rope_factors_short.weight")) {
                let [long, short] = [long, short].map(|list| list.into_iter().map(decimal).collect::<Vec<_>>());
                json!({ "type": "longrope", "long_factor": long, "short_factor": short })
            } else if let Some(divisors) = list("rope_freqs.weight") {
                llama3(&divisors, decimal(spec.rope_base))
            } else {
                let factor = self.key("rope.scaling.factor").unwrap_or(Value::Null);
                match self.metadata.str(&format!("{}.rope.scaling.type", spec.arch.name()))? {
                    Some("linear") if factor != json!(1.0) => json!({ "rope_type": "linear", "factor": factor }),
                    Some("yarn") => self.yarn(factor, original),
                    _ => Value::Null,
                }
            };
        if !scaling.is_null() {
            put("rope_scaling", scaling);
        }
        Ok(())
    }

    fn yarn(&self, factor: Value, original: Option<Value>) -> Value {
        let mut scaling = json!({ "rope_type": "yarn", "factor": factor });
        if let Some(original) = original {
            scaling["original_max_position_embeddings"] = original;
        }
        for (hf, gguf) in [("beta_fast", "rope.scaling.yarn_beta_fast"), ("beta_slow", "rope.scaling.yarn_beta_slow")] {
            if let Some(value) = self.key(gguf) {
                scaling[hf] = value;
            }
        }
        let arch = self.spec.arch;
        match self.key("rope.scaling.yarn_log_multiplier").and_then(|value| value.as_f64()) {
            Some(multiplier) if multiplier > 0.0 => {
                let all = if arch.mla { 10.0 * multiplier } else { multiplier };
                let all = (all * 1e6).round() / 1e6;
                scaling["mscale_all_dim"] = json!(all);
                scaling["mscale"] = json!(if arch.mla { all } else { 1.0 });
            }
            _ => {
                if self.key("rope.scaling.attn_factor").is_some() {
                    scaling["attention_factor"] = json!(self.spec.ropes[0].magnitude);
                }
            }
        }
        if let Some(scale) = self.key("attention.temperature_scale") {
            scaling["llama_4_scaling_beta"] = scale;
        }
        if self.spec.arch.default_keys.iter().any(|(key, value)| *key == "rope.scaling.truncate" && *value == 0.0) {
            scaling["truncate"] = false.into();
        }
        scaling
    }
}

/// The parameters of Llama 3.1's scaling by the divisors that follow from them; all models have these two bounds.
fn llama3(divisors: &[f32], base: f64) -> Value {
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    let factor = divisors.iter().fold(1f32, |most, divisor| most.max(*divisor));
    let length = 2.0 * divisors.len() as f64;
    // A divisor between the bounds says how often its element turns within the original context.
    let between = divisors.iter().enumerate().find(|(_, divisor)| **divisor > 1.0001 && **divisor < factor * 0.9999);
    let original = between.map(|(i, &divisor)| {
        let inverse = 1.0 / f64::from(factor);
        let smooth = (1.0 / f64::from(divisor) - inverse) / (1.0 - inverse);
        let frequency = libm::pow(base, -((2 * i) as f64) / length);
        ((LOW + smooth * (HIGH - LOW)) * 2.0 * std::f64::consts::PI / frequency).round() as u64
    });
    json!({
        "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
        "original_max_position_embeddings": original.unwrap_or(8192),
    })
}

/// Whether a matrix is of a linear layer of BitNet.
pub(super) fn is_bit_linear(name: &str) -> bool {
    let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
    part.is_some_and(|part| BIT_LINEAR.iter().any(|linear| part.strip_prefix(linear) == Some(".weight")))
}
