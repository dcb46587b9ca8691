use super::Delta;

/// A part of an answer, in protocols that write answers as lists of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Reasoning,
    Content,
    Call { id: String, name: String },
}

/// What happens to the parts of an answer, which are counted from 0 and come one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Start(usize, Block),
    Add(usize, String),
    Stop(usize),
}

/// The parts of an answer as they come.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Parts so far, each with its text: of a call, its arguments.
    pub all: Vec<(Block, String)>,
    open: bool,
}

impl Blocks {
    /// Adds deltas; what that does to the parts.
    pub fn push(&mut self, deltas: Vec<Delta>) -> Vec<Step> {
        let mut steps = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => self.text(Block::Reasoning, text, &mut steps),
                Delta::Content(text) => self.text(Block::Content, text, &mut steps),
                Delta::ToolCall { id, name, .. } => self.start(Block::Call { id, name }, &mut steps),
                Delta::Arguments { text, .. } => self.add(text, &mut steps),
            }
        }
        steps
    }

    /// Ends the last part.
    pub fn finish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.stop(&mut steps);
        steps
    }

    fn text(&mut self, block: Block, text: String, steps: &mut Vec<Step>) {
        if !self.open || self.all.last().is_none_or(|(last, _)| *last != block) {
            self.start(block, steps);
        }
        self.add(text, steps);
    }

    fn start(&mut self, block: Block, steps: &mut Vec<Step>) {
        self.stop(steps);
        self.all.push((block.clone(), String::new()));
        self.open = true;
        steps.push(Step::Start(self.all.len() - 1, block));
    }

    fn add(&mut self, text: String, steps: &mut Vec<Step>) {
        if let Some((_, whole)) = self.all.last_mut() {
            whole.push_str(&text);
            steps.push(Step::Add(self.all.len() - 1, text));
        }
    }

    fn stop(&mut self, steps: &mut Vec<Step>) {
        if std::mem::take(&mut self.open) {
            steps.push(Step::Stop(self.all.len() - 1));
        }
    }
}
