//! The formats of tool calls.

/// How a family of models calls tools: a section of one or more calls.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ToolFormat {
    /// The name of vLLM's or SGLang's parser, or of the family.
    pub name: &'static str,
    /// Begins the section. In these texts, a space stands for any whitespace or none, and a line break for some whitespace.
    pub begin: &'static str,
    pub call: &'static [Part],
    /// Between two calls of a section.
    pub separator: &'static str,
    pub end: &'static str,
    pub arguments: Arguments,
    /// Whether calls are recognized only where the answer begins.
    pub at_start: bool,
    /// Whether the model may make several calls at once.
    pub parallel: bool,
    /// Whether the model may answer without a call.
    pub optional: bool,
    /// A chat template that has all marks of one of these lists is of this family.
    pub marks: &'static [&'static [&'static str]],
}

impl ToolFormat {
    /// The texts with which a section may begin, as far as they tell it from other text.
    pub fn markers(&self) -> Vec<&'static str> {
        let mut firsts = Vec::new();
        if self.begin.is_empty() {
            first_texts(self.call, &mut firsts);
        } else {
            firsts.push(self.begin);
        }
        let marker = |first: &'static str| {
            let text = first.trim_start();
            // A space after a bracket is within the call.
            let bracket = text.find(['<', '[', '{', '>']).unwrap_or(text.len());
            let end = text[bracket..].find(char::is_whitespace).map_or(text.len(), |end| bracket + end);
            &text[..end]
        };
        firsts.into_iter().map(marker).collect()
    }
}

/// The texts with which parts may begin.
fn first_texts(parts: &'static [Part], firsts: &mut Vec<&'static str>) {
    match parts.first() {
        Some(Part::Text(text)) => firsts.push(text),
        Some(Part::Either(options)) => {
            for option in *options {
                first_texts(if option.is_empty() { &parts[1..] } else { option }, firsts);
            }
        }
        _ => {}
    }
}

/// A part of a call.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Text(&'static str),
    /// The name of the function.
    Name,
    /// What identifies the call, as a regular expression.
    Id(&'static str),
    /// The number of the call; its id is `functions.NAME:INDEX`.
    Index,
    Arguments,
    /// The first of these that fits.
    Either(&'static [&'static [Part]]),
}

/// How arguments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arguments {
    /// A JSON object.
    Json,
    /// Each with its name, the raw text of a string or the JSON of another value, and markers around these.
    Tagged(Tags),
    /// `name=value` of Python, with commas between.
    Python,
    /// `{name:value}` with `<|"|>` around strings.
    Gemma,
}

/// The markers of [`Arguments::Tagged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tags {
    pub open: &'static str,
    /// Between the name and a value: a string, or another one.
    pub named: [&'static str; 2],
    pub close: &'static str,
    /// Whether values stand on lines of their own.
    pub lines: bool,
}

use Arguments::{Gemma, Json, Python, Tagged};
use Part::{Either, Id, Index, Name, Text};

const ARGUMENTS: Part = Part::Arguments;
/// Ids, and those that Mistral's templates take.
const ANY: &str = "[A-Za-z0-9_-]{1,64}";
const NINE: &str = "[A-Za-z0-9]{9}";
const NAME_AND_ARGUMENTS: &[Part] =
    &[Text("{ \"name\" : \""), Name, Text("\" , \"arguments\" : "), ARGUMENTS, Text(" }")];
const WITH_ID: &[Part] = &[
    Text("{ \"name\" : \""),
    Name,
    Text("\" , \"arguments\" : "),
    ARGUMENTS,
    Either(&[&[Text(" , \"id\" : \""), Id(NINE), Text("\" }")], &[Text(" }")]]),
];
const TOOL_AND_PARAMETERS: &[Part] =
    &[Text("{ \"tool_name\" : \""), Name, Text("\" , \"parameters\" : "), ARGUMENTS, Text(" }")];
const QWEN_TAGS: Tags = Tags { open: "<parameter=", named: [">", ">"], close: "</parameter>", lines: true };

/// What most formats have; a row names the rest.
const NEUTRAL: ToolFormat = ToolFormat {
    name: "",
    begin: "",
    call: NAME_AND_ARGUMENTS,
    separator: "",
    end: "",
    arguments: Json,
    at_start: false,
    parallel: true,
    optional: true,
    marks: &[],
};

