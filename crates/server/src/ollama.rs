//! Ollama's endpoints that generate nothing.

use crate::App;
use crate::body::read;
use crate::generate::refused;
use crate::otlp::Note;
use crate::problem::json;
use crate::quota::Admission;
use crate::routes::{Reply, check_model, embed as embed_texts};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use trine_api::{Problem, ollama, prompts};
use trine_engine::Prompt;

/// A model as `/api/tags` lists it.
fn model(app: &App, model: &Value) -> Value {
    let meta = &model["meta"];
    json!({
        "name": model["id"],
        "model": model["id"],
        "modified_at": ollama::time(app.created),
        "size": meta["weight_bytes"].as_u64().unwrap_or_default(),
        "digest": meta["fingerprint"].as_str().unwrap_or_default(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": meta["architecture"].as_str().unwrap_or_default(),
            "families": meta["architecture"].as_str().into_iter().collect::<Vec<_>>(),
            "parameter_size": "",
            "quantization_level": "",
        },
    })
}

pub async fn tags(State(app): State<Arc<App>>) -> Response<Body> {
    let models: Vec<Value> = app.models().iter().map(|one| model(&app, one)).collect();
    json(200, &json!({"models": models}))
}

pub async fn running(State(app): State<Arc<App>>) -> Response<Body> {
    tags(State(app)).await
}

pub async fn version() -> Response<Body> {
    json(200, &json!({"version": env!("CARGO_PKG_VERSION")}))
}

pub async fn show(State(app): State<Arc<App>>, request: Request) -> Reply {
    let shown = read(&app, request, |app, mut fields| {
        fields.rename("name", "model")?;
        check_model(app, &fields)?;
        fields.take("model");
        // All is told that is known.
        fields.boolean("verbose")?;
        fields.finish()?;
        let Some(found) = app.models().into_iter().next() else {
            return Err(Problem::field("model", "nothing is served"));
        };
        let template = app
            .generator
            .as_ref()
            .and_then(|generator| generator.served.template.as_ref().ok()?.source(false).ok().map(str::to_owned));
        let meta = found["meta"].clone();
        let info = json!({
            "general.architecture": meta["architecture"],
            "general.context_length": meta["n_ctx"],
        });
        Ok(json!({
            "modelfile": "",
            "parameters": "",
            "template": template.unwrap_or_default(),
            "details": model(app, &found)["details"],
            "model_info": info,
            "capabilities": meta["capabilities"],
            "modified_at": ollama::time(app.created),
        }))
    });
    match shown.await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem, ollama::problem)),
    }
}

/// The former endpoint, for one text.
pub async fn embed_one(State(app): State<Arc<App>>, request: Request) -> Reply {
    let note = Note::of(&request);
    let embedded = async {
        let admission = Admission::of(&request);
        let prompt = read(&app, request, |app, mut fields| {
            check_model(app, &fields)?;
            fields.take("model");
            fields.object("options")?;
            ollama::keep_alive(&mut fields)?;
            let prompt = fields.string("prompt")?.ok_or_else(|| Problem::field("prompt", "expected a string"))?;
            fields.finish()?;
            Ok(prompt)
        });
        let (mut embeddings, _) = embed_texts(&app, vec![Prompt::Text(prompt.await?)], admission, &note).await?;
        Ok(json!({"embedding": embeddings.pop()}))
    };
    match embedded.await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem, ollama::problem)),
    }
}

pub async fn embed(State(app): State<Arc<App>>, request: Request) -> Reply {
    let (begun, note) = (Instant::now(), Note::of(&request));
    let embedded = async {
        let admission = Admission::of(&request);
        let inputs = read(&app, request, |app, mut fields| {
            check_model(app, &fields)?;
            fields.take("model");
            fields.object("options")?;
            ollama::keep_alive(&mut fields)?;
            // A text that is too long is refused, and never cut.
            fields.boolean("truncate")?;
            fields.only("dimensions", &json!(app.embeddings()?.width), "the model gives these")?;
            let wrong = || Problem::field("input", "expected a string or a list of strings");
            let inputs = prompts(fields.take("input").unwrap_or_default())
                .filter(|inputs| !inputs.is_empty())
                .ok_or_else(wrong)?;
            fields.finish()?;
            Ok(inputs)
        });
        let (embeddings, tokens) = embed_texts(&app, inputs.await?, admission, &note).await?;
        Ok(json!({
            "model": app.embeddings()?.name,
            "embeddings": embeddings,
            "total_duration": begun.elapsed().as_nanos() as u64,
            "load_duration": 0,
            "prompt_eval_count": tokens,
        }))
    };
    match embedded.await {
        Ok(body) => Ok(json(200, &body)),
        Err(problem) => Err(refused(&app, &problem, ollama::problem)),
    }
}
