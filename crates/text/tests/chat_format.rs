//! What the chat templates write for calls is what the parser reads.

mod common;
#[path = "common/conversations.rs"]
mod conversations;

use conversations::{answers, files, functions, usual};
use proptest::prelude::*;
use serde_json::{Value, json};
use trine_text::{
    Arguments, CONTENT_FORMATS, ChatFormat, ChatParser, Delta, Part, REASONING_FORMATS, TOOL_FORMATS, Tool,
};

/// An answer, taken apart.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    reasoning: String,
    content: String,
    calls: Vec<(Option<String>, String, String)>,
}

fn parse(parser: &mut ChatParser, pieces: impl IntoIterator<Item = impl AsRef<str>>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut deltas: Vec<Delta> = pieces.into_iter().flat_map(|piece| parser.push(piece.as_ref())).collect();
    deltas.extend(parser.finish());
    for delta in deltas {
        match delta {
            Delta::Reasoning(text) => parsed.reasoning += &text,
            Delta::Content(text) => parsed.content += &text,
            Delta::ToolCall { index, id, name } => {
                assert_eq!(index, parsed.calls.len());
                parsed.calls.push((id, name, String::new()));
            }
            Delta::Arguments { index, text } => {
                assert_eq!(index + 1, parsed.calls.len());
                parsed.calls[index].2 += &text;
            }
        }
    }
    parsed
}

/// Whether all ways to split a text into two pieces, and into characters, give the same.
fn parse_all(format: ChatFormat, tools: &[Tool], thinking: bool, text: &str) -> Parsed {
    let whole = parse(&mut format.parser(tools, thinking), [text]);
    let characters = text.chars().map(String::from);
    assert_eq!(parse(&mut format.parser(tools, thinking), characters), whole, "{text:?}");
    for (at, _) in text.char_indices() {
        let (head, tail) = text.split_at(at);
        assert_eq!(parse(&mut format.parser(tools, thinking), [head, tail]), whole, "{head:?} {tail:?}");
    }
    whole
}

