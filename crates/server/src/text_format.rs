//! The two text formats of metrics, of which a client chooses one.

use axum::http::{HeaderMap, header};
use std::collections::HashSet;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus's own, which is what those get who ask for nothing.
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    /// The format that a client prefers.
    pub fn of(headers: &HeaderMap) -> TextFormat {
        let (mut text, mut open) = (0.0, 0.0);
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        for kind in lines.flat_map(|line| line.split(',')) {
            let mut parts = kind.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
            match name.as_str() {
                "application/openmetrics-text" => open = quality.max(open),
                "text/plain" => text = quality.max(text),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { TextFormat::OpenMetrics } else { TextFormat::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            TextFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// A text of OpenMetrics in this format. In Prometheus's, the names of counters end with `_total` everywhere, and there are no units and no
    /// end.
    pub fn write(self, open_metrics: String) -> String {
        if self == TextFormat::OpenMetrics {
            return open_metrics;
        }
        let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
        let counters: HashSet<String> = open_metrics.lines().filter_map(counter).collect();
        let mut text = String::with_capacity(open_metrics.len());
        for line in open_metrics.lines() {
            let comment = ["# HELP ", "# TYPE "].into_iter().find_map(|kind| Some((kind, line.strip_prefix(kind)?)));
            match comment.and_then(|(kind, rest)| Some((kind, rest.split_once(' ')?))) {
                Some((kind, (name, rest))) if counters.contains(name) => {
                    text.extend([kind, name, "_total ", rest, "\n"]);
                }
                None if line.starts_with('#') => {}
                _ => text.extend([line, "\n"]),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{App, ServerOptions};
    use std::collections::HashMap;

    #[test]
    fn clients_get_the_format_that_they_ask_for() {
        use TextFormat::{OpenMetrics, Prometheus};
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/html, application/json"), Prometheus),
            (Some("text/plain; version=0.0.4"), Prometheus),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some(prometheus), OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=1.0.0, text/plain;q=0.5"), OpenMetrics),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.5"), Prometheus),
            (Some("application/openmetrics-text;q=0"), Prometheus),
        ] {
            let accept = accept.map(|accept| (header::ACCEPT, accept.parse().unwrap()));
            assert_eq!(TextFormat::of(&accept.into_iter().collect()), expected);
        }
    }

    /// Reads Prometheus's text format strictly: the series of each metric, and its type.
    fn parse(text: &str) -> HashMap<String, (String, Vec<(String, f64)>)> {
        let mut metrics = HashMap::<String, (String, Vec<(String, f64)>)>::new();
        let (mut helped, mut current) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                rest.split_once(' ').expect("a help has a name and a text").0.clone_into(&mut helped);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type has a name");
                assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
                assert_eq!(name, helped, "help and type name the same metric");
                assert!(metrics.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "twice: {line}");
                name.clone_into(&mut current);
            } else {
                assert!(!line.starts_with('#') && !line.contains(" # "), "{line}");
                let (series, value) = line.rsplit_once(' ').expect("a series has a value");
                let name = series.split('{').next().unwrap_or_default();
                let (kind, all) = metrics.get_mut(&current).expect("a type comes first");
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.iter().any(|suffix| name == format!("{current}{suffix}")), "{line} of {current}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                all.push((series.to_owned(), value.parse().expect("a number")));
            }
        }
        metrics
    }

    #[test]
    fn prometheus_reads_all_metrics_in_its_own_format() {
        let app = App::new(ServerOptions { vllm_metrics: true, ..ServerOptions::default() }, None, None);
        app.metrics.request("/v1/models", 200, std::time::Duration::from_millis(3));
        app.metrics.read(7);
        let open_metrics = app.metrics.text(&app, None);
        assert!(open_metrics.ends_with("# EOF\n") && open_metrics.contains("# TYPE trine_prompt_tokens counter"));
        assert_eq!(TextFormat::OpenMetrics.write(open_metrics.clone()), open_metrics);
        let text = TextFormat::Prometheus.write(open_metrics.clone());
        let metrics = parse(&text);
        assert_eq!(metrics["trine_prompt_tokens_total"].1, [("trine_prompt_tokens_total".to_owned(), 7.0)]);
        assert_eq!(metrics["vllm:prompt_tokens_total"].0, "counter");
        assert_eq!(metrics["trine_request_duration_seconds"].0, "histogram");
        let series =
            |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(series(&text), series(&open_metrics), "the same values");
    }
}
