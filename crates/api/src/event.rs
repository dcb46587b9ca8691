use crate::Problem;
use serde_json::Value;
use trine_engine::{Choice, Update};

/// A part of an answer on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The name of the event, in protocols that name them.
    pub name: Option<&'static str>,
    pub data: String,
}

impl Event {
    pub fn new(data: &Value) -> Event {
        Event { name: None, data: data.to_string() }
    }

    pub fn named(name: &'static str, data: &Value) -> Event {
        Event { name: Some(name), data: data.to_string() }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`.
    ServerSentEvents,
    /// `application/x-ndjson`: lines of JSON.
    Lines,
}

/// How a protocol writes the answers to a request: as events while they come, or as one body. Answers are counted over all prompts: those
/// to the first come first.
pub trait Writer: Send {
    fn framing(&self) -> Framing {
        Framing::ServerSentEvents
    }

    /// Events before the first token.
    fn begin(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// Events of what happened to an answer.
    fn update(&mut self, index: usize, update: Update) -> Vec<Event>;

    /// Events after the last answer has ended.
    fn end(&mut self) -> Vec<Event>;

    /// The events of a stream that fails.
    fn fail(&mut self, problem: &Problem) -> Vec<Event>;

    /// What keeps a connection alive while there is nothing to say; an event without data is a comment.
    fn ping(&mut self) -> Event {
        Event { name: None, data: String::new() }
    }

    /// The body of a problem.
    fn problem(&self, problem: &Problem) -> Value {
        problem.openai()
    }

    /// The body of all answers, none of which failed.
    fn whole(&mut self, choices: Vec<Choice>) -> Value;
}
