//! A request on a timer whose answer must stay the same.

use crate::App;
use crate::app::Generator;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use trine_engine::{Error, FinishReason, PrefixCache, Request, Sampling, Scheduling, Update};

/// How long an answer may take, of which the engine says nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// What self-tests found.
#[derive(Debug, Default)]
pub struct SelfTest {
    /// The tokens of the first.
    expected: Mutex<Option<Vec<u32>>>,
    failed: AtomicBool,
}

impl SelfTest {
    /// Whether the last one failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Compares tokens with those of the first test.
    ///
    /// # Errors
    /// When they differ, or there are none.
    fn note(&self, tokens: Result<Vec<u32>, String>) -> Result<(), String> {
        let compared = tokens.and_then(|tokens| {
            let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            match expected.get_or_insert_with(|| tokens.clone()) {
                expected if *expected == tokens => Ok(()),
                expected => Err(format!("expected the tokens {expected:?}, found {tokens:?}")),
            }
        });
        self.failed.store(compared.is_err(), Relaxed);
        compared
    }
}

/// Tests the server that often until it ends.
pub async fn repeat(app: &App, interval: Duration) {
    let Some(generator) = &app.generator else { return std::future::pending().await };
    let steps = || app.load().map(|load| load.steps);
    loop {
        let before = steps();
        let tokens = match tokio::time::timeout(PATIENCE, answer(generator)).await {
            Ok(tokens) => tokens,
            // An engine that goes on has too much to do.
            Err(_) if steps() > before => Ok(None),
            Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
        };
        if let Some(tokens) = tokens.transpose() {
            app.metrics.self_tests.inc();
            if let Err(problem) = app.self_test.note(tokens) {
                app.metrics.self_test_failures.inc();
                tracing::error!("the self-test failed: {problem}");
            }
        }
        tokio::time::sleep(interval).await;
    }
}

/// The tokens of a fixed request, computed anew; `None` when the server ends, which proves nothing.
async fn answer(generator: &Generator) -> Result<Option<Vec<u32>>, String> {
    let sampling = Sampling { max_tokens: Some(8), ignore_eos: true, ..Sampling::greedy() };
    let request = Request {
        scheduling: Scheduling {
            client: "self-test".to_owned(),
            priority: i32::MIN,
            probe: true,
            ..Scheduling::default()
        },
        prefix_cache: PrefixCache::Off,
        ..Request::new("Once upon a time", sampling)
    };
    let mut generation = match generator.handle.submit_async(request).await {
        Ok(generation) => generation,
        Err(Error::ShutDown) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut tokens = Vec::new();
    while let Some(update) = generation.next_async().await {
        match update {
            Update::Token(token) => tokens.push(token.id),
            Update::Finished { finish_reason: FinishReason::Failed(error), .. } => return Err(error.to_string()),
            Update::Finished { finish_reason: FinishReason::Cancelled, .. } => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServerOptions, health};
    use axum::extract::{RawQuery, State};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_server_whose_answers_change_is_not_healthy() {
        let app = Arc::new(App::new(ServerOptions::default(), None, None));
        for (tokens, is_healthy) in [
            (Ok(vec![1, 2]), true),
            (Ok(vec![1, 2]), true),
            (Ok(vec![1, 3]), false),
            (Ok(vec![1, 2]), true),
            (Err("no answer".to_owned()), false),
            (Ok(vec![]), false),
        ] {
            assert_eq!(app.self_test.note(tokens.clone()).is_ok(), is_healthy, "{tokens:?}");
            let health = health::health(State(app.clone()), RawQuery(None)).await.status();
            let ready = health::ready(State(app.clone())).await.status();
            let expected = if is_healthy { 200 } else { 503 };
            assert_eq!([health.as_u16(), ready.as_u16()], [expected; 2], "{tokens:?}");
        }
    }
}