#[test]
fn what_templates_write_for_calls_is_parsed() {
    let Some(folder) = common::shared("templates/jinja") else { return };
    let (mut read, mut wrong) = (0, Vec::new());
    for file in files(&folder) {
        for answer in answers(&folder, &file, &usual()) {
            let parsed = parse_all(answer.format, &functions(), answer.thinking, &answer.text);
            let calls = parsed.calls.into_iter().map(|(_, name, arguments)| {
                (name, serde_json::from_str(&arguments).unwrap_or_else(|error| json!(format!("{arguments}: {error}"))))
            });
            let content = parsed.content.trim_start().to_owned();
            let found = (parsed.reasoning, content, calls.collect::<Vec<(String, Value)>>());
            let expected = (answer.reasoning, answer.content, answer.calls);
            if found != expected {
                eprintln!("{file}: {:?}: expected {expected:?}, found {found:?}", answer.text);
                wrong.push(file.clone());
            }
            read += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(read > 200, "{read}");
}

/// The formats of calls and of thinking of each shared template.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("Apertus-8B-Instruct", "apertus", "apertus"),
    ("Apriel-1.6-15b-Thinker-fixed", "apriel", "apriel"),
    ("Bielik-11B-v3.0-Instruct", "hermes", "deepseek_r1"),
    ("ByteDance-Seed-OSS", "seed_oss", "seed_oss"),
    ("CohereForAI-c4ai-command-r-plus-tool_use", "command_r", ""),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "cohere_command3", "cohere_command"),
    ("GLM-4.6", "glm45", "deepseek_r1"),
    ("GLM-4.7-Flash", "glm45", "deepseek_r1"),
    ("GigaChat3-10B-A1.8B", "gigachat3", ""),
    ("GigaChat3.1-10B-A1.8B", "gigachat3.1", ""),
    ("HuggingFaceTB-SmolLM3-3B", "", "deepseek_r1"),
    ("Kimi-K2-Instruct", "kimi_k2", ""),
    ("Kimi-K2-Thinking", "kimi_k2", "deepseek_r1"),
    ("LFM2-8B-A1B", "lfm2", ""),
    ("LFM2.5-Instruct", "lfm2", "deepseek_r1"),
    ("MiMo-VL", "hermes", ""),
    ("MiniMax-M2", "minimax_m2", "deepseek_r1"),
    ("Mistral-Small-3.2-24B-Instruct-2506", "mistral", ""),
    ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "qwen3_coder", "deepseek_r1"),
    ("NVIDIA-Nemotron-Nano-v2", "nemotron", "deepseek_r1"),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes", ""),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes", ""),
    ("Qwen-QwQ-32B", "hermes", "deepseek_r1"),
    ("Qwen-Qwen2.5-7B-Instruct", "hermes", ""),
    ("Qwen-Qwen3-0.6B", "hermes", "deepseek_r1"),
    ("Qwen3-Coder", "qwen3_coder", ""),
    ("Qwen3.5-4B", "qwen3_coder", "deepseek_r1"),
    ("Reka-Edge", "hermes", "deepseek_r1"),
    ("StepFun3.5-Flash", "qwen3_coder", "deepseek_r1"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek_v3", "deepseek_r1"),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek_v3", "deepseek_r1"),
    ("deepseek-ai-DeepSeek-V3.1", "deepseek_v31", "deepseek_r1"),
    ("deepseek-ai-DeepSeek-V3.2", "deepseek_v32", "deepseek_r1"),
    ("fireworks-ai-llama-3-firefunction-v2", "firefunction", ""),
    ("google-gemma-2-2b-it", "", ""),
    ("google-gemma-4-31B-it", "gemma4", "gemma4"),
    ("google-gemma-4-31B-it-interleaved", "gemma4", "gemma4"),
    ("ibm-granite-granite-3.3-2B-Instruct", "granite", "deepseek_r1"),
    ("ibm-granite-granite-4.0", "hermes", ""),
    ("llama-cpp-deepseek-r1", "deepseek_v3", "deepseek_r1"),
    ("llama-cpp-rwkv-world", "", "deepseek_r1"),
    ("meetkai-functionary-medium-v3.1", "functionary_v3.1", ""),
    ("meetkai-functionary-medium-v3.2", "functionary_v3.2", ""),
    ("meta-llama-Llama-3.1-8B-Instruct", "llama3_json", ""),
    ("meta-llama-Llama-3.2-3B-Instruct", "llama3_json", ""),
    ("meta-llama-Llama-3.3-70B-Instruct", "llama3_json", ""),
    ("microsoft-Phi-3.5-mini-instruct", "", ""),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral", "mistral"),
    ("mistralai-Mistral-Nemo-Instruct-2407", "mistral_v3", ""),
    ("moonshotai-Kimi-K2", "kimi_k2", ""),
    ("openai-gpt-oss-120b", "openai", "openai_gptoss"),
    ("stepfun-ai-Step-3.5-Flash", "qwen3_coder", "deepseek_r1"),
    ("unsloth-Apriel-1.5", "apriel", "apriel"),
    ("unsloth-mistral-Devstral-Small-2507", "mistral", ""),
    ("upstage-Solar-Open-100B", "solar", "solar"),
];

#[test]
fn each_template_has_the_formats_of_its_family() {
    let Some(folder) = common::shared("templates/jinja") else { return };
    let found: Vec<(String, &str, &str)> = files(&folder)
        .into_iter()
        .map(|file| {
            let format = ChatFormat::of(&std::fs::read_to_string(folder.join(&file)).unwrap());
            let tools = format.tools.map_or("", |tools| tools.name);
            (file.trim_end_matches(".jinja").to_owned(), tools, format.reasoning.map_or("", |format| format.name))
        })
        .collect();
    let mut expected: Vec<(String, &str, &str)> =
        FAMILIES.iter().map(|&(file, tools, reasoning)| (file.to_owned(), tools, reasoning)).collect();
    expected.sort_by_key(|(file, ..)| format!("{file}.jinja"));
    assert_eq!(found, expected);
}

/// The format of a shared template.
fn format(folder: &std::path::Path, file: &str) -> ChatFormat {
    ChatFormat::of(&std::fs::read_to_string(folder.join(format!("{file}.jinja"))).unwrap())
}