/// The first whose marks a template has is its format.
pub static TOOL_FORMATS: &[&ToolFormat] = &[
    &ToolFormat {
        name: "openai",
        call: &[
            Either(&[&[Text("<|channel|>commentary\nto=functions.")], &[Text(" to=functions.")]]),
            Name,
            Either(&[&[Text("<|channel|>commentary")], &[]]),
            Either(&[&[Text(" <|constrain|>json")], &[Text("\njson")], &[]]),
            Text("<|message|>"),
            ARGUMENTS,
        ],
        parallel: false,
        marks: &[&["<|channel|>commentary", "functions."]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "solar",
        begin: "<|tool_calls|>",
        call: &[
            Text("<|tool_call:begin|>"),
            Id(ANY),
            Text("<|tool_call:name|>"),
            Name,
            Text("<|tool_call:args|>"),
            ARGUMENTS,
            Text("<|tool_call:end|>"),
        ],
        marks: &[&["<|tool_call:begin|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "gemma4",
        call: &[Text("<|tool_call>call:"), Name, ARGUMENTS, Text("<tool_call|>")],
        arguments: Gemma,
        marks: &[&["<|tool_call>call:"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "deepseek_v32",
        begin: "<｜DSML｜function_calls>",
        call: &[Text("<｜DSML｜invoke\nname=\""), Name, Text("\">"), ARGUMENTS, Text(" </｜DSML｜invoke>")],
        end: " </｜DSML｜function_calls>",
        arguments: Tagged(Tags {
            open: "<｜DSML｜parameter\nname=\"",
            named: ["\"\nstring=\"true\">", "\"\nstring=\"false\">"],
            close: "</｜DSML｜parameter>",
            lines: false,
        }),
        marks: &[&["｜DSML｜"]],
        ..NEUTRAL
    },
    // DeepSeek V3 and R1.
    &ToolFormat {
        name: "deepseek_v3",
        begin: "<｜tool▁calls▁begin｜>",
        call: &[
            Text("<｜tool▁call▁begin｜>function<｜tool▁sep｜>"),
            Name,
            Text(" ```json "),
            ARGUMENTS,
            Text(" ``` <｜tool▁call▁end｜>"),
        ],
        end: " <｜tool▁calls▁end｜>",
        marks: &[&["<｜tool▁calls▁begin｜>", "```json"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "deepseek_v31",
        begin: "<｜tool▁calls▁begin｜>",
        call: &[Text("<｜tool▁call▁begin｜>"), Name, Text("<｜tool▁sep｜>"), ARGUMENTS, Text("<｜tool▁call▁end｜>")],
        end: "<｜tool▁calls▁end｜>",
        marks: &[&["<｜tool▁calls▁begin｜>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "kimi_k2",
        begin: "<|tool_calls_section_begin|>",
        call: &[
            Text("<|tool_call_begin|> functions."),
            Name,
            Text(":"),
            Index,
            Text(" <|tool_call_argument_begin|> "),
            ARGUMENTS,
            Text(" <|tool_call_end|>"),
        ],
        end: " <|tool_calls_section_end|>",
        marks: &[&["<|tool_calls_section_begin|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "minimax_m2",
        begin: "<minimax:tool_call>",
        call: &[Text("<invoke\nname=\""), Name, Text("\">"), ARGUMENTS, Text(" </invoke>")],
        end: " </minimax:tool_call>",
        arguments: Tagged(Tags {
            open: "<parameter\nname=\"",
            named: ["\">", "\">"],
            close: "</parameter>",
            lines: false,
        }),
        marks: &[&["<minimax:tool_call>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "seed_oss",
        call: &[
            Text("<seed:tool_call> <function="),
            Name,
            Text(">"),
            ARGUMENTS,
            Text(" </function> </seed:tool_call>"),
        ],
        arguments: Tagged(Tags { lines: false, ..QWEN_TAGS }),
        marks: &[&["<seed:tool_call>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "glm45",
        call: &[Text("<tool_call>"), Name, ARGUMENTS, Text(" </tool_call>")],
        arguments: Tagged(Tags {
            open: "<arg_key>",
            named: ["</arg_key> <arg_value>", "</arg_key> <arg_value>"],
            close: "</arg_value>",
            lines: false,
        }),
        marks: &[&["<arg_key>"]],
        ..NEUTRAL
    },
    // Also Qwen3.5, Nemotron 3 and Step 3.5.
    &ToolFormat {
        name: "qwen3_coder",
        call: &[Text("<tool_call> <function="), Name, Text(">"), ARGUMENTS, Text(" </function> </tool_call>")],
        arguments: Tagged(QWEN_TAGS),
        marks: &[&["<tool_call>", "<function=", "<parameter="]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "functionary_v3.1",
        call: &[Text("<function="), Name, Text(">"), ARGUMENTS, Text("</function>")],
        marks: &[&["<function=example_function_name>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "functionary_v3.2",
        call: &[Text(">>>"), Name, Text("\n"), ARGUMENTS],
        marks: &[&[">>>${recipient}"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "apertus",
        begin: "<|tools_prefix|>[",
        call: &[Text("{ \""), Name, Text("\" : "), ARGUMENTS, Text(" }")],
        separator: " , ",
        end: " ]<|tools_suffix|>",
        marks: &[&["<|tools_prefix|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "cohere_command3",
        begin: "<|START_ACTION|>[",
        call: &[
            Text("{ \"tool_call_id\" : \""),
            Id(ANY),
            Text("\" , \"tool_name\" : \""),
            Name,
            Text("\" , \"parameters\" : "),
            ARGUMENTS,
            Text(" }"),
        ],
        separator: " , ",
        end: " ]<|END_ACTION|>",
        marks: &[&["<|START_ACTION|>"]],
        ..NEUTRAL
    },
    // Its instructions ask for a call in any case, of the tool `directly-answer` if no other is needed.
    &ToolFormat {
        name: "command_r",
        optional: false,
        begin: "Action: ```json [",
        call: TOOL_AND_PARAMETERS,
        separator: " , ",
        end: " ] ```",
        marks: &[&["Action:", "```json", "tool_name"]],
        ..NEUTRAL
    },
    // Mistral's tokenizers since v11; since v13 without ids.
    &ToolFormat {
        name: "mistral",
        call: &[Text("[TOOL_CALLS]"), Name, Either(&[&[Text("[CALL_ID]"), Id(NINE)], &[]]), Text("[ARGS]"), ARGUMENTS],
        marks: &[&["[TOOL_CALLS]", "[ARGS]"]],
        ..NEUTRAL
    },
    // Mistral's tokenizers before.
    &ToolFormat {
        name: "mistral_v3",
        begin: "[TOOL_CALLS] [",
        call: WITH_ID,
        separator: " , ",
        end: " ]",
        marks: &[&["[TOOL_CALLS]"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "gigachat3.1",
        call: &[Text("<|function_call|> { \"name\" : \""), Name, Text("\" , \"arguments\" : "), ARGUMENTS, Text(" }")],
        parallel: false,
        marks: &[&["<|function_call|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "gigachat3",
        call: &[
            Text("<|message_sep|> function call<|role_sep|> { \"name\" : \""),
            Name,
            Text("\" , \"arguments\" : "),
            ARGUMENTS,
            Text(" }"),
        ],
        parallel: false,
        marks: &[&["function call", "<|role_sep|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "nemotron",
        begin: "<TOOLCALL>[",
        separator: " , ",
        end: " ]</TOOLCALL>",
        marks: &[&["<TOOLCALL>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "apriel",
        begin: "<tool_calls>[",
        call: WITH_ID,
        separator: " , ",
        end: " ]</tool_calls>",
        marks: &[&["<tool_calls>["]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "firefunction",
        begin: "functools[",
        separator: " , ",
        end: " ]",
        marks: &[&["functools["]],
        ..NEUTRAL
    },
    // Granite 3; Granite 4 is as Hermes.
    &ToolFormat {
        name: "granite",
        begin: "<|tool_call|> [",
        separator: " , ",
        end: " ]",
        marks: &[&["<|tool_call|>"]],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "lfm2",
        begin: "<|tool_call_start|>[",
        call: &[Name, Text("("), ARGUMENTS, Text(")")],
        separator: " , ",
        end: " ]<|tool_call_end|>",
        arguments: Python,
        // LFM2, whose templates describe tools but no calls, and LFM2.5.
        marks: &[&["<|tool_list_start|>"], &["List of tools: [", "keep_past_thinking"]],
        ..NEUTRAL
    },
    // Also Qwen 2.5 and 3, Granite 4, MiMo and others.
    &ToolFormat {
        name: "hermes",
        call: &[
            Text("<tool_call> { \"name\" : \""),
            Name,
            Text("\" , \"arguments\" : "),
            ARGUMENTS,
            Text(" } </tool_call>"),
        ],
        marks: &[
            &["<tool_call>", "\"name\"", "\"arguments\""],
            &["<tool_call>", "<tools>"],
            &["xml_tools", "<tool_call>"],
        ],
        ..NEUTRAL
    },
    &ToolFormat {
        name: "llama3_json",
        call: &[
            Either(&[&[Text("<|python_tag|>")], &[]]),
            Text("{ "),
            Either(&[&[Text("\"type\" : \"function\" , ")], &[]]),
            Text("\"name\" : \""),
            Name,
            Text("\" , \"parameters\" : "),
            ARGUMENTS,
            Text(" }"),
        ],
        at_start: true,
        parallel: false,
        marks: &[&["<|python_tag|>", "\"parameters\": "], &["\"name\": function name, \"parameters\": dictionary"]],
        ..NEUTRAL
    },
];
