//! Filters that prepare for the next token on threads of their own.

use crate::event::SeqId;
use crate::sample::{Chain, Filter};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The filters of a sequence, and what they prepare for.
pub(crate) struct Preparation {
    pub sequence: SeqId,
    /// Gone with the sequence, so that nothing is prepared for one that was cancelled.
    pub wanted: Weak<()>,
    pub filters: Vec<Box<dyn Filter>>,
    pub tokens: Vec<u32>,
    pub proposed: usize,
    pub prompt: usize,
    /// How many of its last preparations in a row took long.
    pub slow: u32,
}

/// Threads on which filters prepare, beside forward passes and after them: one for sequences whose preparations are short, and one for those that
/// take long, so that the former never wait for more than the first long ones of the latter. They decide when a token is sampled, never which.
pub(crate) struct Preparer {
    lanes: [Sender<Preparation>; 2],
    done: Receiver<thread::Result<Preparation>>,
}

/// Masks of grammars usually take less than a quarter of this.
const LONG: Duration = Duration::from_millis(2);

impl Preparer {
    pub fn start() -> std::io::Result<Preparer> {
        let (sender, done) = channel();
        let lane = |name: &str| {
            let (lane, preparations) = channel();
            let done = sender.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || work(preparations, &done))?;
            Ok::<_, std::io::Error>(lane)
        };
        Ok(Preparer { lanes: [lane("filters")?, lane("slow filters")?], done })
    }

    /// Lets filters prepare.
    pub fn send(&self, preparation: Preparation) {
        // Once may be the machine.
        let lane = &self.lanes[usize::from(preparation.slow > 1)];
        lane.send(preparation).expect("a thread that ends with its lane");
    }

    /// The next filters that are prepared; `None` if there are none within `timeout`. A panic of a filter goes on here.
    pub fn receive(&self, timeout: Duration) -> Option<Preparation> {
        let result = self.done.recv_timeout(timeout).ok()?;
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

fn work(preparations: Receiver<Preparation>, done: &Sender<thread::Result<Preparation>>) {
    for mut preparation in preparations {
        if preparation.wanted.strong_count() == 0 {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            let Preparation { filters, tokens, proposed, prompt, slow, .. } = &mut preparation;
            let start = Instant::now();
            Chain::prepare_filters(filters, tokens, *proposed, *prompt);
            *slow = if start.elapsed() > LONG { *slow + 1 } else { 0 };
        }));
        // Nobody waits for it when the engine is gone.
        let _ = done.send(result.map(|()| preparation));
    }
}