/// A template, whether its prompt opens thinking, an answer, and the thinking, content and calls in it.
type Stream<'a> = (&'a str, bool, &'a str, &'a str, &'a str, &'a [(Option<&'a str>, &'a str, &'a str)]);

#[test]
fn answers_of_model_cards_are_parsed() {
    let Some(folder) = common::shared("templates/jinja") else { return };
    let paris = r#"{"city": "Paris"}"#;
    let cases: &[Stream] = &[
        // Templates that write no calls.
        (
            "LFM2-8B-A1B",
            false,
            "<|tool_call_start|>[get_weather(city=\"Paris, 'x')\", days=3), now()]<|tool_call_end|>Checking now.",
            "",
            "Checking now.",
            &[(None, "get_weather", r#"{"city":"Paris, 'x')","days":3}"#), (None, "now", "{}")],
        ),
        (
            "ibm-granite-granite-3.3-2B-Instruct",
            false,
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]",
            "",
            "",
            &[(None, "get_weather", paris)],
        ),
        (
            "ibm-granite-granite-3.3-2B-Instruct",
            false,
            "<think>So.</think><response>Hello.</response>",
            "So.",
            "Hello.",
            &[],
        ),
        (
            "Kimi-K2-Thinking",
            false,
            "<think>Let me see.</think>I ask.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0\
             <|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>",
            "Let me see.",
            "I ask.",
            &[(Some("functions.get_weather:0"), "get_weather", paris)],
        ),
        // What templates write otherwise.
        (
            "openai-gpt-oss-120b",
            false,
            "<|channel|>analysis<|message|>Weather.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather \
             <|constrain|>json<|message|>{\"city\": \"Paris\"}",
            "Weather.",
            "",
            &[(None, "get_weather", paris)],
        ),
        (
            "openai-gpt-oss-120b",
            false,
            "<|channel|>analysis<|message|>A.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>\
             <|start|>assistant<|channel|>analysis<|message|>B.<|end|><|start|>assistant<|channel|>final<|message|>Done.",
            "A.B.",
            "I look.Done.",
            &[],
        ),
        (
            "meta-llama-Llama-3.1-8B-Instruct",
            false,
            "<|python_tag|>{\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
            "",
            "",
            &[(None, "get_weather", paris)],
        ),
        ("meta-llama-Llama-3.1-8B-Instruct", false, "{\"city\": 1} is JSON", "", "{\"city\": 1} is JSON", &[]),
        ("meta-llama-Llama-3.1-8B-Instruct", false, "As {\"name\": \"x", "", "As {\"name\": \"x", &[]),
        (
            "mistralai-Mistral-Nemo-Instruct-2407",
            false,
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]",
            "",
            "",
            &[(None, "get_weather", paris)],
        ),
        (
            "mistralai-Ministral-3-14B-Reasoning-2512",
            false,
            "[THINK]Hm.[/THINK]Well.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}",
            "Hm.",
            "Well.",
            &[(None, "get_weather", paris)],
        ),
        (
            "Mistral-Small-3.2-24B-Instruct-2506",
            false,
            "[TOOL_CALLS]get_weather[CALL_ID]abcdef123[ARGS]{\"city\": \"Paris\"}",
            "",
            "",
            &[(Some("abcdef123"), "get_weather", paris)],
        ),
        (
            "Qwen3-Coder",
            false,
            "I look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\n\n two\n lines \n\n</parameter>\n\
             <parameter=tags>\n['a', True]\n</parameter>\n<parameter=unknown>\n{\"a\": 1}\n</parameter>\n</function>\n</tool_call>",
            "",
            "I look.",
            &[(
                None,
                "get_weather",
                "{\"city\": \"\\n two\\n lines \\n\", \"tags\": [\"a\",true], \"unknown\": {\"a\": 1}}",
            )],
        ),
        // Thinking alone, and an answer that is cut off.
        ("Qwen3.5-4B", true, "Hm.\n\n</think>\n\nHello <b>.\n", "Hm.", "Hello <b>.\n", &[]),
        ("Qwen3.5-4B", true, "Hm. ", "Hm. ", "", &[]),
        ("Qwen-Qwen3-0.6B", false, "<think>\nHm", "Hm", "", &[]),
        ("Qwen-Qwen3-0.6B", false, "Tags: <think> and </think", "", "Tags: <think> and </think", &[]),
        ("Qwen-Qwen3-0.6B", false, "x\n<tool_call>\n{\"na", "", "x", &[]),
        (
            "Qwen-Qwen3-0.6B",
            false,
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"P",
            "",
            "",
            &[(None, "get_weather", "{\"city\": \"P")],
        ),
        (
            "Qwen3-Coder",
            false,
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nP\"a\n</par",
            "",
            "",
            &[(None, "get_weather", "{\"city\": \"P\\\"a\\n</par")],
        ),
        // What is no call is content.
        ("Qwen-Qwen3-0.6B", false, "A <tool_call> tag", "", "A <tool_call> tag", &[]),
        ("CohereForAI-c4ai-command-r-plus-tool_use", false, "Action: none", "", "Action: none", &[]),
    ];
    for (file, thinking, text, reasoning, content, calls) in cases {
        let parsed = parse_all(format(&folder, file), &functions(), *thinking, text);
        let owned = |&(id, name, arguments): &(Option<&str>, &str, &str)| {
            (id.map(str::to_owned), name.to_owned(), arguments.to_owned())
        };
        let calls = calls.iter().map(owned).collect();
        let (reasoning, content) = (reasoning.to_string(), content.to_string());
        assert_eq!(parsed, Parsed { reasoning, content, calls }, "{file}: {text:?}");
    }
}

#[test]
fn without_tools_a_call_is_content() {
    let Some(folder) = common::shared("templates/jinja") else { return };
    let text = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let parsed = parse_all(format(&folder, "Qwen-Qwen3-0.6B"), &[], false, text);
    assert_eq!(parsed, Parsed { content: text.to_owned(), ..Parsed::default() });
    assert_eq!(format(&folder, "google-gemma-2-2b-it").tools, Err("the chat template does not describe tools"));
    assert!(ChatFormat::of("{% if tools %}{{ tools }}{% endif %}").tools.unwrap_err().contains("known format"));
}

/// Pieces of which texts of all formats are made.
fn fragments() -> Vec<&'static str> {
    let mut fragments = vec![
        "get_weather",
        "now",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ": ",
        ", ",
        "\n",
        " ",
        "a",
        "é",
        "{}",
        "\\",
        "city",
        "days",
        "3",
        "{\"city\": \"a\"}",
        "<",
        ">",
        "(",
        ")",
        "=",
        "'",
        "<|\"|>",
        "</",
        "functions.",
        ":0",
        "true",
    ];
    for format in TOOL_FORMATS {
        fragments.extend([format.begin, format.separator, format.end]);
        texts(format.call, &mut fragments);
        if let Arguments::Tagged(tags) = format.arguments {
            fragments.extend([tags.open, tags.named[0], tags.named[1], tags.close]);
        }
    }
    fragments.extend(REASONING_FORMATS.iter().flat_map(|format| [format.open, format.close]));
    fragments.extend(CONTENT_FORMATS.iter().flat_map(|format| [format.open, format.close, format.between]));
    fragments.retain(|fragment| !fragment.is_empty());
    fragments.sort();
    fragments.dedup();
    fragments
}

fn texts(parts: &'static [Part], found: &mut Vec<&'static str>) {
    for part in parts {
        match part {
            Part::Text(text) => found.push(text),
            Part::Either(options) => options.iter().for_each(|option| texts(option, found)),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any text in any pieces gives the same, and nothing panics.
    #[test]
    fn pieces_do_not_matter(
        row in 0..TOOL_FORMATS.len(),
        picked in prop::collection::vec((0..usize::MAX, 0..3usize), 0..30),
        cuts in prop::collection::vec(0..usize::MAX, 0..6),
        thinking: bool,
    ) {
        let all = fragments();
        let tools = TOOL_FORMATS[row];
        let mut own = vec![tools.begin, tools.separator, tools.end];
        texts(tools.call, &mut own);
        let piece = |&(i, which): &(usize, usize)| if which == 0 { all[i % all.len()] } else { own[i % own.len()] };
        let text: String = picked.iter().map(piece).collect();
        for reasoning in [REASONING_FORMATS[row % REASONING_FORMATS.len()], REASONING_FORMATS[REASONING_FORMATS.len() - 1]] {
            let content = CONTENT_FORMATS[row % CONTENT_FORMATS.len()];
            let format = ChatFormat { reasoning: Some(reasoning), content, tools: Ok(tools) };
            let whole = parse(&mut format.parser(&functions(), thinking), [&text]);
            let characters = parse(&mut format.parser(&functions(), thinking), text.chars().map(String::from));
            prop_assert_eq!(&characters, &whole, "{:?}", text);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(cut % (text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort();
            let pieces = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]);
            prop_assert_eq!(parse(&mut format.parser(&functions(), thinking), pieces), whole, "{:?}", text);
        }
    }
}

/// The tables of docs/src/tools.md.
fn tables() -> [String; 2] {
    let code = |text: &str| {
        let text = text.replace('|', "\\|").replace('\n', " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.contains('`') { format!("```` {text} ````") } else { format!("`{text}`") }
    };
    let templates = |is_of: &dyn Fn(&(&str, &str, &str)) -> bool| {
        let named = FAMILIES.iter().filter(|family| is_of(family)).map(|(file, ..)| *file);
        named.collect::<Vec<_>>().join(", ")
    };
    let mut calls = "| format | a call | at once | templates |\n|---|---|---|---|\n".to_owned();
    for format in TOOL_FORMATS {
        let call = [format.begin, " ", &shape(format.call, format.arguments), " ", format.end].concat();
        let several = if format.parallel { "several" } else { "one" };
        let templates = templates(&|(_, name, _)| *name == format.name);
        calls += &format!("| `{}` | {} | {several} | {templates} |\n", format.name, code(&call));
    }
    let none = templates(&|(_, name, _)| name.is_empty());
    calls += &format!("| none | | | {none} |\n");
    let mut thinking = "| format | between | templates |\n|---|---|---|\n".to_owned();
    for format in REASONING_FORMATS {
        let templates = templates(&|(.., name)| *name == format.name);
        thinking +=
            &format!("| `{}` | {} and {} | {templates} |\n", format.name, code(format.open), code(format.close));
    }
    [calls, thinking]
}

/// A call as it looks.
fn shape(parts: &[Part], arguments: Arguments) -> String {
    let shape = |part: &Part| match part {
        Part::Text(text) => (*text).to_owned(),
        Part::Name => "NAME".to_owned(),
        Part::Id(_) => "ID".to_owned(),
        Part::Index => "INDEX".to_owned(),
        Part::Either(options) => options.first().map_or(String::new(), |parts| self::shape(parts, arguments)),
        Part::Arguments => match arguments {
            Arguments::Json => "{\"KEY\": VALUE}".to_owned(),
            Arguments::Tagged(tags) => format!("{}KEY{}VALUE{}", tags.open, tags.named[0], tags.close),
            Arguments::Python => "KEY=VALUE".to_owned(),
            Arguments::Gemma => "{KEY:VALUE}".to_owned(),
        },
    };
    parts.iter().map(shape).collect()
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/tools.md");

/// The page with its tables written anew.
fn page(text: &str) -> String {
    let (begin, end) = ("<!-- written by crates/text/tests/chat_format.rs -->\n", "<!-- end -->");
    let mut tables = tables().into_iter();
    let parts = text.split(begin).enumerate().map(|(i, part)| match i {
        0 => part.to_owned(),
        _ => begin.to_owned() + &tables.next().unwrap() + &part[part.find(end).unwrap()..],
    });
    parts.collect()
}

#[test]
fn the_tables_of_the_guide_are_true() {
    let text = std::fs::read_to_string(PAGE).unwrap();
    assert!(page(&text) == text, "`cargo test -p trine-text --test chat_format -- --ignored` writes the tables anew");
}

#[test]
#[ignore = "writes docs/src/tools.md"]
fn write_the_tables() {
    std::fs::write(PAGE, page(&std::fs::read_to_string(PAGE).unwrap())).unwrap();
}
