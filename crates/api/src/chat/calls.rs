use crate::Problem;
use serde_json::Value;
use std::collections::HashSet;

/// The calls of a conversation so far, by their ids.
#[derive(Debug, Default)]
pub struct Calls {
    all: HashSet<String>,
    of_message: HashSet<String>,
}

impl Calls {
    /// Begins another message: some servers count the calls of each from 0.
    pub fn begin_message(&mut self) {
        self.of_message.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a call of the message.
    ///
    /// # Errors
    /// When another one has its id.
    pub fn add(&mut self, id: &Value, place: &str) -> Result<(), Problem> {
        let Some(id) = id.as_str() else { return Ok(()) };
        self.all.insert(id.to_owned());
        match self.of_message.insert(id.to_owned()) || id.is_empty() {
            true => Ok(()),
            false => Err(Problem::field(place, format_args!("another call of the message has the id {id:?}"))),
        }
    }

    /// Checks the id of a result.
    ///
    /// # Errors
    /// When no call has it.
    pub fn check_result(&self, id: &Value, place: &str) -> Result<(), Problem> {
        match id.as_str().filter(|id| !self.all.contains(*id)) {
            Some(id) => Err(Problem::field(place, format_args!("no call before it has the id {id:?}"))),
            None => Ok(()),
        }
    }
}
