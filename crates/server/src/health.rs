//! Whether the server lives, and whether it may be asked.

use crate::problem::{json, json_text};
use crate::process::Process;
use crate::{App, Pressure};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Says that the server lives and passes its self-test, without asking the engine; with `?verbose`, how it is.
pub async fn health(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let failed = app.self_test.failed();
    let status = if failed { 503 } else { 200 };
    let named = |query: &str| query.split('&').any(|part| part.split('=').next() == Some("verbose"));
    if !query.as_deref().is_some_and(named) {
        let text = if failed { r#"{"status":"unhealthy"}"# } else { r#"{"status":"ok"}"# };
        return json_text(status, text.to_owned());
    }
    let load = app.load();
    let process = Process::read();
    let recent = app.metrics.recent();
    json(
        status,
        &json!({
            "status": if !failed && (load.is_some() || app.generator.is_none()) { "healthy" } else { "unhealthy" },
            "uptime_seconds": app.begun.elapsed().as_secs(),
            "latency_p50": recent.p50,
            "latency_p95": recent.p95,
            "error_rate": recent.error_rate,
            "memory_usage_mb": process.resident.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            "gpu_utilization": null,
            "running": load.map(|load| load.running),
            "waiting": load.map(|load| load.waiting),
        }),
    )
}

/// Says whether requests are answered: not while the server ends, is short of memory, or fails its self-test.
pub async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    if app.draining.load(Relaxed) {
        return json(503, &json!({"status": "draining"}));
    }
    if app.pressure() == Pressure::Full {
        return json(503, &json!({"status": "short of memory"}));
    }
    if app.self_test.failed() {
        return json(503, &json!({"status": "the self-test failed"}));
    }
    json(200, &json!({"status": "ready"}))
}
