//! Metrics under the names of vLLM, for dashboards that are made for it.

/// Metrics that vLLM has under two names, or another: its name, and that of the one here.
const ALIASES: &[(&str, &str)] = &[
    ("time_per_output_token_seconds", "inter_token_latency_seconds"),
    ("gpu_cache_usage_perc", "kv_cache_usage_perc"),
    ("request_max_num_generation_tokens", "request_generation_tokens"),
];

/// The metrics of a text whose names begin with `trine_`, as vLLM writes them: with the model as a label. All lines of a metric are together.
pub fn renamed(text: &str, model: &str) -> String {
    let model = model.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let mut names = vec![("", "")];
    names.extend(ALIASES);
    let mut renamed = String::new();
    for (theirs, ours) in names {
        for line in text.lines() {
            let (comment, series) = match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
                Some((kind, rest)) => (format!("# {kind} "), rest),
                None => (String::new(), line),
            };
            let Some(rest) = series.strip_prefix("trine_").and_then(|series| series.strip_prefix(ours)) else {
                continue;
            };
            let rest = if comment.is_empty() { label(rest, &model) } else { rest.to_owned() };
            renamed.push_str(&format!("{comment}vllm:{theirs}{rest}\n"));
        }
    }
    renamed
}

/// A series with the model among its labels.
fn label(series: &str, model: &str) -> String {
    match series.split_once('{') {
        Some((name, rest)) if !name.contains(' ') => format!("{name}{{model_name=\"{model}\",engine=\"0\",{rest}"),
        _ => {
            let (name, value) = series.split_once(' ').unwrap_or((series, ""));
            format!("{name}{{model_name=\"{model}\",engine=\"0\"}} {value}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_the_labels_and_names_of_vllm() {
        let text = "# HELP trine_kv_cache_usage_perc Share.\n# TYPE trine_kv_cache_usage_perc gauge\ntrine_kv_cache_usage_perc 0.5\n\
                    trine_request_success_total{finished_reason=\"stop\"} 3\nprocess_open_fds 4\n";
        let expected = "# HELP vllm:kv_cache_usage_perc Share.\n# TYPE vllm:kv_cache_usage_perc gauge\n\
                        vllm:kv_cache_usage_perc{model_name=\"a\\\"b\",engine=\"0\"} 0.5\n\
                        vllm:request_success_total{model_name=\"a\\\"b\",engine=\"0\",finished_reason=\"stop\"} 3\n\
                        # HELP vllm:gpu_cache_usage_perc Share.\n# TYPE vllm:gpu_cache_usage_perc gauge\n\
                        vllm:gpu_cache_usage_perc{model_name=\"a\\\"b\",engine=\"0\"} 0.5\n";
        assert_eq!(renamed(text, "a\"b"), expected);
    }
}
