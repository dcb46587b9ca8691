//! The chat templates: whether they compile, and write what the vocabulary knows.

use super::{Check, Context, Finding, Severity};
use trine_text::{Message, Template, Tokenizer};

pub(super) const TEMPLATE: Check =
    Check { name: "template", about: "the chat template, and the tokens it writes", run };

/// Tokens that only models for chats have.
const CHAT: &[&str] = &["<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|start|>", "<|user|>", "[INST]"];

const GREETING: &str = "Hello!";

fn run(context: &mut Context) -> Vec<Finding> {
    let Ok(language) = &context.language else { return Vec::new() };
    let tokenizer = &language.tokenizer;
    let templates = tokenizer.templates();
    if templates.is_empty() {
        return missing(tokenizer).into_iter().collect();
    }
    let mut findings = Vec::new();
    if !templates.contains("default") {
        let names = templates.names().collect::<Vec<_>>().join(", ");
        findings.push(Finding::new(
            Severity::Warning,
            "no chat template is the default",
            format!("the model has chat templates named {names}, none of which is named default"),
            "choose one with --template-name NAME, or give another with --template FILE",
        ));
    }
    for name in templates.names() {
        let named = |mut finding: Finding| {
            if name != "default" {
                finding.evidence = format!("template {name}: {}", finding.evidence);
            }
            finding
        };
        findings.extend(check(tokenizer, name).into_iter().map(named));
    }
    findings
}

/// What is wrong with one template.
fn check(tokenizer: &Tokenizer, name: &str) -> Vec<Finding> {
    let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.name(id)).unwrap_or_default();
    let bos = spelled(tokenizer.bos());
    let templates = tokenizer.templates();
    let Some(only) = templates.only(name) else { return Vec::new() };
    let template = match Template::of(&only, bos, spelled(tokenizer.eos())) {
        Ok(template) => template,
        Err(error) => {
            let is_read = templates.get(name).is_some();
            let remedy = "give another with --template FILE, or --raw to go without";
            return vec![Finding::new(
                Severity::Error,
                if is_read { "the chat template does not compile" } else { "the chat template cannot be read" },
                error.to_string(),
                remedy,
            )];
        }
    };
    let tools = match name {
        "default" => None,
        "tool_use" => Some(tools()),
        // Others expect what only their callers know.
        _ => return Vec::new(),
    };
    let prompt = match template.render(&[Message::new("user", GREETING)], tools.as_ref(), true, &Default::default()) {
        Ok(prompt) => prompt,
        Err(error) => {
            let remedy = "if chats fail, give another template with --template FILE, or --raw to go without";
            return vec![Finding::new(
                Severity::Warning,
                "the chat template refuses a greeting",
                error.to_string(),
                remedy,
            )];
        }
    };
    let mut findings = Vec::new();
    if !prompt.contains(GREETING) {
        findings.push(Finding::new(
            Severity::Error,
            "the chat template leaves out what the user says",
            format!("of a chat in which the user says `{GREETING}` it makes `{prompt}`"),
            "give the template of this model with --template FILE, or --raw to go without",
        ));
    }
    let unknown: Vec<&str> = marks(&prompt).into_iter().filter(|mark| tokenizer.id(mark).is_none()).collect();
    if !unknown.is_empty() {
        let evidence = format!("it writes {}, which the vocabulary does not have as tokens", unknown.join(", "));
        let remedy = "the template belongs to another model: give that of this one with --template FILE";
        findings.push(Finding::new(Severity::Warning, "the chat template is not of this vocabulary", evidence, remedy));
    }
    if !bos.is_empty() && prompt.starts_with(&bos.repeat(2)) {
        let evidence = format!("the prompt begins with {bos}{bos}");
        findings.push(Finding::new(
            Severity::Warning,
            "the chat template writes BOS twice",
            evidence,
            "correct the template, and give it with --template FILE",
        ));
    } else if tokenizer.adds_bos() && !bos.is_empty() && prompt.starts_with(bos) {
        let evidence = format!("the template begins with {bos}, and the tokenizer puts it in front of texts, too");
        findings.push(Finding::new(
            Severity::Note,
            "template and tokenizer both add BOS",
            evidence,
            "nothing: Trine keeps one; other programs may keep two",
        ));
    }
    findings
}

/// A function that a model may call.
fn tools() -> serde_json::Value {
    serde_json::json!([{"type": "function", "function": {
        "name": "now", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}},
    }}])
}

fn missing(tokenizer: &Tokenizer) -> Option<Finding> {
    let known: Vec<&str> =
        CHAT.iter().copied().filter(|name| tokenizer.id(name).is_some_and(|id| tokenizer.is_control(id))).collect();
    (!known.is_empty()).then(|| {
        let evidence = format!("there is no tokenizer.chat_template, but the vocabulary has {}", known.join(", "));
        Finding::new(
            Severity::Note,
            "a vocabulary for chats without a chat template",
            evidence,
            "if the model was trained for chats, give its template with --template FILE",
        )
    })
}

/// What looks like the names of special tokens: `<|...|>`.
fn marks(prompt: &str) -> Vec<&str> {
    let mut marks = Vec::new();
    let mut rest = prompt;
    while let Some(at) = rest.find("<|") {
        rest = &rest[at..];
        let len = rest.find("|>").map_or(2, |end| end + 2);
        if len > 4 && !rest[..len].contains(char::is_whitespace) && !marks.contains(&&rest[..len]) {
            marks.push(&rest[..len]);
        }
        rest = &rest[len..];
    }
    marks
}
