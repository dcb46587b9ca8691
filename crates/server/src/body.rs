//! The bodies of requests.

use crate::App;
use axum::extract::Request;
use axum::http::header;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_api::{Fields, Problem, ProblemKind};

/// Bytes of a body that waits for no other.
const SMALL: u64 = 64 << 10;

/// Room for a body, in units of [`SMALL`] bytes.
async fn room(app: &App, size: u64) -> Result<OwnedSemaphorePermit, Problem> {
    let units = u32::try_from(size.div_ceil(SMALL)).unwrap_or(u32::MAX);
    let waiting = app.bodies.clone().acquire_many_owned(units);
    let busy = || Problem::new(ProblemKind::Unavailable, "too many large requests come at once: try again later");
    tokio::time::timeout(app.options.read_timeout, waiting).await.map_err(|_| busy())?.map_err(|_| busy())
}

/// Units of the bodies that are read at once.
pub fn rooms(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(8 * most.div_ceil(SMALL as usize).max(1)))
}

impl App {
    /// Bytes of large bodies that are being read.
    pub(crate) fn body_bytes(&self) -> u64 {
        let all = rooms(self.options.max_body).available_permits();
        SMALL * (all - self.bodies.available_permits()) as u64
    }
}

/// Reads a body as JSON, within the limits of size and time.
pub async fn read_body(app: &App, request: Request) -> Result<Fields, Problem> {
    let invalid = |message: String| Problem::new(ProblemKind::Invalid, message);
    let headers = request.headers();
    // A client may send JSON under any name, or none; what is compressed is not unpacked.
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(invalid(format!("expected a body without a content-encoding, found {encoding:?}")));
    }
    let most = app.options.max_body;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || Problem::new(ProblemKind::TooLarge, format!("expected a body of at most {most} bytes"));
    if length.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    // Bodies that are large wait until others are read: all together take no more than eight of the largest.
    let size = length.unwrap_or(most as u64).min(most as u64);
    let _room = if size > SMALL { Some(room(app, size).await?) } else { None };
    let reading = axum::body::to_bytes(request.into_body(), most);
    let bytes = match tokio::time::timeout(app.options.read_timeout, reading).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) if length.is_none() => return Err(too_large()),
        Ok(Err(error)) => return Err(invalid(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let seconds = app.options.read_timeout.as_secs_f64();
            return Err(invalid(format!("expected the body within {seconds} seconds")));
        }
    };
    let body: Value =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("the body is no JSON: {error}")))?;
    Fields::new(body)
}
