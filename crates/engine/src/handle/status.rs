//! What the users of an engine's thread know about it.

use crate::{Error, Load};
use async_channel::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

pub struct Status {
    thread: ThreadId,
    end: OnceLock<End>,
    load: Mutex<Busy>,
}

/// How busy the engine was, and how many answers were asked for that it has not been told of since.
struct Busy {
    load: Load,
    arrived: usize,
}

/// Why the thread ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    ShutDown,
    Panicked,
}

impl Status {
    /// That of the current thread, whose engine is so busy.
    pub fn here(load: Load) -> Status {
        Status { thread: std::thread::current().id(), end: OnceLock::new(), load: Busy { load, arrived: 0 }.into() }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how busy the engine is, which has been told of so many more answers.
    pub fn publish(&self, load: Load, told: usize) {
        let mut busy = self.busy();
        *busy = Busy { load, arrived: busy.arrived.saturating_sub(told) };
    }

    /// Notes that so many answers are asked for.
    pub fn arrive(&self, answers: usize) {
        self.busy().arrived += answers;
    }

    /// How busy the engine was when that was last noted, and what waits since, while its thread lives.
    pub fn load(&self) -> Result<Load, Error> {
        match self.end.get() {
            Some(_) => Err(self.gone()),
            None => {
                let busy = self.busy();
                Ok(Load { waiting: busy.load.waiting + busy.arrived, ..busy.load })
            }
        }
    }

    /// Notes that the thread ends, and whether by a panic. What was noted first stays.
    pub fn end(&self) {
        let _ = self.end.set(if std::thread::panicking() { End::Panicked } else { End::ShutDown });
    }

    /// Why the thread does not answer.
    pub fn gone(&self) -> Error {
        self.check_panicked().err().unwrap_or(Error::ShutDown)
    }

    pub fn check_panicked(&self) -> Result<(), Error> {
        if self.end.get() == Some(&End::Panicked) { Err(Error::Panicked) } else { Ok(()) }
    }

    /// The thread cannot wait for itself.
    pub fn check_thread(&self) -> Result<(), Error> {
        if std::thread::current().id() == self.thread { Err(Error::OwnThread) } else { Ok(()) }
    }
}

/// Where the answer to a command goes. A panic that drops it is noted before its channel closes, so that whoever waits learns of it.
pub struct Reply<T> {
    answer: Sender<T>,
    status: Arc<Status>,
}

impl<T> Reply<T> {
    pub fn new(status: Arc<Status>) -> (Reply<T>, Receiver<T>) {
        let (answer, receiver) = async_channel::bounded(1);
        (Reply { answer, status }, receiver)
    }

    /// Nobody may wait for it any more.
    pub fn send(self, answer: T) {
        let _ = self.answer.try_send(answer);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status.end();
        }
    }
}
