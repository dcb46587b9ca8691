//! The filter `urlize`, which makes links of addresses.

use minijinja::{AutoEscape, Error, State, Value};
use regex_automata::meta::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::super::args::{Args, optional, required};
use super::super::budget::{ENTRY, spend};
use super::super::strings::{escape, is_space, pattern};
use super::super::values::{escaped, iterate};

static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:(?:https?://|www\.)(?:(?:[\w%-]+\.)+)?(?:[a-z]{2,63}|xn--[\w%]{2,59})",
        r"|(?:[\w%-]{2,63}\.)+(?:com|net|int|edu|gov|org|info|mil)",
        r"|https?://(?:\d{1,3}(?:\.\d{1,3}){3}|\[(?:[\da-f]{0,4}:){2}(?:[\da-f]{0,4}:?){1,6}\]))",
        r"(?::\d{1,5})?(?:[/?#]\S*)?$"
    ))
});
static MAIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\S+@\w[\w.-]*\.\w+$"));
static SCHEME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\w.+-]{2,}:/{0,2}$"));

/// What may be around an address.
const OPENING: [&str; 3] = ["(", "<", "&lt;"];
const CLOSING: [&str; 6] = [")", ">", ".", ",", "\n", "&gt;"];

struct Links {
    limit: Option<usize>,
    /// The attributes of a link, each after a space.
    attributes: String,
    schemes: Vec<String>,
}

pub(super) fn urlize(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, limit, nofollow, target, rel, schemes] = args.bind([
        required("value"),
        optional("trim_url_limit", ()),
        optional("nofollow", false),
        optional("target", ()),
        optional("rel", ()),
        optional("extra_schemes", ()),
    ])?;
    let words = |value: &Value| value.as_str().unwrap_or_default().split(is_space).map(str::to_owned).collect();
    let mut rels: BTreeSet<String> = words(&rel);
    rels.insert("noopener".to_owned());
    if nofollow.is_true() {
        rels.insert("nofollow".to_owned());
    }
    rels.remove("");
    let rel: Vec<String> = rels.into_iter().collect();
    let mut attributes = format!(" rel=\"{}\"", escape(&rel.join(" ")));
    if target.is_true() {
        attributes.push_str(&format!(" target=\"{}\"", escaped(&target)));
    }
    let mut known = Vec::new();
    if !schemes.is_none() {
        for scheme in iterate(state, &schemes)? {
            let scheme = args.text(&scheme)?;
            if !SCHEME.is_match(scheme) {
                return Err(args.fail(format!("`{scheme}` is no scheme of addresses")));
            }
            known.push(scheme.to_owned());
        }
    }
    let limit = args.integer_or_none(&limit)?.map(|limit| usize::try_from(limit).unwrap_or(0));
    let links = Links { limit, attributes, schemes: known };
    let text = escaped(&value);
    let mut linked = String::with_capacity(text.len());
    for word in text.split_inclusive(is_space) {
        let (word, space) = word.split_at(word.trim_end_matches(is_space).len());
        spend(state, ENTRY + (word.len() * 3 + links.attributes.len()) * (1 + links.schemes.len()))?;
        links.word(word, &mut linked);
        linked.push_str(space);
    }
    let plain = matches!(state.auto_escape(), AutoEscape::None);
    Ok(if plain { linked.into() } else { Value::from_safe_string(linked) })
}

impl Links {
    /// Writes a word, with a link if it is an address.
    fn word(&self, word: &str, linked: &mut String) {
        let mut rest = word;
        while let Some(after) = OPENING.iter().find_map(|open| rest.strip_prefix(open)) {
            rest = after;
        }
        let head = &word[..word.len() - rest.len()];
        let mut middle = rest;
        while let Some(before) = CLOSING.iter().find_map(|close| middle.strip_suffix(close)) {
            middle = before;
        }
        // Parentheses within an address are part of it.
        let mut end = middle.len();
        for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let opened = rest[..end].matches(open).count();
            if opened <= rest[..end].matches(close).count() {
                continue;
            }
            let closings: Vec<usize> = rest[end..].match_indices(close).map(|(at, _)| end + at + close.len()).collect();
            end = closings.get(..opened.min(closings.len())).and_then(<[usize]>::last).copied().unwrap_or(end);
        }
        let (middle, tail) = rest.split_at(end);
        linked.push_str(head);
        linked.push_str(&self.link(middle));
        linked.push_str(tail);
    }

    fn link(&self, text: &str) -> String {
        let link = |to: &str, shown: &str| format!("<a href=\"{to}\"{}>{shown}</a>", self.attributes);
        if ADDRESS.is_match(text) {
            let shown = match self.limit.and_then(|limit| text.char_indices().nth(limit)) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text.to_owned(),
            };
            let absolute = text.starts_with("https://") || text.starts_with("http://");
            return link(&if absolute { text.to_owned() } else { format!("https://{text}") }, &shown);
        }
        if let Some(mail) = text.strip_prefix("mailto:").filter(|mail| MAIL.is_match(mail)) {
            return format!("<a href=\"{text}\">{mail}</a>");
        }
        let mail = text.contains('@') && !text.starts_with("www.") && !text.starts_with('@') && !text.contains(':');
        if mail && MAIL.is_match(text) {
            return format!("<a href=\"mailto:{text}\">{text}</a>");
        }
        match self.schemes.iter().find(|scheme| text != scheme.as_str() && text.starts_with(scheme.as_str())) {
            Some(_) => link(text, text),
            None => text.to_owned(),
        }
    }
}
