//! What concerns all clients: with keys, only those of admins ask it.

use crate::App;
use crate::generate::refused;
use crate::problem::json;
use crate::routes::Reply;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::json;
use std::sync::Arc;
use trine_api::{Problem, ProblemKind};

/// Forgets the keys and values of earlier requests.
pub async fn clear_cache(State(app): State<Arc<App>>) -> Response<Body> {
    if let Some(generator) = &app.generator {
        generator.handle.clear_prefix_cache();
    }
    json(200, &json!({"status": "ok"}))
}

/// Gives memory back to the system; what the process has then, in bytes.
pub async fn trim(State(app): State<Arc<App>>) -> Reply {
    match app.trim().await {
        Ok(resident) => Ok(json(200, &json!({"resident": resident}))),
        Err(problem) => Err(refused(&app, &problem, Problem::openai)),
    }
}

/// Reads the file of keys again.
pub async fn reload_keys(State(app): State<Arc<App>>) -> Reply {
    match app.reload_keys() {
        Ok(count) => Ok(json(200, &json!({"keys": count}))),
        Err(problem) => {
            let problem = Problem::new(ProblemKind::Invalid, problem);
            Err(refused(&app, &problem, Problem::openai))
        }
    }
}

/// Where the memory is, in bytes.
pub async fn memory(State(app): State<Arc<App>>) -> Response<Body> {
    json(200, &app.memory())
}
