//! From a request that is read to its response.

use crate::ServerOptions;
use crate::app::{App, Generator};
use crate::otlp::Note;
use crate::problem::{failed, json};
use crate::quota::Admission;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_util::stream::{SelectAll, StreamExt};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use trine_api::{Event, Framing, Problem, Writer};
use trine_engine::{Choice, FinishReason, Generation, Request, Update};

/// Parts of a response that wait for a client which reads slowly.
const AHEAD: usize = 8;

/// What answers a request, in whatever protocol.
pub struct Answering {
    pub requests: Vec<Request>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    pub writer: Box<dyn Writer>,
    pub stream: bool,
    /// The field that constrains the answers.
    pub constraint: Option<&'static str>,
    /// The place of its key.
    pub admission: Option<Arc<Admission>>,
    pub note: Note,
}

/// The updates of all answers, each with its index.
type Updates = SelectAll<futures_util::stream::BoxStream<'static, (usize, Update)>>;

/// Answers a request; a problem that is known before the first token is the response's status.
pub async fn answer(app: Arc<App>, answering: Answering) -> Result<Response<Body>, Problem> {
    let Answering { requests, prompt_tokens, writer, stream, constraint, admission, note } = answering;
    let (updates, answers) = submit(app.generator()?, requests).await?;
    if let Some(admission) = &admission {
        admission.charge(prompt_tokens);
    }
    let watch = Watch::new(&app, answers, constraint, admission, note);
    if stream { Ok(streamed(&app.options, updates, watch, writer)) } else { whole(updates, watch, writer).await }
}

/// Submits the requests. Those before one that fails are cancelled when they are dropped.
async fn submit(generator: &Generator, requests: Vec<Request>) -> Result<(Updates, usize), Problem> {
    let mut generations: Vec<Generation> = Vec::new();
    for request in requests {
        generations.extend(generator.handle.submit_all_async(request).await?);
    }
    let answers = generations.len();
    let indexed = |(index, generation): (usize, Generation)| generation.map(move |update| (index, update)).boxed();
    Ok((generations.into_iter().enumerate().map(indexed).collect(), answers))
}

async fn whole(mut updates: Updates, mut watch: Watch, mut writer: Box<dyn Writer>) -> Result<Response<Body>, Problem> {
    let mut choices: Vec<Choice> = (0..watch.last.len()).map(Choice::new).collect();
    while let Some((index, update)) = updates.next().await {
        watch.see(index, &update);
        choices[index].update(update);
    }
    match choices.iter().find_map(|choice| failure(&choice.finish_reason, watch.constraint)) {
        Some(problem) => Err(problem),
        None => Ok(json(200, &writer.whole(choices))),
    }
}

/// Why an answer failed, if it did. What a grammar does not allow is the matter of the field that has it.
fn failure(reason: &FinishReason, constraint: Option<&str>) -> Option<Problem> {
    let error = match reason {
        FinishReason::Failed(error) => error,
        FinishReason::Cancelled => &trine_engine::Error::ShutDown,
        _ => return None,
    };
    let param = constraint.filter(|_| matches!(error, trine_engine::Error::Filter(_)));
    let problem = Problem::from(error);
    Some(Problem { param: param.map(str::to_owned).or(problem.param), ..problem })
}

