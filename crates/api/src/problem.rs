use serde_json::{Value, json};
use trine_engine::Error;

/// What kept a request from its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// The field of the request that it is about.
    pub param: Option<String>,
    pub message: String,
    /// OpenAI's name for it, where it has one.
    pub code: Option<&'static str>,
    /// Seconds after which it is worth another try, where they are known.
    pub retry_after: Option<u64>,
}

/// Whose fault a problem is, and what the client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request is wrong.
    Invalid,
    /// It has no key, or none that is known.
    Authentication,
    /// Its key may not do that.
    Permission,
    /// There is no such path or model.
    NotFound,
    /// The path has no such method.
    Method,
    /// The body is too large.
    TooLarge,
    /// The client, or all of them, ask for too much: later there may be room.
    RateLimit,
    /// The server is not ready, or shuts down.
    Unavailable,
    /// It took longer than the request says.
    Timeout,
    /// The server failed.
    Server,
}

impl ProblemKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ProblemKind::Invalid => 400,
            ProblemKind::Authentication => 401,
            ProblemKind::Permission => 403,
            ProblemKind::NotFound => 404,
            ProblemKind::Method => 405,
            ProblemKind::TooLarge => 413,
            ProblemKind::RateLimit => 429,
            ProblemKind::Server => 500,
            ProblemKind::Unavailable => 503,
            ProblemKind::Timeout => 408,
        }
    }

    /// The `type` of OpenAI's errors.
    fn openai(self) -> &'static str {
        match self {
            ProblemKind::Authentication => "authentication_error",
            ProblemKind::Permission => "permission_error",
            ProblemKind::RateLimit => "rate_limit_error",
            ProblemKind::Timeout => "timeout_error",
            ProblemKind::Server | ProblemKind::Unavailable => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl Problem {
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Problem {
        Problem { kind, param: None, message: message.into(), code: None, retry_after: None }
    }

    /// A request whose field is wrong. The message begins with the name of the field.
    pub fn field(param: &str, problem: impl std::fmt::Display) -> Problem {
        let message = format!("{param}: {problem}");
        Problem { param: Some(param.to_owned()), ..Problem::new(ProblemKind::Invalid, message) }
    }

    /// The same problem of a field that is within another.
    pub(crate) fn within(self, place: &str) -> Problem {
        let param = self.param.map_or_else(|| place.to_owned(), |name| format!("{place}.{name}"));
        Problem { param: Some(param), message: format!("{place}.{}", self.message), ..self }
    }

    /// The same problem with the name that a body has for its field, or for one around it.
    pub(crate) fn named(self, own_names: &[(&str, &str)]) -> Problem {
        self.renamed_within(own_names.iter().copied(), &['.'])
    }

    /// The same problem with the place that a body has for what is at `messages[2].content`, or within it.
    pub(crate) fn placed(self, own_places: &[(String, String)]) -> Problem {
        self.renamed_within(own_places.iter().map(|(place, own)| (&**place, &**own)), &['.', '['])
    }

    /// The same problem with the own name of the longest that its field is, or is within after one of these signs.
    fn renamed_within<'a>(self, own: impl Iterator<Item = (&'a str, &'a str)>, signs: &[char]) -> Problem {
        let param = self.param.clone().unwrap_or_default();
        let within =
            |name: &str| param.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(signs));
        match own.filter(|(name, _)| within(name)).max_by_key(|(name, _)| name.len()) {
            Some((name, own)) => self.renamed(name, own),
            None => self,
        }
    }

    /// The same problem with another beginning of its field's name.
    fn renamed(mut self, name: &str, own: &str) -> Problem {
        for text in self.param.iter_mut().chain([&mut self.message]) {
            if let Some(rest) = text.strip_prefix(name) {
                *text = format!("{own}{rest}");
            }
        }
        self
    }

    /// Its body as OpenAI writes it.
    pub fn openai(&self) -> Value {
        let Problem { kind, param, message, code, .. } = self;
        json!({"error": {"message": message, "type": kind.openai(), "param": param, "code": code}})
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Problem {
        let (kind, param, code) = match error {
            Error::Option { field, .. } => (ProblemKind::Invalid, Some(*field), None),
            Error::EmptyPrompt => (ProblemKind::Invalid, Some("prompt"), None),
            Error::PromptTooLong { .. } => (ProblemKind::Invalid, Some("prompt"), Some("context_length_exceeded")),
            Error::BeyondVocabulary { place, .. } => {
                let field = ["logit_bias", "stop_token_ids", "bad_words_ids"].into_iter().find(|field| place == field);
                (ProblemKind::Invalid, field.or(Some("prompt")), None)
            }
            // What a grammar allows is the request's own affair.
            Error::Filter(_) | Error::NoCandidates { .. } => (ProblemKind::Invalid, None, Some("no_answer")),
            Error::QueueFull { .. } | Error::QueueTokensFull { .. } => {
                (ProblemKind::RateLimit, None, Some("queue_full"))
            }
            Error::QueueTimeout { .. } => (ProblemKind::RateLimit, None, Some("queue_timeout")),
            Error::Timeout { .. } => (ProblemKind::Timeout, None, Some("timeout")),
            Error::ShutDown => (ProblemKind::Unavailable, None, Some("shutting_down")),
            _ => (ProblemKind::Server, None, None),
        };
        Problem { kind, param: param.map(str::to_owned), message: error.to_string(), code, retry_after: None }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::from(&error)
    }
}
