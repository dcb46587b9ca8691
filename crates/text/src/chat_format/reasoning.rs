//! The formats of thinking, and what is around the answer itself.

/// The tags between which a family of models thinks.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ReasoningFormat {
    /// The name of vLLM's parser, or of the family.
    pub name: &'static str,
    pub open: &'static str,
    pub close: &'static str,
    /// A chat template that has one of these is of this family.
    pub marks: &'static [&'static str],
}

/// The first whose marks a template has is its format.
pub static REASONING_FORMATS: &[&ReasoningFormat] = &[
    &ReasoningFormat {
        name: "openai_gptoss",
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        marks: &["<|channel|>analysis<|message|>"],
    },
    &ReasoningFormat { name: "solar", open: "<|think|>", close: "<|end|>", marks: &["assistant<|think|>"] },
    &ReasoningFormat {
        name: "gemma4",
        open: "<|channel>thought\n",
        close: "<channel|>",
        marks: &["<|channel>thought"],
    },
    &ReasoningFormat {
        name: "apertus",
        open: "<|inner_prefix|>",
        close: "<|inner_suffix|>",
        marks: &["<|inner_prefix|>"],
    },
    &ReasoningFormat {
        name: "cohere_command",
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        marks: &["<|START_THINKING|>"],
    },
    &ReasoningFormat { name: "seed_oss", open: "<seed:think>", close: "</seed:think>", marks: &["<seed:think>"] },
    &ReasoningFormat { name: "mistral", open: "[THINK]", close: "[/THINK]", marks: &["[THINK]"] },
    &ReasoningFormat {
        name: "apriel",
        open: "Here are my reasoning steps:\n",
        close: "[BEGIN FINAL RESPONSE]",
        marks: &["[BEGIN FINAL RESPONSE]"],
    },
    // Also vLLM's qwen3, glm45, kimi_k2, minimax_m2, nemotron_v3, step3p5 and granite.
    &ReasoningFormat { name: "deepseek_r1", open: "<think>", close: "</think>", marks: &["</think>", "<think>"] },
];

/// What is around the answer itself.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ContentFormat {
    pub name: &'static str,
    /// What the prompt of an answer ends with, and belongs to what the model writes.
    pub prompted: &'static str,
    /// Begins another message of the same answer.
    pub between: &'static str,
    pub open: &'static str,
    /// Ends the answer, or nothing where the end token does.
    pub close: &'static str,
    /// Around a text that is a message of its own before calls.
    pub preamble: [&'static str; 2],
    /// Other markers that belong to no text.
    pub others: &'static [&'static str],
    /// Whether `open` must be there.
    pub required: bool,
    /// A chat template that has all of these is of this family.
    pub marks: &'static [&'static str],
}

pub(super) const PLAIN: ContentFormat = ContentFormat {
    name: "plain",
    prompted: "",
    between: "",
    open: "",
    close: "",
    preamble: [""; 2],
    others: &[],
    required: false,
    marks: &[],
};

/// The first whose marks a template has is its format; without one, nothing is around the answer.
pub static CONTENT_FORMATS: &[&ContentFormat] = &[
    &ContentFormat {
        name: "harmony",
        between: "<|start|>assistant",
        open: "<|channel|>final<|message|>",
        preamble: ["<|channel|>commentary<|message|>", "<|end|>"],
        others: &["<|channel|>final <|constrain|>json<|message|>"],
        required: true,
        marks: &["<|channel|>final<|message|>"],
        ..PLAIN
    },
    &ContentFormat {
        name: "solar",
        between: "<|begin|>assistant",
        open: "<|content|>",
        close: "<|end|>",
        preamble: ["<|content|>", "<|end|>"],
        required: true,
        marks: &["assistant<|content|>", "<|begin|>"],
        ..PLAIN
    },
    &ContentFormat {
        name: "functionary_v3.2",
        prompted: ">>>",
        open: ">>>all\n",
        required: true,
        marks: &[">>>all", ">>>${recipient}"],
        ..PLAIN
    },
    &ContentFormat {
        name: "cohere_command",
        open: "<|START_RESPONSE|>",
        close: "<|END_RESPONSE|>",
        marks: &["<|START_RESPONSE|>"],
        ..PLAIN
    },
    &ContentFormat {
        name: "granite",
        open: "<response>",
        close: "</response>",
        marks: &["<response></response>"],
        ..PLAIN
    },
    &ContentFormat { name: "apriel", close: "[END FINAL RESPONSE]", marks: &["[END FINAL RESPONSE]"], ..PLAIN },
];
