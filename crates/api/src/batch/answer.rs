//! Lines of the output.

use super::line::Task;
use super::queue::Done;
use crate::{Problem, Writer};
use serde_json::{Value, json};
use trine_engine::{Choice, FinishReason, Update, Usage};

/// What lines of the output say of a request, whatever its answer.
pub struct Head {
    index: u64,
    answer_id: String,
    custom_id: String,
}

impl Head {
    pub fn new(index: u64, task: &Task) -> Head {
        Head { index, answer_id: task.answer_id.clone(), custom_id: task.custom_id.clone() }
    }

    /// The line of a request without an answer.
    pub fn fail(&self, problem: &Problem) -> Done {
        Done::failed(self.line(problem.kind.status(), problem.openai()))
    }

    /// The line of an answer.
    pub fn answer(&self, body: Value, usage: Usage) -> Done {
        Done { line: self.line(200, body), failed: false, usage }
    }

    fn line(&self, status: u16, body: Value) -> String {
        let index = self.index;
        let response = json!({"status_code": status, "request_id": format!("req_{index}"), "body": body});
        json!({"id": self.answer_id, "custom_id": self.custom_id, "response": response, "error": null}).to_string()
    }
}

/// The answers to a request on their way.
pub struct Answers {
    head: Head,
    writer: Box<dyn Writer>,
    choices: Vec<Choice>,
    /// How many have not ended.
    open: usize,
}

impl Answers {
    pub fn new(head: Head, writer: Box<dyn Writer>, answers: usize) -> Answers {
        Answers { head, writer, choices: (0..answers).map(Choice::new).collect(), open: answers }
    }

    /// Takes what happened to an answer; the line when all have ended.
    pub fn update(&mut self, choice: usize, update: Update) -> Option<Done> {
        self.open -= usize::from(self.choices[choice].update(update));
        (self.open == 0).then(|| self.finish())
    }

    fn finish(&mut self) -> Done {
        let choices = std::mem::take(&mut self.choices);
        let mut usage = choices[0].usage;
        usage.completion_tokens = choices.iter().map(|choice| choice.usage.completion_tokens).sum();
        let failure = choices.iter().find_map(|choice| match &choice.finish_reason {
            FinishReason::Failed(error) => Some(Problem::from(error)),
            _ => None,
        });
        match failure {
            Some(problem) => Done { usage, ..self.head.fail(&problem) },
            None => self.head.answer(self.writer.whole(choices), usage),
        }
    }
}
