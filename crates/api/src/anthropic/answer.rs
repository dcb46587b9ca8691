use crate::chat::{Block, Blocks, Step, Turn, arguments};
use crate::{Event, Problem, Writer};
use serde_json::{Value, json};
use trine_engine::{Choice, FinishReason, Update, Usage};

/// A message as it comes.
pub struct MessageWriter {
    id: String,
    model: String,
    prompt_tokens: usize,
    /// Texts that end the answer.
    stops: Vec<String>,
    /// Whether blocks of thoughts have no text.
    omits_thoughts: bool,
    turn: Turn,
    blocks: Blocks,
    usage: Usage,
    stop_reason: &'static str,
    stop_sequence: Option<String>,
}

impl MessageWriter {
    pub fn new(id: String, model: String, prompt_tokens: usize, stops: Vec<String>, turn: Turn) -> MessageWriter {
        let (blocks, usage) = (Blocks::default(), Usage::default());
        let (stop_reason, stop_sequence) = ("end_turn", None);
        let omits_thoughts = false;
        MessageWriter {
            id,
            model,
            prompt_tokens,
            stops,
            omits_thoughts,
            turn,
            blocks,
            usage,
            stop_reason,
            stop_sequence,
        }
    }

    /// The same with thoughts that are not told.
    pub fn without_thoughts(self) -> MessageWriter {
        MessageWriter { omits_thoughts: true, ..self }
    }

    /// Whether the text of a block is not told.
    fn omits(&self, block: &Block) -> bool {
        self.omits_thoughts && *block == Block::Reasoning
    }

    fn message(&self, content: Vec<Value>, ended: bool) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": ended.then_some(self.stop_reason),
            "stop_sequence": self.stop_sequence,
            "usage": self.usage(),
        })
    }

    fn usage(&self) -> Value {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = self.usage;
        json!({
            "input_tokens": prompt_tokens - cached_tokens.min(prompt_tokens),
            "cache_read_input_tokens": cached_tokens,
            "cache_creation_input_tokens": 0,
            "output_tokens": completion_tokens,
        })
    }

    /// Notes how the answer ended.
    fn ended(&mut self, reason: &FinishReason, usage: Usage) {
        self.usage = usage;
        self.stop_reason = match (self.turn.finish_reason(reason), reason) {
            ("tool_calls", _) => "tool_use",
            ("length", FinishReason::ContextFull) => "model_context_window_exceeded",
            ("length", _) => "max_tokens",
            (_, FinishReason::StopString) => "stop_sequence",
            _ => "end_turn",
        };
        if self.stop_reason == "stop_sequence"
            && let [only] = &self.stops[..]
        {
            self.stop_sequence = Some(only.clone());
        }
    }

    fn events(&self, steps: Vec<Step>) -> Vec<Event> {
        let event = |step| match step {
            Step::Start(index, block) => {
                let block = content(&block, "", true);
                Event::named(
                    "content_block_start",
                    &json!({
                        "type": "content_block_start", "index": index, "content_block": block,
                    }),
                )
            }
            Step::Add(index, text) => {
                let delta = match &self.blocks.all[index].0 {
                    Block::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
                    Block::Content => json!({"type": "text_delta", "text": text}),
                    Block::Call { .. } => json!({"type": "input_json_delta", "partial_json": text}),
                };
                Event::named(
                    "content_block_delta",
                    &json!({
                        "type": "content_block_delta", "index": index, "delta": delta,
                    }),
                )
            }
            Step::Stop(index) => {
                Event::named("content_block_stop", &json!({"type": "content_block_stop", "index": index}))
            }
        };
        let is_told = |step: &Step| !matches!(step, Step::Add(index, _) if self.omits(&self.blocks.all[*index].0));
        steps.into_iter().filter(is_told).map(event).collect()
    }
}

/// A block with its text, or one that begins.
fn content(block: &Block, text: &str, begins: bool) -> Value {
    match block {
        Block::Reasoning => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Block::Content => json!({"type": "text", "text": text}),
        Block::Call { id, name } => {
            // A call that begins has no arguments yet.
            let input = if begins { json!({}) } else { arguments(text) };
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    }
}

impl Writer for MessageWriter {
    fn begin(&mut self) -> Vec<Event> {
        self.usage.prompt_tokens = self.prompt_tokens;
        let message = self.message(Vec::new(), false);
        vec![Event::named("message_start", &json!({"type": "message_start", "message": message}))]
    }

    fn update(&mut self, _: usize, update: Update) -> Vec<Event> {
        let deltas = match update {
            Update::Progress(_) | Update::Prompt(_) => return Vec::new(),
            Update::Token(token) => self.turn.push(&token.text),
            Update::Finished { text, finish_reason, usage, .. } => {
                let deltas = self.turn.rest(&text, &finish_reason);
                self.ended(&finish_reason, usage);
                deltas
            }
        };
        let steps = self.blocks.push(deltas);
        self.events(steps)
    }

    fn end(&mut self) -> Vec<Event> {
        let steps = self.blocks.finish();
        let mut events = self.events(steps);
        let delta = json!({"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence});
        let usage = self.usage();
        events.push(Event::named("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage})));
        events.push(Event::named("message_stop", &json!({"type": "message_stop"})));
        events
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        vec![Event::named("error", &super::problem(problem))]
    }

    fn ping(&mut self) -> Event {
        Event::named("ping", &json!({"type": "ping"}))
    }

    fn whole(&mut self, choices: Vec<Choice>) -> Value {
        for choice in &choices {
            let deltas = self.turn.whole(choice);
            self.blocks.push(deltas);
            self.ended(&choice.finish_reason, choice.usage);
        }
        let told = |(block, text): &(Block, String)| content(block, if self.omits(block) { "" } else { text }, false);
        let content = self.blocks.all.iter().map(told).collect();
        self.message(content, true)
    }

    fn problem(&self, problem: &Problem) -> Value {
        super::problem(problem)
    }
}
