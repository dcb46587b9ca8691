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
    /// Tokens of the prompt of each.
    pub prompt_tokens: Vec<usize>,
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

/// Answers a request. A problem that is known before the first token is the response's status, unless a stream had to be kept alive until then.
pub async fn answer(app: Arc<App>, answering: Answering) -> Result<Response<Body>, Problem> {
    let Answering { requests, prompt_tokens, writer, stream, constraint, admission, note } = answering;
    let charge = prompt_tokens.iter().sum();
    let (mut updates, prompts) = submit(app.generator()?, requests, prompt_tokens).await?;
    if let Some(admission) = &admission {
        admission.charge(charge);
    }
    let mut watch = Watch::new(&app, prompts, constraint, admission, note);
    if !stream {
        return whole(updates, watch, writer).await;
    }
    // Its head waits for what says how it begins, but no longer than a client may wait for a sign of life.
    let first = tokio::time::timeout(app.options.ping_interval, updates.next()).await.ok().flatten();
    if let Some((index, update)) = &first {
        watch.see(*index, update)?;
    }
    Ok(streamed(&app.options, first, updates, watch, writer))
}

/// Submits the requests; beside the updates, the tokens of each answer's prompt, 0 where it is that of the answer before. Requests before one
/// that fails are cancelled when they are dropped.
async fn submit(
    generator: &Generator,
    requests: Vec<Request>,
    prompt_tokens: Vec<usize>,
) -> Result<(Updates, Vec<usize>), Problem> {
    let (mut generations, mut prompts) = (Vec::new(), Vec::new());
    for (request, tokens) in requests.into_iter().zip(prompt_tokens) {
        generations.extend(generator.handle.submit_all_async(request).await?);
        // The answers of a request have one prompt.
        prompts.push(tokens);
        prompts.resize(generations.len(), 0);
    }
    let indexed = |(index, generation): (usize, Generation)| generation.map(move |update| (index, update)).boxed();
    Ok((generations.into_iter().enumerate().map(indexed).collect(), prompts))
}

async fn whole(mut updates: Updates, mut watch: Watch, mut writer: Box<dyn Writer>) -> Result<Response<Body>, Problem> {
    let mut choices: Vec<Choice> = (0..watch.last.len()).map(Choice::new).collect();
    while let Some((index, update)) = updates.next().await {
        watch.see(index, &update)?;
        choices[index].update(update);
    }
    Ok(json(200, &writer.whole(choices)))
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

/// A response whose events come as the tokens do, after the first update if that has come. The connection that ends cancels its request.
fn streamed(
    options: &ServerOptions,
    first: Option<(usize, Update)>,
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
        let mut events = writer.begin();
        events.extend(first.into_iter().flat_map(|(index, update)| writer.update(index, update)));
        if !send(events).await {
            return;
        }
        loop {
            let next = tokio::select! {
                next = updates.next() => next,
                () = sender.closed() => return,
                () = tokio::time::sleep(ping) => {
                    if send(vec![writer.ping()]).await { continue } else { return }
                }
            };
            let Some((index, update)) = next else { break };
            if let Err(problem) = watch.see(index, &update) {
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
    /// Tokens of the prompt of each, until they are counted.
    prompts: Vec<usize>,
    constraint: Option<&'static str>,
    admission: Option<Arc<Admission>>,
    /// Tokens of each that are counted.
    counted: Vec<usize>,
    note: Note,
}

impl Watch {
    fn new(
        app: &Arc<App>,
        prompts: Vec<usize>,
        constraint: Option<&'static str>,
        admission: Option<Arc<Admission>>,
        note: Note,
    ) -> Watch {
        let (last, counted) = (vec![None; prompts.len()], vec![0; prompts.len()]);
        Watch { app: app.clone(), last, begun: Instant::now(), ended: 0, prompts, constraint, admission, counted, note }
    }

    /// Counts an update.
    ///
    /// # Errors
    /// When it says that the answer failed.
    fn see(&mut self, index: usize, update: &Update) -> Result<(), Problem> {
        let metrics = &self.app.metrics;
        // Each token is counted when it comes: an answer that is cut is not free.
        let (is_read, made) = match update {
            Update::Progress(_) => (false, 0),
            Update::Prompt(_) => (true, 0),
            Update::Token(_) => (true, self.counted[index] + 1),
            Update::Finished { usage, timing, .. } => (timing.started.is_some(), usage.completion_tokens),
        };
        if is_read {
            metrics.read(std::mem::take(&mut self.prompts[index]));
        }
        let more = made.saturating_sub(self.counted[index]);
        self.counted[index] += more;
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
                return failure(finish_reason, self.constraint).map_or(Ok(()), Err);
            }
        }
        Ok(())
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
pub fn refused(app: &App, problem: &Problem, shape: Shape) -> Response<Body> {
    let busy = matches!(problem.kind, trine_api::ProblemKind::RateLimit | trine_api::ProblemKind::Unavailable);
    let retry_after = match problem.retry_after {
        None if busy => Some(app.retry_after(app.load().as_ref())),
        known => known,
    };
    failed(problem, &shape(problem), retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Says nothing but signs of life.
    struct Silent(Framing);

    impl Writer for Silent {
        fn framing(&self) -> Framing {
            self.0
        }

        fn update(&mut self, _: usize, _: Update) -> Vec<Event> {
            Vec::new()
        }

        fn end(&mut self) -> Vec<Event> {
            Vec::new()
        }

        fn fail(&mut self, _: &Problem) -> Vec<Event> {
            Vec::new()
        }

        fn ping(&mut self) -> Event {
            Event { name: None, data: "alive".to_owned() }
        }

        fn whole(&mut self, _: Vec<Choice>) -> serde_json::Value {
            serde_json::Value::Null
        }
    }

    #[tokio::test]
    async fn streams_of_any_framing_tell_that_they_live() {
        for (framing, expected) in [(Framing::ServerSentEvents, "data: alive\n\n"), (Framing::Lines, "alive\n")] {
            let options = ServerOptions { ping_interval: Duration::from_millis(5), ..ServerOptions::default() };
            let app = Arc::new(App::new(options, None, None));
            let updates: Updates = [futures_util::stream::pending().boxed()].into_iter().collect();
            let watch = Watch::new(&app, vec![0], None, None, Note::default());
            let response = streamed(&app.options, None, updates, watch, Box::new(Silent(framing)));
            let mut parts = response.into_body().into_data_stream();
            for _ in 0..3 {
                let part = tokio::time::timeout(Duration::from_secs(20), parts.next()).await;
                assert_eq!(part.unwrap().unwrap().unwrap(), expected);
            }
        }
    }
}
