//! Mixtures of formats: which tensors of a file get more bits, as llama.cpp's `llama-quantize` chooses them.

use trine_tensor::format::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0,
    Q5_1, Q5_K, Q6_K, Q8_0,
};
use trine_tensor::{Format, TensorInfo};

/// A mixture of formats.
pub struct Mix {
    /// The name in llama.cpp, such as `Q4_K_M`.
    pub name: &'static str,
    /// `general.file_type` of its files.
    pub file_type: u32,
    /// What most matrices get.
    pub format: &'static Format,
    /// What others get; the first rule that holds decides.
    rules: &'static [Rule],
}

/// A format for a part of the model where a condition holds.
type Rule = (Part, fn(&Place) -> bool, &'static Format);

/// What a matrix does in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Embedding,
    Output,
    Query,
    Key,
    /// Values, alone or in one matrix with queries and keys, or with keys.
    Value,
    AttentionOutput,
    Gate,
    Up,
    Down,
    Other,
}

/// Which matrix of its kind one is, and what else a mixture looks at.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of the layer; in models without experts the number among matrices of the same part.
    layer: usize,
    /// The number among matrices of the same part.
    index: usize,
    /// Layers, or for values matrices of that part.
    count: usize,
    /// Query heads for each head of keys and values.
    groups: usize,
    experts: usize,
    imatrix: bool,
}

impl Place {
    /// The first and last eighth, and every third between them.
    fn wants_more_bits(index: usize, count: usize) -> bool {
        index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2
    }

    fn more(&self) -> bool {
        Place::wants_more_bits(self.layer, self.count)
    }

    fn first_eighth(&self) -> bool {
        self.layer < self.count / 8
    }

    fn middle(&self) -> bool {
        !self.first_eighth() && self.layer < 7 * self.count / 8
    }

    fn shared(&self) -> bool {
        self.groups >= 4
    }
}

const ALL: fn(&Place) -> bool = |_| true;
const EIGHT: fn(&Place) -> bool = |place| place.experts == 8;
/// The rules of files of one and two bits: what values, outputs of attention and the first `ffn_down` get, and embeddings.
macro_rules! few_bits {
    ($values:expr, $embedding:expr, [$($more:expr),*]) => {
        &[
            (Part::Value, |place| place.shared() || place.experts >= 4, &Q4_K),
            (Part::Value, ALL, $values),
            (Part::Key, EIGHT, &Q4_K),
            (Part::Down, |place| place.index < place.count / 8, $values),
            (Part::AttentionOutput, EIGHT, &Q5_K),
            (Part::Output, ALL, &Q5_K),
            (Part::Embedding, ALL, $embedding),
            $($more),*
        ]
    };
}

