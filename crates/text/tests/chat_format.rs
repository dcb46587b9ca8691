//! What the chat templates write for calls is what the parser reads.

mod common;
#[path = "common/conversations.rs"]
mod conversations;

use conversations::{answers, files, functions, usual};
use serde_json::{Value, json};
use trine_text::{ChatFormat, ChatParser, Delta, Tool};

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
    ("GigaChat3.1-10B-A1.8B", "gigachat3", ""),
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
