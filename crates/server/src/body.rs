//! The bodies of requests.

use crate::App;
use crate::arriving::MadeRoom;
use crate::quota::Admission;
use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_api::{Fields, Problem, ProblemKind};

/// Bytes of a body that waits for no other.
const SMALL: usize = 64 << 10;

/// The room that a body takes, in units of [`SMALL`] bytes.
fn units(bytes: usize) -> u32 {
    if bytes <= SMALL { 0 } else { u32::try_from(bytes.div_ceil(SMALL)).unwrap_or(u32::MAX) }
}

/// Room for bodies, in [`units`].
pub struct Bodies {
    units: usize,
    /// Of those that have come: eight of the largest.
    read: Arc<Semaphore>,
    /// Of those that become requests, which takes many times their size: one of the largest.
    prepared: Arc<Semaphore>,
}

impl Bodies {
    pub fn new(max_body: usize) -> Bodies {
        let one = units(max_body) as usize;
        Bodies { units: 8 * one, read: Arc::new(Semaphore::new(8 * one)), prepared: Arc::new(Semaphore::new(one)) }
    }

    /// Bytes of large bodies that have come and are no requests yet.
    pub fn bytes(&self) -> usize {
        SMALL * (self.units - self.read.available_permits())
    }
}

fn invalid(message: String) -> Problem {
    Problem::new(ProblemKind::Invalid, message)
}

/// Why a body did not come.
fn unread(error: axum::Error) -> Problem {
    let error = error.into_inner();
    match error.is::<MadeRoom>() {
        true => Problem::new(ProblemKind::Timeout, error.to_string()),
        false => invalid(format!("the body cannot be read: {error}")),
    }
}

fn busy() -> Problem {
    Problem::new(ProblemKind::Unavailable, "too many large requests come at once: try again later")
}

/// Reads a body as JSON, within the limits of size and time, and makes something of it on a thread that may take its time. A large body has
/// its room until that is made, and a request counts as one of its key until then, even if its client has left.
pub async fn read<T: Send + 'static>(
    app: &Arc<App>,
    request: Request,
    make: impl FnOnce(&App, Fields) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let patience = app.options.read_timeout;
    let admission = Admission::of(&request);
    let late =
        |_| Problem::new(ProblemKind::Timeout, format!("expected the body within {} seconds", patience.as_secs_f64()));
    let (bytes, room) = tokio::time::timeout(patience, bytes(app, request)).await.map_err(late)??;
    let waiting = app.bodies.prepared.clone().acquire_many_owned(units(bytes.len()));
    let turn = tokio::time::timeout(patience, waiting).await.map_err(|_| busy())?;
    let of = app.clone();
    blocking(move || {
        let _held = (turn, admission);
        let body = serde_json::from_slice(&bytes).map_err(|error| invalid(no_json(&error.to_string())))?;
        drop((bytes, room));
        make(&of, Fields::new(body)?)
    })
    .await
}

/// Why a body is not read. A number beyond float64 is JSON all the same.
fn no_json(error: &str) -> String {
    match error.strip_prefix("number out of range") {
        Some(place) => format!("the body has a number beyond float64{place}"),
        None => format!("the body is no JSON: {error}"),
    }
}

/// Does what takes its time on a thread for that.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let failed = |_| Problem::new(ProblemKind::Server, "the request failed");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// The bytes of a body, and their room, which grows as they come: nobody waits for who sends nothing.
async fn bytes(app: &App, request: Request) -> Result<(Vec<u8>, OwnedSemaphorePermit), Problem> {
    let headers = request.headers();
    // A client may send JSON under any name, or none; what is compressed is not unpacked.
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(invalid(format!("expected a body without a content-encoding, found {encoding:?}")));
    }
    let most = app.options.max_body;
    let too_large = || Problem::new(ProblemKind::TooLarge, format!("expected a body of at most {most} bytes"));
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let more = |units| app.bodies.read.clone().try_acquire_many_owned(units).map_err(|_| busy());
    let (mut bytes, mut room) = (Vec::new(), more(0)?);
    let mut parts = request.into_body().into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(unread)?;
        if bytes.len() + part.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
        room.merge(more(units(bytes.len()) - room.num_permits() as u32)?);
    }
    Ok((bytes, room))
}