/// All mixtures. Where none of its rules holds, a matrix gets the format of the mixture; `Mixer::choose` has the rules of all.
#[rustfmt::skip]
pub static MIXES: &[Mix] = &[
    Mix { name: "Q4_0", file_type: 2, format: &Q4_0, rules: &[(Part::Down, |place| place.imatrix && place.first_eighth(), &Q4_1)] },
    Mix { name: "Q4_1", file_type: 3, format: &Q4_1, rules: &[] },
    Mix { name: "Q5_0", file_type: 8, format: &Q5_0, rules: &[(Part::Down, |place| place.imatrix && place.first_eighth(), &Q5_1)] },
    Mix { name: "Q5_1", file_type: 9, format: &Q5_1, rules: &[] },
    Mix { name: "Q8_0", file_type: 7, format: &Q8_0, rules: &[] },
    Mix { name: "Q2_K", file_type: 10, format: &Q2_K, rules: &[
        (Part::Value, Place::shared, &Q4_K), (Part::Value, ALL, &Q3_K), (Part::Down, ALL, &Q3_K),
        (Part::AttentionOutput, EIGHT, &Q5_K), (Part::AttentionOutput, ALL, &Q3_K),
    ] },
    Mix { name: "Q2_K_S", file_type: 21, format: &Q2_K, rules: &[
        (Part::Value, Place::shared, &Q4_K), (Part::Down, Place::first_eighth, &Q4_K),
    ] },
    Mix { name: "Q3_K_S", file_type: 11, format: &Q3_K, rules: &[(Part::AttentionOutput, EIGHT, &Q5_K)] },
    Mix { name: "Q3_K_M", file_type: 12, format: &Q3_K, rules: &[
        (Part::Value, |place| place.index < 2, &Q5_K), (Part::Value, ALL, &Q4_K),
        (Part::Down, |place| place.layer < place.count / 16, &Q5_K), (Part::Down, ALL, &Q4_K),
        (Part::AttentionOutput, EIGHT, &Q5_K), (Part::AttentionOutput, ALL, &Q4_K),
    ] },
    Mix { name: "Q3_K_L", file_type: 13, format: &Q3_K, rules: &[
        (Part::Value, ALL, &Q5_K), (Part::Down, ALL, &Q5_K), (Part::AttentionOutput, |place| place.experts != 8, &Q5_K),
    ] },
    Mix { name: "Q4_K_S", file_type: 14, format: &Q4_K, rules: &[
        (Part::Value, |place| place.index < 4, &Q5_K), (Part::Down, Place::first_eighth, &Q5_K), (Part::AttentionOutput, EIGHT, &Q5_K),
    ] },
    Mix { name: "Q4_K_M", file_type: 15, format: &Q4_K, rules: &[
        (Part::Value, |place| Place::wants_more_bits(place.index, place.count), &Q6_K), (Part::Down, Place::more, &Q6_K),
        (Part::AttentionOutput, EIGHT, &Q5_K),
    ] },
    Mix { name: "Q5_K_S", file_type: 16, format: &Q5_K, rules: &[] },
    Mix { name: "Q5_K_M", file_type: 17, format: &Q5_K, rules: &[
        (Part::Value, |place| Place::wants_more_bits(place.index, place.count), &Q6_K), (Part::Down, Place::more, &Q6_K),
    ] },
    Mix { name: "Q6_K", file_type: 18, format: &Q6_K, rules: &[] },
    Mix { name: "IQ4_NL", file_type: 25, format: &IQ4_NL, rules: IQ4 },
    Mix { name: "IQ4_XS", file_type: 30, format: &IQ4_XS, rules: IQ4 },
    Mix { name: "IQ3_M", file_type: 27, format: &IQ3_S, rules: &[
        (Part::Value, ALL, &Q4_K), (Part::Down, |place| place.first_eighth() || (place.experts == 8 && place.more()), &Q4_K),
        (Part::AttentionOutput, EIGHT, &Q5_K), (Part::AttentionOutput, ALL, &Q4_K),
    ] },
    Mix { name: "IQ3_S", file_type: 26, format: &IQ3_S, rules: &[(Part::Value, Place::shared, &Q4_K), (Part::AttentionOutput, EIGHT, &Q5_K)] },
    Mix { name: "IQ3_XS", file_type: 22, format: &IQ3_S, rules: &[
        (Part::Value, Place::shared, &Q4_K), (Part::Key, |place| place.experts != 8, &IQ3_XXS), (Part::Query, ALL, &IQ3_XXS),
        (Part::Gate, Place::middle, &IQ3_XXS), (Part::Up, Place::middle, &IQ3_XXS), (Part::AttentionOutput, EIGHT, &Q5_K),
    ] },
    Mix { name: "IQ3_XXS", file_type: 23, format: &IQ3_XXS, rules: &[
        (Part::Value, Place::shared, &Q4_K), (Part::Value, |place| !place.imatrix, &IQ3_S),
        (Part::Key, |place| place.experts != 8, &IQ2_S), (Part::Query, ALL, &IQ2_S),
        (Part::Down, |place| !place.imatrix && place.first_eighth(), &Q4_K), (Part::Down, |place| !place.imatrix, &Q3_K),
        (Part::AttentionOutput, EIGHT, &Q5_K), (Part::AttentionOutput, ALL, &IQ3_S),
        (Part::Output, ALL, &Q5_K), (Part::Embedding, ALL, &IQ3_S),
    ] },
    Mix { name: "IQ2_M", file_type: 29, format: &IQ2_S, rules: few_bits!(&IQ3_S, &IQ3_S, [(Part::AttentionOutput, ALL, &IQ3_S)]) },
    Mix { name: "IQ2_S", file_type: 28, format: &IQ2_XS, rules: few_bits!(&IQ3_S, &IQ3_S, [(Part::AttentionOutput, ALL, &IQ3_S)]) },
    Mix { name: "IQ2_XS", file_type: 20, format: &IQ2_XS, rules: few_bits!(&Q2_K, &Q2_K, []) },
    Mix { name: "IQ2_XXS", file_type: 19, format: &IQ2_XXS, rules: few_bits!(&Q2_K, &Q2_K, []) },
    Mix { name: "IQ1_M", file_type: 31, format: &IQ1_M, rules: few_bits!(&Q2_K, &Q2_K, [(Part::AttentionOutput, ALL, &IQ2_XXS)]) },
    Mix { name: "IQ1_S", file_type: 24, format: &IQ1_S, rules: few_bits!(&Q2_K, &Q2_K, [(Part::AttentionOutput, ALL, &IQ2_XXS)]) },
    Mix { name: "MXFP4_MOE", file_type: 38, format: &Q8_0, rules: &[] },
];

