use super::Command;
use super::generation::{Generation, Shared};
use super::status::Status;
use crate::{Engine, Error, Event, EventKind, FinishReason, SeqId, Update};
use async_channel::{Receiver, Sender, TrySendError, WeakSender};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Updates that a generation holds before its sequence is paused.
const CAPACITY: usize = 16;

/// Where the updates of a sequence go.
struct Outlet {
    updates: Sender<Update>,
    /// Updates that found the channel full.
    held: VecDeque<Update>,
    shared: Arc<Shared>,
}

impl Outlet {
    /// Sends what is held, as far as there is room; whether all is sent.
    fn flush(&mut self) -> bool {
        while let Some(update) = self.held.pop_front() {
            match self.updates.try_send(update) {
                Ok(()) => {}
                Err(TrySendError::Full(update)) => {
                    self.held.push_front(update);
                    self.shared.paused.store(true, Ordering::SeqCst);
                    // Whoever takes an update from now on sees the flag and sends a command; whoever took one before left room.
                    if self.updates.is_full() {
                        return false;
                    }
                }
                // Nobody takes them any more: a command to cancel is on its way.
                Err(TrySendError::Closed(_)) => self.held.clear(),
            }
        }
        true
    }
}

/// The engine's thread.
pub struct Worker {
    engine: Engine,
    inbox: Receiver<Command>,
    commands: WeakSender<Command>,
    outlets: HashMap<SeqId, Outlet>,
    status: Arc<Status>,
    /// Answers that the engine was told of since it was last noted how busy it is.
    told: usize,
}

impl Drop for Worker {
    /// Drops the commands that nobody will obey, also after a panic: whoever waits for an answer finds its channel closed.
    fn drop(&mut self) {
        self.status.end();
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }
}

impl Worker {
    pub fn new(engine: Engine, inbox: Receiver<Command>, commands: WeakSender<Command>, status: Arc<Status>) -> Worker {
        Worker { engine, inbox, commands, outlets: HashMap::new(), status, told: 0 }
    }

    pub fn run(mut self) {
        loop {
            // Without work there is nothing to do but to wait for a command, and without senders none comes.
            if self.engine.is_idle() {
                let Ok(command) = self.inbox.recv_blocking() else { break };
                if self.obey(command).is_break() {
                    break;
                }
            }
            // Those that are there now, and no later ones: commands must not keep sequences waiting.
            let commands: Vec<Command> =
                std::iter::from_fn(|| self.inbox.try_recv().ok()).take(self.inbox.len()).collect();
            if commands.into_iter().any(|command| self.obey(command).is_break()) {
                break;
            }
            if self.engine.is_idle() {
                self.publish();
            } else {
                self.step();
            }
        }
        let waiting: Vec<SeqId> = self.outlets.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.cancel(id));
        for (_, outlet) in self.outlets.drain() {
            *outlet.shared.rest() = outlet.held;
        }
    }

    fn obey(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Submit(request, came, reply) => {
                self.told += request.users();
                let ids = self.engine.submit_late(*request, came.elapsed());
                // A caller that has gone drops its generations with the reply, which cancels them.
                reply.send(ids.and_then(|ids| ids.into_iter().map(|id| self.generation(id)).collect()));
            }
            Command::Cancel(id) => self.cancel(id),
            Command::Resume(id) => {
                if self.flush(id) {
                    self.engine.pause(id, false);
                }
            }
            Command::Ping(reply) => {
                self.publish();
                reply.send(());
            }
            Command::ClearPrefixCache => self.engine.clear_prefix_cache(),
            Command::Trim(reply) => {
                let trimmed = self.engine.trim();
                self.publish();
                reply.send(trimmed);
            }
            Command::Shutdown => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn generation(&mut self, id: SeqId) -> Result<Generation, Error> {
        let Some(commands) = self.commands.upgrade() else {
            self.engine.cancel(id);
            return Err(Error::ShutDown);
        };
        let (sender, updates) = async_channel::bounded(CAPACITY);
        let shared = Arc::<Shared>::default();
        self.outlets.insert(id, Outlet { updates: sender, held: VecDeque::new(), shared: shared.clone() });
        Ok(Generation::new(id, updates, commands, shared, self.status.clone()))
    }

    fn cancel(&mut self, id: SeqId) {
        if let (Some((text, usage, timing)), Some(outlet)) = (self.engine.cancel(id), self.outlets.get_mut(&id)) {
            outlet.held.push_back(Update::Finished { text, finish_reason: FinishReason::Cancelled, usage, timing });
        }
        // A sequence that has ended may still hold updates that nobody takes any more.
        self.flush(id);
    }

    /// Notes how busy the engine is.
    fn publish(&mut self) {
        self.status.publish(self.engine.load(), std::mem::take(&mut self.told));
    }

    fn step(&mut self) {
        let Worker { engine, outlets, status, told, .. } = self;
        let mut touched = Vec::new();
        let emit = &mut |event: Event| {
            let Some(outlet) = outlets.get_mut(&event.sequence) else { return ControlFlow::Break(()) };
            if outlet.updates.is_closed() && !matches!(event.kind, EventKind::Finished { .. }) {
                return ControlFlow::Break(());
            }
            outlet.held.push_back(event.kind.into());
            if touched.last() != Some(&event.sequence) {
                touched.push(event.sequence);
            }
            ControlFlow::Continue(())
        };
        let planned = engine.plan(emit);
        status.publish(engine.load(), std::mem::take(told));
        if let Some(start) = planned {
            engine.run(start, emit);
            // Who learns that a request has ended finds it gone.
            status.publish(engine.load(), 0);
        }
        for id in touched {
            if !self.flush(id) {
                self.engine.pause(id, true);
            }
        }
    }

    /// Sends what a sequence's outlet holds; whether all is sent. With its last update the outlet goes.
    fn flush(&mut self, id: SeqId) -> bool {
        let Some(outlet) = self.outlets.get_mut(&id) else { return true };
        let finished = matches!(outlet.held.back(), Some(Update::Finished { .. }));
        let flushed = outlet.flush();
        if flushed && (finished || outlet.updates.is_closed()) {
            self.outlets.remove(&id);
        }
        flushed
    }
}
