use crate::grammar::invalid;
use crate::{Chat, Error, Limits, Vocabulary, gbnf, lark, regex, schema};
use llguidance::api::TopLevelGrammar;

/// What an answer must look like, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// A JSON document that a JSON Schema of draft 4, 6, 7, 2019-09 or 2020-12 describes. Properties come in the order of the schema.
    JsonSchema(String),
    /// A regular expression in the syntax of the crate `regex`, for the whole answer.
    Regex(String),
    /// A grammar in the Lark syntax of [llguidance](https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md), whose rule `start`
    /// is the answer. It may name control tokens, such as `<|im_end|>`.
    Lark(String),
    /// A grammar in llama.cpp's GBNF, whose rule `root` is the answer.
    Gbnf(String),
    /// One of these texts.
    Choices(Vec<String>),
    /// Thinking, then calls of tools or the answer itself, as a family of models writes them.
    Chat(Box<Chat>),
}

impl Constraint {
    /// A grammar in GBNF or Lark: the former writes its rules with `::=`.
    pub fn grammar(text: String) -> Constraint {
        // In Lark these are in texts and comments at most.
        let is_rule = |line: &str| {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            line.trim_start_matches(name).trim_start().starts_with("::=")
        };
        if text.lines().any(is_rule) { Constraint::Gbnf(text) } else { Constraint::Lark(text) }
    }

    /// Checks as much as can be checked without a vocabulary.
    ///
    /// # Errors
    /// When a schema is invalid or not supported, or the constraint is too large.
    pub fn check(&self) -> Result<(), Error> {
        self.lower(&Limits::default(), None).map(drop)
    }

    /// What it is, in errors.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Constraint::JsonSchema(_) => "JSON Schema",
            Constraint::Regex(_) => "regular expression",
            Constraint::Lark(_) | Constraint::Gbnf(_) => "grammar",
            Constraint::Choices(_) => "list of choices",
            Constraint::Chat(_) => "chat",
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Constraint::JsonSchema(text)
            | Constraint::Regex(text)
            | Constraint::Lark(text)
            | Constraint::Gbnf(text) => text.len(),
            Constraint::Choices(texts) => texts.iter().map(String::len).sum(),
            Constraint::Chat(chat) => chat.bytes(),
        }
    }

    /// The grammar that the compiler takes: the one place where constraints become grammars, and where those of several parts would be joined.
    /// Control tokens are those of the vocabulary.
    pub(crate) fn lower(&self, limits: &Limits, vocabulary: Option<&Vocabulary>) -> Result<TopLevelGrammar, Error> {
        if self.bytes() > limits.bytes {
            return Err(Error::Limit { what: self.what(), limit: format!("expected at most {} bytes", limits.bytes) });
        }
        match self {
            Constraint::JsonSchema(text) => {
                Ok(TopLevelGrammar::from_json_schema(schema::lower(&schema::parse(text)?, limits)?))
            }
            Constraint::Regex(text) => {
                regex::check(text).map_err(|problem| invalid(self.what(), problem))?;
                Ok(TopLevelGrammar::from_regex(text))
            }
            Constraint::Lark(text) => Ok(TopLevelGrammar::from_lark(lark::lower(text, limits)?)),
            Constraint::Gbnf(text) => Ok(TopLevelGrammar::from_lark(gbnf::lower(text, limits)?)),
            Constraint::Chat(chat) => Ok(TopLevelGrammar::from_lark(chat.lower(limits, vocabulary)?)),
            Constraint::Choices(texts) if texts.is_empty() => {
                Err(invalid(self.what(), "expected at least one text, found none".to_owned()))
            }
            Constraint::Choices(texts) if texts.iter().any(String::is_empty) => {
                Err(invalid(self.what(), "expected texts that are not empty, found an empty one".to_owned()))
            }
            Constraint::Choices(texts) => Ok(TopLevelGrammar::from_regex(
                &texts.iter().map(|text| regex::literal(text)).collect::<Vec<_>>().join("|"),
            )),
        }
    }
}

impl Constraint {
    /// An error of the compiler, with the path in the schema if it is about a schema.
    pub(crate) fn locate(&self, error: Error, limits: &Limits) -> Error {
        match (self, error) {
            (Constraint::JsonSchema(text), Error::Invalid { problem, .. }) => {
                Error::Schema { path: schema::locate(text, limits), problem }
            }
            (_, error) => error,
        }
    }
}
