//! Power and temperature, where the machine has sensors that may be read: RAPL by Linux's powercap, and hwmon.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Where Linux has them.
const CLASSES: &str = "/sys/class";

/// Drivers of hwmon that measure CPUs.
const CPU_DRIVERS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// The counters of energy at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Energy {
    /// The counter of each package in microjoules, and where it begins again.
    packages: Vec<(u64, u64)>,
}

impl Energy {
    /// Now; `None` where there are no counters, or only the administrator may read them.
    pub fn now() -> Option<Energy> {
        Energy::in_folder(Path::new(CLASSES))
    }

    fn in_folder(classes: &Path) -> Option<Energy> {
        let number = |path: PathBuf| read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let zones = entries(&classes.join("powercap"));
        let packages = zones
            .iter()
            .filter(|zone| read_to_string(zone.join("name")).is_ok_and(|name| name.trim().starts_with("package")));
        let read =
            packages.map(|zone| Some((number(zone.join("energy_uj"))?, number(zone.join("max_energy_range_uj"))?)));
        let packages = read.collect::<Option<Vec<_>>>()?;
        (!packages.is_empty()).then_some(Energy { packages })
    }

    /// Joules that all packages used since `earlier`.
    pub fn since(&self, earlier: &Energy) -> f64 {
        let pairs = self.packages.iter().zip(&earlier.packages);
        let used = pairs.map(|(&(now, range), &(then, _))| if now >= then { now - then } else { now + range - then });
        used.sum::<u64>() as f64 * 1e-6
    }
}

/// The highest temperature of a CPU in degrees Celsius; `None` where no sensor tells.
pub fn temperature() -> Option<f64> {
    temperature_in(Path::new(CLASSES))
}

fn temperature_in(classes: &Path) -> Option<f64> {
    let is_cpu =
        |folder: &&PathBuf| read_to_string(folder.join("name")).is_ok_and(|name| CPU_DRIVERS.contains(&name.trim()));
    let sensors = entries(&classes.join("hwmon"));
    let inputs = sensors.iter().filter(is_cpu).flat_map(|folder| entries(folder)).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("temp") && name.ends_with("_input")
    });
    let is_zone = |folder: &PathBuf| {
        read_to_string(folder.join("type")).is_ok_and(|kind| kind.contains("cpu") || kind.contains("x86_pkg_temp"))
    };
    let zones = entries(&classes.join("thermal")).into_iter().filter(is_zone).map(|folder| folder.join("temp"));
    let read = |path: PathBuf| read_to_string(path).ok()?.trim().parse::<f64>().ok();
    inputs.chain(zones).filter_map(read).map(|millidegrees| millidegrees / 1e3).max_by(f64::total_cmp)
}

/// What is in a folder, in order; nothing if it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_are_read_as_linux_lays_them_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!((Energy::in_folder(folder.path()), temperature_in(folder.path())), (None, None));
        put("powercap/intel-rapl:0/name", "package-0\n");
        put("powercap/intel-rapl:0/max_energy_range_uj", "1000000\n");
        put("powercap/intel-rapl:0:0/name", "core\n");
        assert_eq!(Energy::in_folder(folder.path()), None, "the counter may not be read");
        let at = |counter: &str| {
            put("powercap/intel-rapl:0/energy_uj", counter);
            Energy::in_folder(folder.path()).unwrap()
        };
        assert_eq!(at("700000\n").since(&at("200000\n")), 0.5);
        // It begins again.
        assert_eq!(at("100000\n").since(&at("850000\n")), 0.25);
        put("hwmon/hwmon0/name", "k10temp\n");
        put("hwmon/hwmon0/temp1_input", "61250\n");
        put("hwmon/hwmon1/name", "nvme\n");
        put("hwmon/hwmon1/temp1_input", "90000\n");
        assert_eq!(temperature_in(folder.path()), Some(61.25));
        put("thermal/thermal_zone0/type", "x86_pkg_temp\n");
        put("thermal/thermal_zone0/temp", "65000\n");
        assert_eq!(temperature_in(folder.path()), Some(65.0));
    }
}
