//! The closing tag of thinking is forced when the budget is spent.

mod tokenizer;

use std::path::Path;
use std::sync::Arc;
use tokenizer::TOKENIZER;
use trine_engine::Sampling;
use trine_engine::sample::{Chain, History};
use trine_model::Language;
use trine_text::{EncodeOptions, Tokenizer};

/// The tokenizer of a golden model with another chat template.
fn with_template(template: &str) -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/qwen2/tokenizer.json");
    std::fs::copy(golden, folder.path().join("tokenizer.json")).unwrap();
    let config = serde_json::json!({ "chat_template": template });
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Arc::new(Language::open(folder.path()).unwrap().tokenizer)
}

/// The text of an answer of 30 tokens by a model that thinks of nothing but these tokens, in turn.
fn answer(tokenizer: &Arc<Tokenizer>, budget: Option<usize>, prompt: &str, thoughts: &[u32]) -> String {
    let sampling = Sampling { thinking_budget: budget, ..Sampling::greedy() };
    let mut chain = Chain::new(&sampling, Vec::new(), tokenizer, 0).unwrap();
    let mut tokens = tokenizer.encode(prompt, EncodeOptions { parse_special: true, add_special: false });
    let prompt = tokens.len();
    for i in 0..30 {
        let mut logits = vec![0.0; tokenizer.len()];
        logits[thoughts[i % thoughts.len()] as usize] = 5.0;
        let id = chain.sample(&logits, History { tokens: &tokens, prompt }).unwrap().id;
        tokens.push(id);
    }
    let pieces = tokens[prompt..].iter().flat_map(|&id| tokenizer.piece(id).unwrap());
    String::from_utf8_lossy(&pieces.copied().collect::<Vec<u8>>()).into_owned()
}

#[test]
fn the_closing_tag_follows_when_the_budget_is_spent() {
    for (open, close) in [("<think>", "</think>"), ("[THINK]", "[/THINK]")] {
        let tokenizer = with_template(&format!("{{{{ messages[0].content }}}}{open}{{% if x %}}{close}{{% endif %}}"));
        let thought = tokenizer.encode("cat", EncodeOptions::default());
        let thought = *thought.last().unwrap();
        let piece = String::from_utf8(tokenizer.piece(thought).unwrap().to_vec()).unwrap();
        let check = |budget, prompt: &str, thoughts: Option<usize>| {
            let found = answer(&tokenizer, budget, prompt, &[thought]);
            match thoughts {
                Some(n) => {
                    assert!(found.starts_with(&format!("{}{close}{piece}", piece.repeat(n))), "{prompt}: {found}")
                }
                None => assert_eq!(found, piece.repeat(30)),
            }
            assert!(found.matches(close).count() <= 1, "{prompt}: {found}");
        };
        check(None, &format!("Why? {open}"), None);
        for budget in [0, 1, 7] {
            check(Some(budget), &format!("Why? {open}"), Some(budget));
            check(Some(budget), &format!("Why? {open}\n"), Some(budget));
            check(Some(budget), &format!("Why? {open}Hm{close} And? {open}Hm"), Some(budget));
            // It does not think.
            check(Some(budget), "Why?", None);
            check(Some(budget), &format!("Why? {open}Hm{close}"), None);
        }
        check(Some(30), &format!("Why? {open}"), None);
    }
}

#[test]
fn no_character_is_broken_by_the_tag() {
    let tokenizer = with_template("<think></think>");
    let byte = |byte: u8| (0..tokenizer.len() as u32).find(|&id| tokenizer.piece(id) == Some(&[byte])).unwrap();
    let (first, second) = (byte(0xC3), byte(0xA9));
    assert!(answer(&tokenizer, Some(1), "<think>", &[first, second]).starts_with("é</think>"));
    assert!(answer(&tokenizer, Some(2), "<think>", &[first, second]).starts_with("é</think>"));
    // What never becomes a character does not wait for long.
    assert!(answer(&tokenizer, Some(1), "<think>", &[first]).starts_with("\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}</think>"));
}

#[test]
fn a_model_without_tags_refuses_a_budget() {
    let sampling = Sampling { thinking_budget: Some(5), ..Sampling::default() };
    let error = Chain::new(&sampling, Vec::new(), &TOKENIZER, 0).err().unwrap().to_string();
    assert!(
        error.starts_with("thinking_budget = 5: expected a model whose chat template or tokens have tags"),
        "{error}"
    );
}
