//! What else the machine did meanwhile, as Linux tells it.

use serde::{Deserialize, Serialize};
use std::fs::read_to_string;

/// Shares of the time of all CPUs, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Taken by the host of a virtual machine.
    pub steal: f64,
    /// Used by other processes and the system.
    pub others: f64,
}

/// Ticks of all CPUs, of 10 ms, in which shares can be measured to some percent.
const TICKS: u64 = 16;

/// `USER_HZ`, the same on all architectures of Linux that Trine runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The clocks at one moment, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    total: u64,
    busy: u64,
    steal: u64,
    own: u64,
}

impl Snapshot {
    /// Now; `None` where the system does not tell.
    pub fn now() -> Option<Snapshot> {
        Snapshot::parse(&read_to_string("/proc/stat").ok()?, &read_to_string("/proc/self/stat").ok()?)
    }

    /// From the texts of `/proc/stat` and `/proc/self/stat` (proc(5)).
    fn parse(system: &str, own: &str) -> Option<Snapshot> {
        let line = system.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[user, nice, kernel, idle, wait, irq, softirq, steal, ..] = &ticks[..] else { return None };
        let busy = user + nice + kernel + irq + softirq;
        // The name of the program is in brackets and may hold anything; user and system time are fields 14 and 15.
        let mut fields = own.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let own = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Snapshot { total: busy + idle + wait + steal, busy, steal, own })
    }

    /// Seconds of CPU time of this process since `earlier`.
    pub fn cpu_since(self, earlier: Snapshot) -> f64 {
        self.own.saturating_sub(earlier.own) as f64 / TICKS_PER_SECOND
    }

    /// What happened since `earlier`; `None` when too few ticks passed to tell.
    pub fn since(self, earlier: Snapshot) -> Option<Noise> {
        let total = self.total.checked_sub(earlier.total).filter(|&total| total >= TICKS)? as f64;
        let passed = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let others = passed(self.busy, earlier.busy) - passed(self.own, earlier.own);
        Some(Noise { steal: passed(self.steal, earlier.steal) / total, others: others.max(0.0) / total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_time() {
        let own = |ticks: u64| format!("7 (a (b) c) R 1 2 3 4 5 6 7 8 9 10 {ticks} 10 0 0");
        let before = Snapshot::parse("cpu  100 0 50 800 0 0 0 50 0 0\ncpu0 1 1", &own(90)).unwrap();
        let after = Snapshot::parse("cpu  180 5 60 880 0 3 2 70 0 0\n", &own(140)).unwrap();
        // 200 ticks: 100 busy of which 50 own, 20 stolen, 80 idle.
        assert_eq!(after.since(before), Some(Noise { steal: 0.1, others: 0.25 }));
        assert_eq!(after.cpu_since(before), 0.5);
        assert_eq!(before.since(before), None);
        assert!(Snapshot::parse("cpu  1 2", &own(1)).is_none() && Snapshot::parse("", "").is_none());
    }
}
