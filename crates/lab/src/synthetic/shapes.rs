//! Sizes of models.

use std::borrow::Cow;
use std::str::FromStr;
use trine_model::Sizes;
use trine_model::arch::{bitnet::BITNET, bitnet::BITNET_B158, gemma::GEMMA3, llama::LLAMA, qwen::QWEN3};

/// The sizes of a model, known or not.
#[derive(Clone, Debug)]
pub struct Shape {
    /// As [`Shape::from_str`] reads it.
    pub name: Cow<'static, str>,
    /// The model that has these sizes, or most of them.
    pub of: &'static str,
    pub sizes: Sizes,
    /// Tokens that most layers attend to, where the architecture has such layers.
    pub sliding_window: Option<u32>,
}

static LLAMA_7B: Shape = Shape {
    name: Cow::Borrowed("7b"),
    of: "Llama 2 7B",
    sizes: Sizes {
        arch: &LLAMA,
        hidden_size: 4096,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        intermediate_size: 11008,
        vocab_size: 32000,
        context_length: 4096,
        rope_base: 10000.0,
        eps: 1e-5,
        tied: false,
    },
    sliding_window: None,
};

static BITNET_2B: Shape = Shape {
    name: Cow::Borrowed("2b4t"),
    of: "BitNet b1.58 2B-4T",
    sizes: Sizes {
        arch: &BITNET_B158,
        hidden_size: 2560,
        n_layers: 30,
        n_heads: 20,
        n_kv_heads: 5,
        intermediate_size: 6912,
        vocab_size: 128_256,
        rope_base: 500_000.0,
        tied: true,
        ..LLAMA_7B.sizes
    },
    sliding_window: None,
};

static QWEN3_0_6B: Shape = Shape {
    name: Cow::Borrowed("qwen3-0.6b"),
    of: "Qwen3 0.6B",
    sizes: Sizes {
        arch: &QWEN3,
        hidden_size: 1024,
        n_layers: 28,
        n_heads: 16,
        n_kv_heads: 8,
        intermediate_size: 3072,
        vocab_size: 151_936,
        context_length: 40960,
        rope_base: 1e6,
        tied: true,
        ..LLAMA_7B.sizes
    },
    sliding_window: None,
};

/// Every shape we know.
pub static SHAPES: &[&Shape] = &[
    &Shape {
        name: Cow::Borrowed("tiny"),
        of: "nothing: for tests",
        sizes: Sizes {
            hidden_size: 256,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 64,
            intermediate_size: 512,
            vocab_size: 512,
            ..LLAMA_7B.sizes
        },
        sliding_window: None,
    },
    &Shape {
        name: Cow::Borrowed("42m"),
        of: "stories42M of llama2.c, with a context of 32,768",
        sizes: Sizes {
            hidden_size: 512,
            n_layers: 8,
            n_heads: 8,
            n_kv_heads: 8,
            head_dim: 64,
            intermediate_size: 1376,
            context_length: 32768,
            ..LLAMA_7B.sizes
        },
        sliding_window: None,
    },
    &BITNET_2B,
    // The same work in the one ternary architecture that llama.cpp knows; its activation is SiLU.
    &Shape {
        name: Cow::Borrowed("2b4t-silu"),
        of: "BitNet b1.58 2B-4T, with llama.cpp's `bitnet`",
        sizes: Sizes { arch: &BITNET, ..BITNET_2B.sizes },
        sliding_window: None,
    },
    &QWEN3_0_6B,
    &Shape {
        name: Cow::Borrowed("1.1b"),
        of: "TinyLlama 1.1B",
        sizes: Sizes {
            hidden_size: 2048,
            n_layers: 22,
            n_kv_heads: 4,
            head_dim: 64,
            intermediate_size: 5632,
            context_length: 16384,
            ..LLAMA_7B.sizes
        },
        sliding_window: None,
    },
    &Shape {
        name: Cow::Borrowed("gemma3-1b"),
        of: "Gemma 3 1B",
        sizes: Sizes {
            arch: &GEMMA3,
            hidden_size: 1152,
            n_layers: 26,
            n_heads: 4,
            n_kv_heads: 1,
            head_dim: 256,
            intermediate_size: 6912,
            vocab_size: 262_144,
            context_length: 32768,
            rope_base: 1e6,
            eps: 1e-6,
            tied: true,
        },
        sliding_window: Some(512),
    },
    &LLAMA_7B,
    &Shape {
        name: Cow::Borrowed("70b"),
        of: "Llama 2 70B",
        sizes: Sizes {
            hidden_size: 8192,
            n_layers: 80,
            n_heads: 64,
            n_kv_heads: 8,
            intermediate_size: 28672,
            ..LLAMA_7B.sizes
        },
        sliding_window: None,
    },
    &Shape {
        name: Cow::Borrowed("qwen3-8b"),
        of: "Qwen3 8B",
        sizes: Sizes {
            hidden_size: 4096,
            n_layers: 36,
            n_heads: 32,
            intermediate_size: 12288,
            tied: false,
            ..QWEN3_0_6B.sizes
        },
        sliding_window: None,
    },
];

