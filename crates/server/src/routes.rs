//! The paths of the server.

use crate::app::App;
use crate::body::read_body;
use crate::generate::{Answering, answer, refused};
use crate::problem::json;
use crate::{health, trace};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, header};
use axum::middleware;
use axum::routing::{get, post};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine_api::openai::{self, Shared};
use trine_api::{Ask, Fields, Problem, ProblemKind, Writer};

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), trace::observe))
        .with_state(app)
}

type Reply = Result<Response<Body>, Response<Body>>;

/// Reads a body of the protocol, and what answers it.
type Read = fn(Fields, &Shared, &str) -> Result<(Ask, Box<dyn Writer>), Problem>;

async fn chat(State(app): State<Arc<App>>, request: Request) -> Reply {
    generate(app, request, openai::chat).await
}

async fn completion(State(app): State<Arc<App>>, request: Request) -> Reply {
    generate(app, request, openai::completion).await
}

async fn generate(app: Arc<App>, request: Request, read: Read) -> Reply {
    let answered = async {
        if app.draining.load(Relaxed) {
            return Err(trine_engine::Error::ShutDown.into());
        }
        let client = request.extensions().get::<trace::Client>().cloned().unwrap_or_default();
        let fields = read_body(&app, request).await?;
        let of = app.clone();
        // Templates, tokens and grammars take their time.
        let prepared = tokio::task::spawn_blocking(move || prepare(&of, fields, read, client)).await;
        let failed = |_| Problem::new(ProblemKind::Server, "reading the request failed");
        answer(app.clone(), prepared.map_err(failed)??).await
    };
    match answered.await {
        Ok(response) => Ok(response),
        Err(problem) => Err(refused(&app, &problem).await),
    }
}

fn prepare(app: &App, fields: Fields, read: Read, client: trace::Client) -> Result<Answering, Problem> {
    check_model(app, &fields)?;
    let Some(generator) = &app.generator else {
        return Err(Problem::new(ProblemKind::Invalid, "the model makes embeddings, and answers nothing"));
    };
    let (mut ask, writer) = read(fields, &generator.served, &openai::new_id(""))?;
    ask.scheduling.client = client.0;
    let begun = Instant::now();
    let requests = ask.requests(&generator.served)?;
    if ask.constraint.is_some() {
        app.metrics.grammar.observe(begun.elapsed().as_secs_f64());
    }
    Ok(Answering { requests, writer, stream: ask.stream })
}

/// A model that is not here is no other's.
fn check_model(app: &App, fields: &Fields) -> Result<(), Problem> {
    let Some(asked) = fields.get("model") else { return Ok(()) };
    let Some(name) = asked.as_str() else { return Err(Problem::field("model", "expected a string")) };
    if app.names().any(|known| known == name) {
        return Ok(());
    }
    let known: Vec<&str> = app.names().collect();
    let message = format!("the model `{name}` is not served here: expected {}", known.join(" or "));
    let code = Some("model_not_found");
    Err(Problem { param: Some("model".to_owned()), code, ..Problem::new(ProblemKind::NotFound, message) })
}

async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Reply {
    let answered = async {
        let fields = read_body(&app, request).await?;
        check_model(&app, &fields)?;
        let of = app.clone();
        let embedded = tokio::task::spawn_blocking(move || {
            let Some(model) = &of.embeddings else {
                return Err(Problem::new(
                    ProblemKind::Invalid,
                    "the server has no model for embeddings: --embedding-model names one",
                ));
            };
            let ask = openai::embedding(fields, model.width)?;
            let (embeddings, tokens) = (model.embed)(ask.inputs)?;
            Ok(openai::embeddings(&model.name, &embeddings, ask.base64, tokens))
        });
        let failed = |_| Problem::new(ProblemKind::Server, "embedding failed");
        embedded.await.map_err(failed)?
    };
    match answered.await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem).await),
    }
}

async fn models(State(app): State<Arc<App>>) -> Response<Body> {
    json(200, &json!({"object": "list", "data": app.models()}))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    match app.models().into_iter().find(|model| model["id"] == id.as_str()) {
        Some(model) => Ok(json(200, &model)),
        None => {
            let message = format!("the model `{id}` is not served here");
            let code = Some("model_not_found");
            let problem = Problem { code, ..Problem::new(ProblemKind::NotFound, message) };
            Err(refused(&app, &problem).await)
        }
    }
}

async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    tokens(app, request, trine_api::tokens::tokenize).await
}

async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    tokens(app, request, trine_api::tokens::detokenize).await
}

/// Answers what needs no engine.
async fn tokens(
    app: Arc<App>,
    request: Request,
    answer: fn(Fields, &Shared) -> Result<serde_json::Value, Problem>,
) -> Reply {
    let answered = async {
        let fields = read_body(&app, request).await?;
        check_model(&app, &fields)?;
        let of = app.clone();
        let answered = tokio::task::spawn_blocking(move || match &of.generator {
            Some(generator) => answer(fields, &generator.served),
            None => Err(Problem::new(ProblemKind::Invalid, "the model makes embeddings, and answers nothing")),
        });
        let failed = |_| Problem::new(ProblemKind::Server, "reading the request failed");
        answered.await.map_err(failed)?
    };
    match answered.await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem).await),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let load = app.load().await;
    let mut response = Response::new(Body::from(app.metrics.text(&app, load)));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn unknown(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let message = format!("there is no {} {}", request.method(), request.uri().path());
    refused(&app, &Problem::new(ProblemKind::NotFound, message)).await
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let message = format!("{} takes no {}", request.uri().path(), request.method());
    refused(&app, &Problem::new(ProblemKind::Method, message)).await
}
