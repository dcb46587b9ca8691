use crate::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Ends compilations that nobody waits for any more, or that take too long. Clones are told together.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    told: Arc<AtomicBool>,
    at: Option<Instant>,
}

impl Stop {
    /// The same with a time at which it counts as told.
    #[must_use]
    pub fn at(&self, time: Option<Instant>) -> Stop {
        Stop { at: time, ..self.clone() }
    }

    pub fn tell(&self) {
        self.told.store(true, Relaxed);
    }

    pub fn is_told(&self) -> bool {
        self.told.load(Relaxed) || self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// # Errors
    /// [`Error::Stopped`] if it is told.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_told() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Whether the same are told.
impl PartialEq for Stop {
    fn eq(&self, other: &Stop) -> bool {
        Arc::ptr_eq(&self.told, &other.told) && self.at == other.at
    }
}

impl Eq for Stop {}