/// The shape of this name.
pub fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().copied().find(|shape| shape.name == name)
}

/// The sizes that may be set, in the order of [`Shape::field`], and the most of each.
const FIELDS: [(&str, usize); 8] = [
    ("layers", 1000),
    ("hidden", 1 << 16),
    ("heads", 1 << 12),
    ("kv-heads", 1 << 12),
    ("head-dim", 1 << 12),
    ("ffn", 1 << 20),
    ("vocab", 1 << 22),
    ("context", 1 << 24),
];

/// The fewest tokens of a vocabulary: those of bytes and letters.
const MIN_VOCAB: usize = 512;

impl Shape {
    fn field(&mut self, i: usize) -> &mut usize {
        let sizes = &mut self.sizes;
        match i {
            0 => &mut sizes.n_layers,
            1 => &mut sizes.hidden_size,
            2 => &mut sizes.n_heads,
            3 => &mut sizes.n_kv_heads,
            4 => &mut sizes.head_dim,
            5 => &mut sizes.intermediate_size,
            6 => &mut sizes.vocab_size,
            _ => &mut sizes.context_length,
        }
    }
}

/// The name of a known shape, such as `7b`, sizes of a Llama, such as `layers=4,hidden=2048`, or a name with sizes that differ:
/// `qwen3-8b,layers=2`. Where the width differs, what is not said of heads and of the feed-forward layer grows with it.
impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let (name, sizes) = match text.split_once(',') {
            _ if text.split(',').next().is_some_and(|first| first.contains('=')) => (&*LLAMA_7B.name, text),
            Some((name, sizes)) => (name, sizes),
            None => (text, ""),
        };
        let base = shape(name).ok_or_else(|| {
            let known = SHAPES.iter().map(|shape| &*shape.name).collect::<Vec<_>>().join(", ");
            format!("expected one of {known}, or sizes such as layers=4,hidden=2048, found `{name}`")
        })?;
        let mut made = Shape { name: Cow::Owned(text.to_owned()), ..base.clone() };
        let mut given = [false; FIELDS.len()];
        for size in sizes.split(',').filter(|size| !size.is_empty()) {
            let known = || FIELDS.map(|(key, _)| key).join(", ");
            let (key, value) =
                size.split_once('=').ok_or_else(|| format!("expected a size as KEY=N, found `{size}`"))?;
            let i = FIELDS.iter().position(|(name, _)| *name == key);
            let i = i.ok_or_else(|| format!("expected one of {}, found `{key}`", known()))?;
            let most = FIELDS[i].1;
            let value = value.parse().ok().filter(|value| (1..=most).contains(value));
            *made.field(i) = value.ok_or_else(|| format!("{key}: expected 1 to {most}, found `{size}`"))?;
            if std::mem::replace(&mut given[i], true) {
                return Err(format!("{key}: expected one size, found two"));
            }
        }
        let [_, hidden, heads, kv_heads, head_dim, ffn, ..] = given;
        let (old, sizes) = (&base.sizes, &mut made.sizes);
        if !heads && (hidden || head_dim) {
            sizes.n_heads =
                (sizes.hidden_size * old.n_heads * old.head_dim / (old.hidden_size * sizes.head_dim)).max(1);
        }
        if !kv_heads && sizes.n_heads != old.n_heads {
            sizes.n_kv_heads = (sizes.n_heads * old.n_kv_heads / old.n_heads).max(1);
        }
        if !ffn && hidden {
            sizes.intermediate_size =
                (sizes.hidden_size * old.intermediate_size / old.hidden_size).next_multiple_of(256);
        }
        if !sizes.n_heads.is_multiple_of(sizes.n_kv_heads) {
            let Sizes { n_heads, n_kv_heads, .. } = sizes;
            return Err(format!("kv-heads: expected a divisor of {n_heads} heads, found {n_kv_heads}"));
        }
        if !sizes.head_dim.is_multiple_of(2) {
            return Err(format!("head-dim: expected an even number, found {}", sizes.head_dim));
        }
        if sizes.vocab_size < MIN_VOCAB {
            return Err(format!("vocab: expected {MIN_VOCAB} at least, found {}", sizes.vocab_size));
        }
        Ok(made)
    }
}
