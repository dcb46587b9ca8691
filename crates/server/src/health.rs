//! Whether the server lives, and whether it may be asked.

use crate::problem::json;
use crate::process::Process;
use crate::{App, Pressure};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::Response;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Says that the server lives, without asking the engine; with `?verbose`, how it is.
pub async fn health(State(app): State<Arc<App>>, Query(query): Query<HashMap<String, String>>) -> Response<Body> {
    if !query.contains_key("verbose") {
        return json(200, &json!({"status": "ok"}));
    }
    let load = app.load().await;
    let process = Process::read();
    let recent = app.metrics.recent();
    json(
        200,
        &json!({
            "status": if load.is_some() || app.generator.is_none() { "healthy" } else { "unhealthy" },
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

/// Says whether requests are answered: not while the server ends, or is short of memory.
pub async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    if app.draining.load(Relaxed) {
        return json(503, &json!({"status": "draining"}));
    }
    if app.pressure() == Pressure::Full {
        return json(503, &json!({"status": "short of memory"}));
    }
    json(200, &json!({"status": "ready"}))
}
