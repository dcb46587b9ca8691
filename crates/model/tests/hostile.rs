//! Models that lie: what opens as a file may still be no model, and that is said instead of a panic, a hang or a huge allocation.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{Cpu, CpuOptions};
use trine_model::runner::{Want, probe};
use trine_model::{Language, ModelOptions, OnDevice, Result, Runner};
use trine_tensor::File;

/// All that this process may have allocated at once; its files have a quarter of a megabyte.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 64 << 20);

/// Everything that happens to a file before the first token.
fn load(path: &Path) -> Result<()> {
    let load = || {
        let file = File::open(path)?;
        let language = Language::of(&file)?;
        let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
        let mut runner = OnDevice::load(cpu, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
        language.check(runner.spec())?;
        probe(&mut runner, 0, Want::Logits)
    };
    load().map_err(|error| error.at(path))
}

/// What each file of `golden/hostile/models` (made by `golden/hostile.py`) is refused with.
static MALFORMED: &[(&str, &[&str])] = &[
    ("architecture-missing", &["`general.architecture` is missing"]),
    ("architecture-unknown", &["`lama`", "llama"]),
    ("architecture-number", &["general.architecture", "a string", "u32 1"]),
    ("block-count-0", &["llama.block_count", "1 to", "found 0"]),
    ("block-count-2", &["blk.1.attn_norm.weight"]),
    ("block-count-2-31", &["llama.block_count", "found 2147483648"]),
    ("block-count-negative", &["llama.block_count", "u32", "i32 -1"]),
    ("block-count-missing", &["llama.block_count", "missing"]),
    ("context-0", &["llama.context_length", "found 0"]),
    ("context-2-62", &["llama.context_length", "4611686018427387904"]),
    ("width-0", &["llama.embedding_length", "found 0"]),
    ("width-2-31", &["llama.embedding_length", "found 2147483648"]),
    ("width-differs", &["token_embd.weight", "[7, 8]", "[7, 4]"]),
    ("feed-forward-0", &["llama.feed_forward_length", "found 0"]),
    (
        "feed-forward-array",
        &["llama.feed_forward_length", "the same number in every layer", "8 in layer 0 and 9 in layer 1"],
    ),
    ("epsilon-nan", &["layer_norm_rms_epsilon", "finite", "NaN"]),
    ("epsilon-negative", &["layer_norm_rms_epsilon", "at least 0", "-1"]),
    ("epsilon-missing", &["layer_norm_rms_epsilon", "missing"]),
    ("heads-0", &["llama.attention.head_count`", "found 0"]),
    ("heads-3", &["llama.attention.head_count`", "a divisor of hidden size 4", "found 3"]),
    ("kv-heads-0", &["llama.attention.head_count_kv", "found 0"]),
    ("kv-heads-3", &["llama.attention.head_count_kv", "a divisor of 2 heads", "found 3"]),
    ("head-dim-2-31", &["llama.attention.key_length", "found 2147483648"]),
    ("value-length", &["llama.attention.value_length", "expected 2", "found 4"]),
    ("rope-odd", &["llama.rope.dimension_count", "an even number up to 3", "found 3"]),
    ("rope-beyond-head", &["llama.rope.dimension_count", "an even number up to 2", "found 64"]),
    ("rope-base-nan", &["llama.rope.freq_base", "finite", "NaN"]),
    ("rope-base-0", &["llama.rope.freq_base", "at least 1", "found 0"]),
    ("rope-factor-0", &["llama.rope.scaling.factor", "found 0"]),
    ("rope-scaling-unknown", &["llama.rope.scaling.type", "yarn", "magic"]),
    ("rope-divisors", &["llama.rope", "finite rotations"]),
    ("rope-divisors-shape", &["rope_freqs.weight", "[1]", "[3]"]),
    ("vocab-size", &["llama.vocab_size", "7 rows", "2147483648"]),
    ("tokens-empty", &["tokenizer.ggml.tokens"]),
    ("tokens-numbers", &["tokenizer.ggml.tokens", "an array of string", "an array of 7 u8"]),
    ("tokens-missing", &["tokenizer.ggml.tokens"]),
    ("tokens-more-than-rows", &["8 tokens", "7 rows"]),
    ("scores-short", &["tokenizer.ggml.scores", "expected 7", "found 3"]),
    ("scores-bytes", &["tokenizer.ggml.scores", "an array of f32", "an array of 7 u8"]),
    ("scores-nan", &["token 6 (`ab`)", "NaN"]),
    ("types-short", &["tokenizer.ggml.token_type", "expected 7", "found 3"]),
    ("types-strings", &["tokenizer.ggml.token_type", "an array of i32", "an array of 7 string"]),
    ("types-7", &["token 6 (`ab`)", "7"]),
    ("byte-negative", &["token 3 (`<0x-1>`)"]),
    ("byte-long", &["token 3 (`<0x041>`)"]),
    ("bos-beyond", &["tokenizer.ggml.bos_token_id", "below 7", "found 7"]),
    ("bos-negative", &["tokenizer.ggml.bos_token_id", "u32", "i32 -1"]),
    ("eos-2-32", &["tokenizer.ggml.eos_token_id", "below 7", "found 4294967295"]),
    ("unknown-beyond", &["tokenizer.ggml.unknown_token_id", "below 7", "found 7"]),
    ("tokenizer-unknown", &["tokenizer.ggml.model", "gpt2", "`lama`"]),
    ("merges-missing", &["tokenizer.ggml.merges", "missing"]),
    ("merges-no-tokens", &["merge 0 (`x y`)"]),
    ("merges-no-space", &["merge 0 (`ab`)", "space"]),
    ("pre-unknown", &["tokenizer.ggml.pre", "llama-bpe", "`nonsense`"]),
    ("tensor-missing", &["blk.0.ffn_up.weight"]),
    ("tensor-unknown", &["blk.0.attn_sinks.weight", "ignored"]),
    ("tensor-shape", &["blk.0.attn_q.weight", "[4, 4]", "[2, 8]"]),
    ("tensor-dimensions", &["blk.0.attn_norm.weight", "[4]", "[2, 2]"]),
    ("weight-nan", &["not finite"]),
    ("weight-infinite", &["not finite"]),
    ("tq2-0-scale-nan", &["blk.0.ffn_down.weight", "expected finite scales", "NaN"]),
    ("tq2-0-scale-infinite", &["blk.0.ffn_down.weight", "expected finite scales", "inf"]),
    ("i2-s-scale-nan", &["blk.0.ffn_down.weight", "expected finite scales", "NaN"]),
    ("i2-s-scale-infinite", &["blk.0.ffn_down.weight", "expected finite scales", "inf"]),
    ("tq2-0-code-3", &["blk.0.ffn_down.weight", "3"]),
    ("i2-s-code-3", &["blk.0.ffn_down.weight", "3"]),
];

#[test]
fn every_lie_of_a_model_has_its_own_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/hostile/models");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut wrong = Vec::new();
    for path in ["good", "tq2-0-good"].map(|name| folder.join(name).with_extension("gguf")) {
        load(&path).unwrap_or_else(|error| panic!("{error}"));
        files.retain(|file| *file != path);
    }
    for (name, expected) in MALFORMED {
        let path = folder.join(name).with_extension("gguf");
        files.retain(|file| *file != path);
        let found = load(&path).err().map_or("it ran".to_owned(), |error| error.to_string());
        let located = found.starts_with(&*path.to_string_lossy());
        if !located || expected.iter().any(|text| !found.contains(text)) {
            wrong.push(format!("{name}: expected {expected:?}, found: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.is_empty(), "not in the list: {files:?}");
}
