//! The memory of the process, and a limit that it keeps.

use crate::App;
use crate::process::Process;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use trine_api::{Problem, ProblemKind};

/// How near the process is to the limit of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Low,
    /// Four fifths of the limit.
    High,
    /// Nine tenths of it: new requests are refused.
    Full,
}

impl Pressure {
    /// That of so many percent. Each ends a little below where it begins, so that it does not come and go with every request.
    fn of(percent: u64, before: Pressure) -> Pressure {
        let over = |pressure: Pressure, begin: u64| percent >= if before >= pressure { begin - 5 } else { begin };
        if over(Pressure::Full, 90) {
            Pressure::Full
        } else if over(Pressure::High, 80) {
            Pressure::High
        } else {
            Pressure::Low
        }
    }
}

impl App {
    /// Compares the memory of the process with a limit, both in bytes; what it has, and how near that is, when this changed since the last
    /// time. What is mapped from files does not count: the system takes it back.
    pub fn watch_memory(&self, limit: u64) -> Option<(u64, Pressure)> {
        let bytes = Process::read().anonymous?;
        let before = self.pressure();
        let pressure = Pressure::of(bytes.saturating_mul(100) / limit.max(1), before);
        self.pressure.store(pressure as u8, Relaxed);
        (pressure != before).then_some((bytes, pressure))
    }

    /// Gives memory back to the system: buffers of passes, and while nothing runs, the keys and values of earlier requests. Returns the bytes that
    /// the process has then, where the system tells.
    ///
    /// # Errors
    /// When no model generates, the engine is gone, or the device has no room for an empty cache.
    pub async fn trim(&self) -> Result<Option<u64>, Problem> {
        let trimmed = self.generator()?.handle.trim_async().await;
        trimmed.map_err(|error| Problem::new(ProblemKind::Unavailable, error.to_string()))?;
        Ok(Process::read().resident)
    }

    /// How near the limit the process was when that was last watched.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Relaxed) {
            0 => Pressure::Low,
            1 => Pressure::High,
            _ => Pressure::Full,
        }
    }

    /// Refuses a request while there is no memory for it.
    pub(crate) fn check_memory(&self) -> Result<(), Problem> {
        match self.pressure() {
            Pressure::Full => {
                Err(Problem::new(ProblemKind::Unavailable, "the server is short of memory: try again later"))
            }
            _ => Ok(()),
        }
    }

    /// Where the memory is, in bytes: what the system says of the process, what was planned, and what requests use.
    pub fn memory(&self) -> Value {
        let load = self.load();
        let process = Process::read();
        json!({
            "resident": process.resident,
            "anonymous": process.anonymous,
            "proportional": crate::process::proportional(),
            "planned": self.generator.as_ref().map(|generator| &generator.memory),
            "planned_embeddings": self.embeddings.as_ref().map(|embeddings| &embeddings.memory),
            "kv_blocks": load.map(|load| load.blocks),
            "kv_blocks_used": load.map(|load| load.used_blocks),
            "kv_blocks_cached": load.map(|load| load.cached_blocks),
            "kv_cache": load.map(|load| load.kv_cache_bytes),
            "bodies": self.bodies.bytes(),
            "running": load.map(|load| load.running),
            "waiting": load.map(|load| load.waiting),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Pressure::{self, Full, High, Low};

    #[test]
    fn pressure_does_not_come_and_go_at_its_limit() {
        let mut pressure = Low;
        let percents = [10, 79, 80, 76, 74, 89, 90, 86, 90, 84, 79, 75, 74, 100, 0];
        let seen: Vec<Pressure> = percents
            .iter()
            .map(|&percent| {
                pressure = Pressure::of(percent, pressure);
                pressure
            })
            .collect();
        let expected = [Low, Low, High, High, Low, High, Full, Full, Full, High, High, High, Low, Full, Low];
        assert_eq!(seen, expected);
    }
}
