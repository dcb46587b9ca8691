//! The way of lines from the input to the output.

use super::BatchCounts;
use super::line::{Lines, Task, Wrong};
use std::collections::HashSet;
use std::io::{BufRead, Result, Write};
use trine_engine::Usage;

/// A line of the output.
#[derive(Debug)]
pub struct Done {
    pub line: String,
    pub failed: bool,
    pub usage: Usage,
}

impl Done {
    /// That of a request without an answer.
    pub fn failed(line: String) -> Done {
        Done { line, failed: true, usage: Usage::default() }
    }
}

pub struct Queue<'a, R, W: Write> {
    input: &'a mut Lines<R>,
    output: &'a mut W,
    /// The ids of the lines that were read.
    ids: HashSet<u128>,
    index: u64,
    pub counts: BatchCounts,
}

impl<'a, R: BufRead, W: Write> Queue<'a, R, W> {
    /// Begins after the lines that an earlier run has answered.
    pub fn new(input: &'a mut Lines<R>, answered: u64, output: &'a mut W) -> Result<Queue<'a, R, W>> {
        let mut ids = HashSet::new();
        for _ in 0..answered {
            if let Some(line) = input.next()? {
                ids.extend(line.id().map(fingerprint));
            }
        }
        Ok(Queue { input, output, ids, index: answered, counts: BatchCounts::default() })
    }

    /// The next line with its index, or what to write for it.
    pub fn next(&mut self) -> Result<Option<(u64, std::result::Result<Task, Done>)>> {
        let Some(line) = self.input.next()? else { return Ok(None) };
        let fresh = line.id().is_none_or(|id| self.ids.insert(fingerprint(id)));
        let index = self.index;
        self.index += 1;
        Ok(Some((index, line.read(fresh).map_err(|wrong: Wrong| Done::failed(wrong.to_line())))))
    }

    /// Writes the lines that come next.
    pub fn write(&mut self, lines: impl Iterator<Item = Done>) -> Result<()> {
        let before = self.counts.lines;
        for Done { line, failed, usage } in lines {
            self.counts.lines += 1;
            self.counts.failed += u64::from(failed);
            self.counts.prompt_tokens += usage.prompt_tokens as u64;
            self.counts.completion_tokens += usage.completion_tokens as u64;
            writeln!(self.output, "{line}")?;
        }
        if self.counts.lines > before { self.output.flush() } else { Ok(()) }
    }

    /// Bytes of the input that are read.
    pub fn bytes(&self) -> u64 {
        self.input.bytes()
    }
}

/// What stands for an id in memory.
fn fingerprint(id: &str) -> u128 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}
