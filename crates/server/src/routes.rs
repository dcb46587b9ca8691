//! The paths of the server.

use crate::ServerOptions;
use crate::app::App;
use crate::body::{blocking, read};
use crate::generate::{Answering, Shape, answer, refused};
use crate::otlp::Note;
use crate::problem::{json, json_text};
use crate::quota::Admission;
use crate::text_format::TextFormat;
use crate::{admin, auth, health, page, trace};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use trine_api::openai::{self, Shared};
use trine_api::{Ask, Fields, Problem, ProblemKind, Stop, Writer, anthropic, ollama, responses};
use trine_engine::{PrefixCache, Prompt};

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", generates(openai::chat, Problem::openai))
        .route("/v1/completions", generates(openai::completion, Problem::openai))
        .route("/v1/responses", generates(responses::response, Problem::openai))
        .route("/v1/responses/input_tokens", answers(responses::input_tokens, Problem::openai))
        .route("/v1/messages", generates(anthropic::messages, anthropic::problem))
        .route("/v1/messages/count_tokens", answers(anthropic::count_tokens, anthropic::problem))
        .route("/api/chat", generates(ollama::chat, ollama::problem))
        .route("/api/generate", generates(ollama::generate, ollama::problem))
        .route("/api/embed", post(crate::ollama::embed))
        .route("/api/embeddings", post(crate::ollama::embed_one))
        .route("/api/tags", get(crate::ollama::tags))
        .route("/api/ps", get(crate::ollama::running))
        .route("/api/show", post(crate::ollama::show))
        .route("/api/version", get(crate::ollama::version))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/apply-template", answers(openai::apply_template, Problem::openai))
        .route("/tokenize", answers(trine_api::tokens::tokenize, Problem::openai))
        .route("/detokenize", answers(trine_api::tokens::detokenize, Problem::openai))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics))
        .route("/admin/cache/clear", post(admin::clear_cache))
        .route("/admin/keys/reload", post(admin::reload_keys))
        .route("/admin/trim", post(admin::trim))
        .route("/debug/memory", get(admin::memory))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), auth::check))
        .layer(cors(&app.options))
        .layer(middleware::from_fn_with_state(app.clone(), trace::observe))
        .with_state(app)
}

/// What pages of other sites may ask: nothing, unless their origins are known.
fn cors(options: &ServerOptions) -> CorsLayer {
    let origins = &options.cors_origins;
    let layer =
        CorsLayer::new().allow_methods(AllowMethods::mirror_request()).allow_headers(AllowHeaders::mirror_request());
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    let known = origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok());
    layer.allow_origin(AllowOrigin::list(known))
}

/// How the protocol of a path writes problems.
pub fn shape_of(path: &str) -> Shape {
    if path.starts_with("/v1/messages") {
        anthropic::problem
    } else if path.starts_with("/api/") {
        ollama::problem
    } else {
        Problem::openai
    }
}

pub type Reply = Result<Response<Body>, Response<Body>>;

/// Reads a request of the protocol, and what answers it.
type Protocol = fn(Fields, &Shared, &str) -> Result<(Ask, Box<dyn Writer>), Problem>;

/// A route that generates: how its bodies are read, and problems written.
fn generates(protocol: Protocol, shape: Shape) -> MethodRouter<Arc<App>> {
    post(move |State(app): State<Arc<App>>, request: Request| generate(app, request, protocol, shape))
}

async fn generate(app: Arc<App>, request: Request, protocol: Protocol, shape: Shape) -> Reply {
    let answered = async {
        if app.draining.load(Relaxed) {
            return Err(trine_engine::Error::ShutDown.into());
        }
        app.check_memory()?;
        let client = request.extensions().get::<trace::Client>().cloned().unwrap_or_default();
        let note = Note::of(&request);
        let operation = match request.uri().path() {
            "/v1/completions" | "/api/generate" => "text_completion",
            _ => "chat",
        };
        let admission = Admission::of(&request);
        let stop = Stop::default();
        let _gone = Gone(stop.clone());
        let prepared = read(&app, request, move |app, fields| prepare(app, fields, protocol, client, &stop)).await?;
        note.begin(operation, &app.generator()?.served.name);
        answer(app.clone(), Answering { admission, note, ..prepared }).await
    };
    match answered.await {
        Ok(response) => Ok(response),
        Err(problem) => Err(refused(&app, &problem, shape)),
    }
}

