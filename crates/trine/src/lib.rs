//! Low-bit language models in one library: open a model file, run it, stream its text.
//!
//! ```
//! use trine::prelude::*;
//!
//! let mut llm = Llm::embedded()?; // or Llm::open("model.gguf")?
//! let sampling = Sampling { max_tokens: Some(64), ..Sampling::preset("balanced")? };
//! let answer = llm.generate("Once upon a time", &sampling)?;
//! println!("{} ({} tokens)", answer.text, answer.usage.completion_tokens);
//! # assert!(answer.usage.completion_tokens > 0);
//! # Ok::<(), trine::Error>(())
//! ```
//!
//! # Which type to use
//!
//! | type | use it for |
//! |---|---|
//! | [`Llm`] | one text or chat at a time: [`Llm::generate`], [`Llm::stream`], [`Llm::chat`] |
//! | [`Session`] | a conversation, message by message |
//! | [`Decoder`] | the bare model: token ids in, logits out, with a sampler of your own |
//! | [`engine::Engine`] | many requests in one batch, in a loop that you drive step by step |
//! | [`engine::Handle`] | many requests from threads or async tasks; the engine runs on its own thread, `max_sequences` at once |
//! | [`Embedder`] | texts in, vectors out |
//! | [`Quantizer`] | slices of weights in, bytes of a format or integers and scales out |
//!
//! [`Options`] configures loading; [`Loading`] does it beside async tasks. [`Llm::embedded`] is a small model that is part of the library; [`EMBEDDED`] stands for its path. The
//! feature `train` adds the module `train`.
//!
//! The modules have what is below these types: [`model`] a model on a device, [`backend`] devices, [`tensor`] model files, [`text`]
//! tokenizers and chat templates.
//!
//! # Examples
//!
//! The folder `examples` of the repository has these programs:
//!
//! - `generate`: text from a prompt
//! - `logits`: the logits of a list of tokens
//! - `threads`: a [`engine::Handle`] shared by threads
//! - `tokio`: a [`engine::Handle`] shared by async tasks
//! - `sampler`: a custom sampling filter
//! - `backend`: a custom wrapper around a backend
//! - `benchmark`: a benchmark of a program's own, with its own metrics
//! - `quantize`: a weight format of its own, and what it loses beside others
//! - `runner`: a custom [`model::Runner`] in an engine
//! - `train`: a model trained on a text, with the feature `train`
//!
//! # Debug builds
//!
//! Without optimization, inference is some fifty times slower: 26 ms instead of 0.5 ms for a token of the embedded model. Use
//! `cargo run --release`, or optimize the dependencies in debug builds with these lines in the `Cargo.toml` of your workspace:
//!
//! ```toml
//! [profile.dev.package."*"]
//! opt-level = 3
//! ```

mod chat;
mod decoder;
mod embedder;
mod embedding_tokenizer;
mod error;
#[cfg(test)]
mod failing;
mod llm;
mod load;
mod loading;
mod options;
mod placement;
mod session;
mod size;
mod stream;

pub use chat::ChatOptions;
pub use decoder::Decoder;
pub use embedder::Embedder;
pub use embedding_tokenizer::EmbeddingTokenizer;
pub use error::{Error, ErrorKind};
pub use llm::Llm;
pub use load::{Progress, Spawned};
pub use loading::Loading;
pub use options::Options;
pub use placement::{Placement, WeightStorage, available_memory};
pub use session::{Session, Turn};
pub use size::{Memory, UsedMemory, bits_per_weight, distinct, parameters, tensor_bytes};
pub use stream::Stream;
pub use trine_model::{EMBEDDED, Quantizer, open_file};
#[cfg(feature = "train")]
pub use trine_train as train;

/// Many requests at once: the engine, its handle, and the filters that choose tokens.
pub mod engine {
    pub use trine_engine::{
        Answer, Choice, Clock, DiskCacheOptions, Emit, Engine, EngineOptions, Error, Event, EventKind, Field,
        FinishReason, Generation, Handle, Load, Param, PrefixCache, PrefixCacheStats, Prompt, PromptProgress,
        PromptToken, Request, Sampling, Scheduling, SeqId, Timing, Token, Update, Usage, params, prompt_tokens, sample,
        seed_of,
    };
}

/// Answers that keep to a JSON Schema, a regular expression or a grammar: [`Llm::grammar`] compiles a constraint for a model.
pub mod grammar {
    pub use trine_grammar::{
        Chat, Constraint, Error, Grammar, Grammars, Limits, Stop, Thinking, ToolChoice, Vocabulary,
    };
}

/// A model on a device: what it is, and forward passes.
pub mod model {
    pub use trine_model::arch::TensorRule;
    pub use trine_model::{
        ARCHS, Arch, BitNet, BitNetWeights, DEVICES, Device, DeviceName, DeviceOptions, Error, Experts,
        GenerationConfig, GgufModel, HfModel, Language, LayerKind, MemoryPlan, Mla, Model, ModelOptions, ModuleFile,
        NormKind, NormPlacement, OnDevice, Pooling, PoolingHead, QkNorm, QuantMethod, Quantizer, Rewrite, Runner,
        RunnerMemory, Sizes, Spec, TensorShape, TextSettings, Workload, load, load_side_by_side, plan, plan_log,
        runner,
    };
}

/// Devices: the operations of a forward pass, the CPU, and wrappers that time or compare them.
pub mod backend {
    pub use trine_backend::{
        Activation, ActivationPrecision, Affinity, Around, AttentionOptions, BLOCK_LEN, Backend, Batch, Both, CacheId,
        CacheType, Compare, Cpu, CpuOptions, CpuPlan, DeviceInfo, DeviceMemory, Drift, Error, ExpertGroups, Found, Ids,
        KV_FORMATS, KvBlock, KvBlocks, KvLayout, KvShape, Numa, Observe, Observed, ObservedWeight, Observer, Op, OpOf,
        Ops, PlanLog, PlannedTensor, PlannedValue, Residency, Role, Rope, RopeLayout, Routing, ScoringFunction, Span,
        Stage, Table, Temperature, Tolerance, Topology, WeightBytes, When, add_norm, cpu, profile, table, tables,
    };
}

/// Model files: their metadata and tensors, read and written, and the formats of weights.
pub mod tensor {
    pub use trine_tensor::{
        Array, Bytes, Error, FORMATS, File, FileFormat, Format, IntegerScheme, Metadata, NewFolder, OpenOptions,
        Quantized, Receipt, Replacement, ShardedWriter, Strings, TensorInfo, Value, View, Writer, format, gguf,
        llama2c, receipt, safetensors,
    };
}

/// Tokenizers, chat templates, and decoding as tokens are generated.
pub mod text {
    pub use trine_text::{
        Arguments, BpeOptions, CONTENT_FORMATS, ChatFormat, ChatParser, ContentFormat, DecodeStream, Delta,
        EncodeOptions, Error, Kinds, Message, Normalization, OwnedVocab, Part, REASONING_FORMATS, ReasoningFormat,
        Rendered, TOOL_FORMATS, Tags, Template, Templates, TokenType, Tokenizer, TokenizerJson, Tool, ToolFormat,
        Vocab,
    };
}

/// All that most programs need.
pub mod prelude {
    pub use crate::engine::{Answer, FinishReason, Request, Sampling, Token, Usage};
    pub use crate::grammar::Constraint;
    pub use crate::text::Message;
    pub use crate::{ChatOptions, Decoder, EMBEDDED, Embedder, Error, Llm, Options, Progress, Session, Stream, Turn};
}