const IQ4: &[Rule] = &[
    (Part::Value, Place::shared, &Q5_K),
    (Part::Down, |place| !place.imatrix && place.first_eighth(), &Q5_K),
    (Part::AttentionOutput, EIGHT, &Q5_K),
];

/// Shorter names of mixtures.
const ALIASES: [(&str, &str); 3] = [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M")];

impl Mix {
    /// Finds a mixture by its name, ignoring case.
    pub fn by_name(name: &str) -> Option<&'static Mix> {
        let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = alias.map_or(name, |(_, name)| name);
        MIXES.iter().find(|mix| mix.name.eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Debug for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a mixture looks at in a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub layers: usize,
    /// Query heads for each head of keys and values.
    pub groups: usize,
    pub experts: usize,
    /// Of a size whose values are a small part of it: 80 layers in families that have a model of 70 billion weights.
    pub seventy_billion: bool,
    /// Whether the embedding is the output head.
    pub tied: bool,
    pub imatrix: bool,
}

/// Chooses formats for the matrices of a model, one after another in the order of layers.
pub(super) struct Mixer {
    mix: &'static Mix,
    shape: Shape,
    values: usize,
    /// How many values, `ffn_down`, `ffn_gate` and `ffn_up` there were.
    seen: [usize; 4],
}

impl Mixer {
    /// `tensors` are all of the model.
    pub fn new<'a>(mix: &'static Mix, shape: Shape, tensors: impl Iterator<Item = &'a TensorInfo>) -> Mixer {
        let values = tensors.filter(|info| Part::of(&info.name) == Part::Value).count();
        Mixer { mix, shape, values, seen: [0; 4] }
    }

    /// The format of the next matrix.
    pub fn choose(&mut self, tensor: &TensorInfo) -> &'static Format {
        let Shape { layers, groups, experts, imatrix, .. } = self.shape;
        let mut part = Part::of(&tensor.name);
        if part == Part::Embedding && self.shape.tied {
            part = Part::Output;
        }
        if self.mix.name == "MXFP4_MOE" {
            let experts = part != Part::Output && tensor.shape.len() == 3;
            return if experts { &MXFP4 } else { &Q8_0 };
        }
        let counter = [Part::Value, Part::Down, Part::Gate, Part::Up].iter().position(|other| *other == part);
        let index = counter.map_or(0, |counter| {
            self.seen[counter] += 1;
            self.seen[counter] - 1
        });
        let layer = if experts > 1 { layer_of(&tensor.name).unwrap_or(index) } else { index };
        let count = if part == Part::Value { self.values } else { layers };
        let place = Place { layer, index, count, groups, experts, imatrix };
        let rule = self.mix.rules.iter().find(|(of, when, _)| *of == part && when(&place));
        let format = rule.map_or(self.mix.format, |&(_, _, format)| format);
        let few_bits = self.mix.name.starts_with("IQ2") || self.mix.name.starts_with("IQ1");
        match part {
            Part::Output if !tensor.shape.last().is_some_and(|cols| cols.is_multiple_of(self.mix.format.block)) => {
                &Q8_0
            }
            Part::Output if rule.is_none() && format != &Q8_0 => &Q6_K,
            Part::Value if experts == 8 && !few_bits => &Q8_0,
            Part::Value if self.shape.seventy_billion && !few_bits && [&Q3_K, &Q4_K].contains(&format) => &Q5_K,
            Part::Key if experts == 8 && !few_bits => &Q8_0,
            _ => format,
        }
    }
}

/// The number of a tensor's layer.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

impl Part {
    fn of(name: &str) -> Part {
        let has = |part: &str| name.contains(part);
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Part::Embedding,
            _ if has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight") => Part::Value,
            _ if has("attn_k.weight") => Part::Key,
            _ if has("attn_q.weight") => Part::Query,
            _ if has("attn_output.weight") => Part::AttentionOutput,
            _ if has("ffn_up") => Part::Up,
            _ if has("ffn_gate") => Part::Gate,
            _ if has("ffn_down") => Part::Down,
            _ => Part::Other,
        }
    }
}