/// Tells it when it is dropped, because the client has left, for example: what is prepared for it on another thread ends.
struct Gone(Stop);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.tell();
    }
}

fn prepare(
    app: &App,
    fields: Fields,
    protocol: Protocol,
    client: trace::Client,
    stop: &Stop,
) -> Result<Answering, Problem> {
    check_model(app, &fields)?;
    let generator = app.generator()?;
    let most = generator.parallel + generator.queued;
    let too_many = |field, answers| {
        Err(Problem::field(field, format_args!("expected at most {most} answers in all, found {answers}")))
    };
    // Millions of prompts are not read first.
    if let Some(Value::Array(prompts)) = fields.get("prompt")
        && prompts.len() > most
        && !prompts[0].is_number()
    {
        return too_many("prompt", prompts.len());
    }
    let (mut ask, writer) = protocol(fields, &generator.served, &openai::new_id(""))?;
    if app.options.isolate_keys
        && let PrefixCache::Domain(domain) = &mut ask.prefix_cache
    {
        *domain = format!("{}\n{domain}", client.0);
    }
    ask.scheduling.client = client.0;
    let answers = ask.answers() * ask.prompts.len();
    if answers > most {
        return too_many(if ask.answers() > 1 { "n" } else { "prompt" }, answers);
    }
    let begun = Instant::now();
    let requests = ask.requests(&generator.served, stop)?;
    if ask.constraint.is_some() {
        app.metrics.grammar.observe(begun.elapsed().as_secs_f64());
    }
    let prompt_tokens = ask.prompts.iter().map(Vec::len).collect();
    let (stream, constraint) = (ask.stream, ask.constraint.map(|(field, _)| field));
    Ok(Answering { requests, prompt_tokens, writer, stream, constraint, admission: None, note: Note::default() })
}

/// A model that is not here is no other's.
pub fn check_model(app: &App, fields: &Fields) -> Result<(), Problem> {
    let Some(asked) = fields.get("model") else { return Ok(()) };
    let Some(name) = asked.as_str() else { return Err(Problem::field("model", "expected a string")) };
    // Ollama's clients add a tag.
    if app.names().any(|known| known == name || name.strip_suffix(":latest") == Some(known)) {
        return Ok(());
    }
    let known: Vec<&str> = app.names().collect();
    let message = format!("the model `{name}` is not served here: expected {}", known.join(" or "));
    let code = Some("model_not_found");
    Err(Problem { param: Some("model".to_owned()), code, ..Problem::new(ProblemKind::NotFound, message) })
}

async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Reply {
    match embedded(&app, request).await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem, Problem::openai)),
    }
}

async fn embedded(app: &Arc<App>, request: Request) -> Result<Value, Problem> {
    app.check_memory()?;
    let (admission, note) = (Admission::of(&request), Note::of(&request));
    let ask = read(app, request, |app, fields| {
        check_model(app, &fields)?;
        openai::embedding(fields, app.embeddings()?.width)
    });
    let ask = ask.await?;
    let (embeddings, tokens) = embed(app, ask.inputs, admission, &note).await?;
    Ok(openai::embeddings(&app.embeddings()?.name, &embeddings, ask.base64, tokens))
}

/// Texts of a request for embeddings: OpenAI's limit.
const MAX_INPUTS: usize = 2048;

