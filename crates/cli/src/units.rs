//! Numbers for people.

/// Digits in groups of three.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// A measured number with the digits that measurements of it share: three, and more before the point.
pub fn measured(x: f64) -> String {
    match x.abs() {
        size if size >= 99.95 => count(x.round().max(0.0) as u64),
        size if size >= 9.995 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// Seconds since 1970 as a date and time in UTC.
pub fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map_or("unknown".to_owned(), |time| time.format("%Y-%m-%d %H:%M").to_string())
}

/// An interval of measured numbers, with its level if that is less than 95 %; one measurement has none.
pub fn between(low: f64, high: f64, confidence: f64) -> String {
    sure(range(low, high), confidence)
}

/// An interval as a text, with its level if that is less than 95 %; one measurement has none.
pub fn sure(interval: String, confidence: f64) -> String {
    match confidence {
        0.0 => "-".to_owned(),
        0.95.. => interval,
        _ => format!("{interval} ({:.0} %)", confidence * 100.0),
    }
}

/// The least and the most that a measured number may be.
pub fn range(low: f64, high: f64) -> String {
    format!("{}-{}", measured(low), measured(high))
}

/// A number of things, with their name in the singular or in the plural.
pub fn plural(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Bytes in the largest binary unit that leaves at least one.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(power) = n.checked_ilog2().map(|bits| bits as usize / 10).filter(|&power| power > 0) else {
        return format!("{n} B");
    };
    let power = power.min(UNITS.len());
    format!("{:.2} {}", n as f64 / (1u64 << (10 * power)) as f64, UNITS[power - 1])
}

/// A duration in its two largest units.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h", count(days)),
    }
}