/// A response whose events come as the tokens do. The connection that ends cancels its request.
fn streamed(
    options: &ServerOptions,
    mut updates: Updates,
    mut watch: Watch,
    mut writer: Box<dyn Writer>,
) -> Response<Body> {
    let framing = writer.framing();
    let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
    let ping = options.ping_interval;
    let task = async move {
        let send = async |events: Vec<Event>| {
            let bytes = frames(framing, &events);
            bytes.is_empty() || sender.send(bytes).await.is_ok()
        };
        if !send(writer.begin()).await {
            return;
        }
        loop {
            let next = tokio::select! {
                next = updates.next() => next,
                () = sender.closed() => return,
                () = tokio::time::sleep(ping) => {
                    let alive = framing != Framing::ServerSentEvents || send(vec![writer.ping()]).await;
                    if alive { continue } else { return }
                }
            };
            let Some((index, update)) = next else { break };
            watch.see(index, &update);
            if let Update::Finished { finish_reason, .. } = &update
                && let Some(problem) = failure(finish_reason, watch.constraint)
            {
                send(writer.fail(&problem)).await;
                return;
            }
            if !send(writer.update(index, update)).await {
                return;
            }
        }
        send(writer.end()).await;
    };
    tokio::spawn(task);
    let parts = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(bytes), receiver))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let kind = match framing {
        Framing::ServerSentEvents => "text/event-stream; charset=utf-8",
        Framing::Lines => "application/x-ndjson",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would keep events until it has many.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Events as bytes.
fn frames(framing: Framing, events: &[Event]) -> Bytes {
    let mut text = String::new();
    for Event { name, data } in events {
        match framing {
            Framing::ServerSentEvents => {
                if let Some(name) = name {
                    text.extend(["event: ", name, "\n"]);
                }
                match data.as_str() {
                    "" => text.push_str(": ping\n\n"),
                    data => text.extend(["data: ", data, "\n\n"]),
                }
            }
            Framing::Lines => text.extend([data.as_str(), "\n"]),
        }
    }
    text.into()
}

/// Counts what happens to answers; those that have not ended when it is dropped are cancelled.
struct Watch {
    app: Arc<App>,
    /// When each had its last token.
    last: Vec<Option<Instant>>,
    begun: Instant,
    ended: usize,
    constraint: Option<&'static str>,
    admission: Option<Arc<Admission>>,
    /// Tokens of each that its key was charged.
    charged: Vec<usize>,
    note: Note,
}

impl Watch {
    fn new(
        app: &Arc<App>,
        answers: usize,
        constraint: Option<&'static str>,
        admission: Option<Arc<Admission>>,
        note: Note,
    ) -> Watch {
        let (last, charged) = (vec![None; answers], vec![0; answers]);
        Watch { app: app.clone(), last, begun: Instant::now(), ended: 0, constraint, admission, charged, note }
    }

    fn see(&mut self, index: usize, update: &Update) {
        let metrics = &self.app.metrics;
        // Each token is charged when it comes: an answer that is cut is not free.
        let made = match update {
            Update::Progress(_) | Update::Prompt(_) => 0,
            Update::Token(_) => self.charged[index] + 1,
            Update::Finished { usage, .. } => usage.completion_tokens,
        };
        let more = made.saturating_sub(self.charged[index]);
        self.charged[index] += more;
        metrics.made(more);
        if let Some(admission) = &self.admission {
            admission.charge(more);
        }
        match update {
            Update::Progress(_) | Update::Prompt(_) => {}
            Update::Token(_) => {
                if let Some(last) = self.last[index].replace(Instant::now()) {
                    metrics.between(last.elapsed());
                }
            }
            Update::Finished { finish_reason, usage, timing, .. } => {
                metrics.answer(finish_reason, *usage, *timing);
                self.note.answer(index == 0, finish_reason, *usage, *timing);
                self.app.typical.note(self.begun.elapsed());
                self.ended += 1;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.app.metrics.cancelled.inc_by((self.last.len() - self.ended) as u64);
    }
}

/// How a protocol writes problems.
pub type Shape = fn(&Problem) -> serde_json::Value;

/// The response of a request that has no answer.
pub async fn refused(app: &App, problem: &Problem, shape: Shape) -> Response<Body> {
    let busy = matches!(problem.kind, trine_api::ProblemKind::RateLimit | trine_api::ProblemKind::Unavailable);
    let retry_after = match problem.retry_after {
        None if busy => Some(app.retry_after(app.load().await.as_ref())),
        known => known,
    };
    failed(problem, &shape(problem), retry_after)
}