/// Embeds texts beside those of other requests, and charges their tokens.
pub async fn embed(
    app: &Arc<App>,
    inputs: Vec<Prompt>,
    admission: Option<Arc<Admission>>,
    note: &Note,
) -> Result<(Vec<Vec<f32>>, usize), Problem> {
    if inputs.len() > MAX_INPUTS {
        let expected = format_args!("expected at most {MAX_INPUTS} texts, found {}", inputs.len());
        return Err(Problem::field("input", expected));
    }
    note.begin("embeddings", &app.embeddings()?.name);
    let (place, of) = (app.embeddings()?.batcher.place()?, app.clone());
    let (pending, tokens) = blocking(move || {
        let embeddings = of.embeddings()?;
        let wrong = |i, error| Problem {
            param: Some("input".to_owned()),
            ..Problem::new(ProblemKind::Invalid, format!("input[{i}]: {error}"))
        };
        let tokens = |(i, input)| (embeddings.tokens)(input).map_err(|error| wrong(i, error));
        let texts = inputs.into_iter().enumerate().map(tokens).collect::<Result<Vec<_>, _>>()?;
        let tokens = texts.iter().map(Vec::len).sum();
        if let Some(admission) = &admission {
            admission.charge(tokens);
        }
        Ok((embeddings.batcher.begin(place, texts), tokens))
    })
    .await?;
    let embeddings = pending.embeddings().await?;
    note.embedded(tokens);
    Ok((embeddings, tokens))
}

async fn models(State(app): State<Arc<App>>) -> Response<Body> {
    json(200, &json!({"object": "list", "data": app.models()}))
}

async fn model(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Reply {
    let problem = match id {
        Ok(Path(id)) => match app.models().into_iter().find(|model| model["id"] == id.as_str()) {
            Some(model) => return Ok(json(200, &model)),
            None => {
                let message = format!("the model `{id}` is not served here");
                Problem { code: Some("model_not_found"), ..Problem::new(ProblemKind::NotFound, message) }
            }
        },
        Err(error) => Problem::new(ProblemKind::Invalid, error.body_text()),
    };
    Err(refused(&app, &problem, Problem::openai))
}

/// Answers what needs no engine.
type Answer<T> = fn(Fields, &Shared) -> Result<T, Problem>;

/// A route of what needs no engine.
fn answers<T: Serialize + 'static>(answer: Answer<T>, shape: Shape) -> MethodRouter<Arc<App>> {
    post(move |State(app): State<Arc<App>>, request: Request| answer_alone(app, request, answer, shape))
}

async fn answer_alone<T: Serialize + 'static>(
    app: Arc<App>,
    request: Request,
    answer: Answer<T>,
    shape: Shape,
) -> Reply {
    let answered = read(&app, request, move |app, fields| {
        check_model(app, &fields)?;
        let answer = answer(fields, &app.generator()?.served)?;
        serde_json::to_string(&answer).map_err(|error| Problem::new(ProblemKind::Server, error.to_string()))
    });
    match answered.await {
        Ok(body) => Ok(json_text(200, body)),
        Err(problem) => Err(refused(&app, &problem, shape)),
    }
}

async fn tokenizer_info(State(app): State<Arc<App>>) -> Reply {
    match app.generator() {
        Ok(generator) => Ok(json(200, &trine_api::tokens::tokenizer_info(&generator.served))),
        Err(problem) => Err(refused(&app, &problem, Problem::openai)),
    }
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let (load, format) = (app.load(), TextFormat::of(&headers));
    let mut response = Response::new(Body::from(format.write(app.metrics.text(&app, load))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn unknown(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(file) = page::file(request.uri().path(), request.headers())
    {
        return file;
    }
    let message = format!("there is no {} {}", request.method(), request.uri().path());
    refused(&app, &Problem::new(ProblemKind::NotFound, message), shape_of(request.uri().path()))
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let message = format!("{} takes no {}", request.uri().path(), request.method());
    refused(&app, &Problem::new(ProblemKind::Method, message), shape_of(request.uri().path()))
}
