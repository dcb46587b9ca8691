//! What was said.

use crate::output::{self, OutputFile};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use trine_text::Message;

/// Larger than any conversation, in bytes.
const MAX_SAVED: u64 = 16 << 20;

/// The messages of a chat.
#[derive(Default)]
pub struct Conversation {
    pub system: Option<String>,
    messages: Vec<Message>,
    /// The file that holds it. It may be written again.
    file: Option<PathBuf>,
}

impl Conversation {
    pub fn new(system: Option<String>) -> Conversation {
        Conversation { system, ..Conversation::default() }
    }

    /// The messages without the system message.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// All messages, the system message first.
    pub fn all(&self) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new("system", text.as_str()));
        system.into_iter().chain(self.messages.iter().cloned()).collect()
    }

    /// Adds a message of the user, or the answer to it.
    pub fn push(&mut self, role: &str, text: &str) {
        self.messages.push(Message::new(role, text));
    }

    /// Takes the last message away, which could not be answered.
    pub fn pop(&mut self) {
        self.messages.pop();
    }

    /// Forgets all messages but the system message.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.file = None;
    }

    /// Forgets what follows the user's last message; false without one.
    pub fn rewind(&mut self) -> bool {
        let last = self.messages.iter().rposition(|message| message.role == "user");
        self.messages.truncate(last.map_or(self.messages.len(), |last| last + 1));
        last.is_some()
    }

    /// Forgets the oldest message of the user and the answer to it; false if there is no other.
    pub fn drop_oldest(&mut self) -> bool {
        let second = self.messages.iter().skip(1).position(|message| message.role == "user");
        self.messages.drain(..second.map_or(0, |at| at + 1));
        second.is_some()
    }

    /// Writes it as JSON. A file that is not its own is replaced only if `force` says so.
    ///
    /// # Errors
    /// When the file is there, is the model's, or cannot be written.
    pub fn save(&mut self, path: &Path, force: bool, model: &Path) -> Result<()> {
        let own = self.file.as_deref() == Some(path);
        output::check_new(path, force || own, "/save --force FILE replaces it")?;
        let json = serde_json::to_string_pretty(&self.all())?;
        OutputFile::new(path, model)?.write(|out| writeln!(out, "{json}"))?;
        self.file = Some(path.to_owned());
        Ok(())
    }

    /// Reads what [`Conversation::save`] wrote, in place of this conversation.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a list of messages.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let bytes = trine_tensor::read_small(path, MAX_SAVED)?;
        let expected = || format!("{}: expected a list of messages, as /save writes it", path.display());
        let mut messages: Vec<Message> = serde_json::from_slice(&bytes).with_context(expected)?;
        let system = messages.first().filter(|message| message.role == "system");
        self.system = system.map(|message| message.content.as_str().unwrap_or_default().to_owned());
        messages.drain(..usize::from(self.system.is_some()));
        (self.messages, self.file) = (messages, Some(path.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_away_from_both_ends() {
        let mut conversation = Conversation::new(Some("Be brief.".to_owned()));
        assert!(!conversation.rewind() && !conversation.drop_oldest());
        for text in ["one", "two", "three"] {
            conversation.push("user", text);
            conversation.push("assistant", &text.to_uppercase());
        }
        let text = |conversation: &Conversation| {
            let texts = conversation.all().into_iter().map(|message| message.content.as_str().unwrap().to_owned());
            texts.collect::<Vec<_>>().join(" ")
        };
        assert!(conversation.drop_oldest() && conversation.rewind());
        assert_eq!(text(&conversation), "Be brief. two TWO three");
        assert!(conversation.drop_oldest() && !conversation.drop_oldest());
        assert_eq!(text(&conversation), "Be brief. three");
    }

    #[test]
    fn what_is_saved_is_loaded_and_no_other_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other, model) = (folder.path().join("a.json"), folder.path().join("b.json"), Path::new("m.gguf"));
        let mut conversation = Conversation::new(Some("Be brief.".to_owned()));
        conversation.push("user", "Hello\n");
        conversation.save(&path, false, model).unwrap();
        conversation.push("assistant", "Good day.");
        conversation.save(&path, false, model).unwrap();
        let mut loaded = Conversation::default();
        assert!(loaded.save(&path, false, model).is_err());
        loaded.load(&path).unwrap();
        assert_eq!(loaded.all(), conversation.all());
        for bad in ["", "{}", "[1]", "[{\"content\": \"no role\"}]"] {
            std::fs::write(&other, bad).unwrap();
            assert!(loaded.load(&other).is_err(), "{bad}");
        }
        assert_eq!(loaded.all(), conversation.all());
        assert!(loaded.save(&other, false, model).is_err());
        loaded.save(&other, true, model).unwrap();
        assert!(loaded.save(&path, true, &path).is_err());
    }
}
