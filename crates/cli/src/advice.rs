//! System settings that affect speed, and the commands that improve them.

use serde::Serialize;
use trine_tensor::memory;

/// System settings; unknown values are null.
#[derive(Default, Serialize)]
pub struct Settings {
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Huge pages reserved by the administrator, which models do not use.
    pub reserved_huge_pages: Option<u64>,
    /// CPU frequency governor.
    pub governor: Option<String>,
    /// Maximum bytes of locked memory; null without a limit as well.
    pub lock_limit_bytes: Option<u64>,
    pub swap_total_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Advice {
    pub why: String,
    /// A shell command.
    pub command: &'static str,
}

impl Settings {
    /// Reads the settings. `swap` is the total and used swap space.
    pub fn read(swap: Option<[u64; 2]>) -> Settings {
        let line = |path: &str| Some(std::fs::read_to_string(path).ok()?.trim().to_owned());
        Settings {
            transparent_huge_pages: memory::transparent_huge_pages(),
            reserved_huge_pages: line("/proc/sys/vm/nr_hugepages").and_then(|n| n.parse().ok()),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            lock_limit_bytes: memory::lock_limit(),
            swap_total_bytes: swap.map(|[total, _]| total),
            swap_used_bytes: swap.map(|[_, used]| used),
        }
    }

    /// Advice for each setting that costs speed.
    pub fn advice(&self) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut add = |why: &str, command| all.push(Advice { why: why.to_owned(), command });
        if self.transparent_huge_pages.as_deref() == Some("never") {
            add(
                "huge pages are off: with them, weights are read faster if memory bandwidth allows",
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
            );
        }
        if self.reserved_huge_pages.is_some_and(|pages| pages > 0) {
            add(
                "reserved huge pages are unused by models, which use transparent huge pages",
                "sudo sysctl vm.nr_hugepages=0",
            );
        }
        if let Some(governor) = self.governor.as_deref().filter(|&governor| governor != "performance") {
            let why = format!("the CPU frequency governor is `{governor}`, which may raise the clock too late");
            add(&why, "sudo cpupower frequency-set --governor performance");
        }
        if self.swap_used_bytes.is_some_and(|used| used > 0) {
            add("this machine swaps: a swapped-out model runs at the speed of the disk", "trine run MODEL --mlock");
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_costs_speed_gets_advice() {
        let text = |text: &str| Some(text.to_owned());
        let good =
            Settings { transparent_huge_pages: text("madvise"), governor: text("performance"), ..Settings::default() };
        assert_eq!((Settings::default().advice(), good.advice()), (vec![], vec![]));
        for (bad, word) in [
            (Settings { transparent_huge_pages: text("never"), ..Settings::default() }, "transparent_hugepage"),
            (Settings { reserved_huge_pages: Some(1024), ..Settings::default() }, "nr_hugepages"),
            (Settings { governor: text("powersave"), ..Settings::default() }, "governor performance"),
            (Settings { swap_used_bytes: Some(1), ..Settings::default() }, "--mlock"),
        ] {
            let [advice] = &bad.advice()[..] else { panic!("{word}") };
            assert!(advice.command.contains(word), "{advice:?}");
        }
    }
}
