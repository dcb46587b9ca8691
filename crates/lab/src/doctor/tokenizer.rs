//! Text to tokens: what is missing, what was assumed, and whether a text comes back.

use super::{Check, Context, Finding, Severity};
use trine_model::Error;
use trine_text::{EncodeOptions, TokenType, Tokenizer};

pub(super) const TOKENIZER: Check = Check { name: "tokenizer", about: "vocabulary, special tokens, round trip", run };

const OTHER: &str = "give the tokenizer of this very model with --tokenizer FILE, or convert the model again";

/// What should come back as it was.
const SAMPLE: &str = "Hello, world! It's 12345 o'clock: \"x = y\"\n  the end.";

fn run(context: &mut Context) -> Vec<Finding> {
    let language = match &context.language {
        Ok(language) => language,
        Err(error) => {
            let mut cause = error;
            while let Error::In { source, .. } = cause {
                cause = source;
            }
            let title = match cause {
                Error::NoTokenizer { .. } => "there is no tokenizer",
                _ => "the tokenizer is damaged or unknown",
            };
            return vec![Finding::new(Severity::Error, title, error.to_string(), OTHER)];
        }
    };
    let assumed =
        |warning: &String| Finding::new(Severity::Warning, "something was assumed of the tokenizer", warning, OTHER);
    let mut findings: Vec<Finding> = language.warnings.iter().map(assumed).collect();
    if let Some(Err(error)) = context.spec.as_ref().ok().map(|spec| language.check(spec)) {
        findings.push(Finding::new(
            Severity::Error,
            "the vocabulary is not that of the model",
            error.to_string(),
            OTHER,
        ));
    }
    let tokenizer = &language.tokenizer;
    // Who writes nothing needs no end, and no spelling that comes back.
    if context.spec.as_ref().is_ok_and(|spec| spec.arch.encoder) {
        return findings;
    }
    findings.extend(special(tokenizer));
    let back = tokenizer.decode(&tokenizer.encode(SAMPLE, EncodeOptions::default()));
    if back != SAMPLE {
        let evidence = format!("{SAMPLE:?} becomes {back:?}");
        findings.push(Finding::new(Severity::Warning, "a text does not come back from its tokens", evidence, OTHER));
    }
    findings
}

/// BOS and EOS: there, and control tokens.
fn special(tokenizer: &Tokenizer) -> Vec<Finding> {
    let mut findings = Vec::new();
    if tokenizer.eog_tokens().next().is_none() {
        let evidence = "no token of the vocabulary is an end: neither tokenizer.ggml.eos_token_id nor a name that is known for one";
        findings.push(Finding::new(
            Severity::Warning,
            "answers have no end",
            evidence,
            "convert the model again with its EOS; until then, limit answers with --max-tokens or --stop",
        ));
    }
    for (name, id) in [("BOS", tokenizer.bos()), ("EOS", tokenizer.eos())] {
        let Some(id) = id.filter(|&id| tokenizer.token_type(id) != Some(TokenType::Control)) else { continue };
        let found = tokenizer.token_type(id).map_or_else(|| "unknown".to_owned(), |t| format!("{t:?}").to_lowercase());
        let evidence =
            format!("{name} is token {id}, `{}`, whose type is {found}", tokenizer.name(id).unwrap_or_default());
        findings.push(Finding::new(Severity::Warning, format!("{name} is not a control token"), evidence, OTHER));
    }
    findings
}
