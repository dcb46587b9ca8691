//! Bodies of requests as they arrive.

use crate::places::{Busy, PAUSE};
use axum::BoxError;
use axum::body::HttpBody;
use axum::http::{Request, header};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What has to come of a body within a [`PAUSE`], or its connection makes room for another.
const PACE: usize = 1 << 10;

/// What is still read of a body that nobody wants: a client that sends all of it before it reads the answer would else find its connection
/// broken.
const UNWANTED: usize = 256 << 20;
const UNWANTED_TIME: Duration = Duration::from_secs(30);

/// A body whose client has to send something, if others wait for its connection. What is left of it is read when it is dropped.
pub struct Arriving {
    /// None once it is dropped.
    body: Option<Incoming>,
    busy: Arc<Busy>,
    /// What tells that the connection has to make room, while the client is slow.
    leave: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What has come meanwhile.
    came: usize,
    /// Whether the client sends nothing before it is told to.
    is_held_back: bool,
}

impl Arriving {
    /// The body of a request.
    pub fn of(request: Request<Incoming>, busy: Arc<Busy>) -> Request<Arriving> {
        let is_held_back = request.headers().contains_key(header::EXPECT);
        request.map(|body| Arriving { body: Some(body), busy, leave: None, came: 0, is_held_back })
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Arriving { body: Some(body), busy, leave, came, .. } = &mut *self else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => {
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len);
                *came += bytes.unwrap_or(PACE);
                if *came >= PACE && leave.take().is_some() {
                    busy.go_on();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Poll::Pending => {
                let leave = leave.get_or_insert_with(|| {
                    *came = 0;
                    Box::pin(busy.wait())
                });
                let told = leave.as_mut().poll(context);
                told.map(|()| {
                    self.body = None;
                    Some(Err(MadeRoom.into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.leave.take().is_some() {
            self.busy.go_on();
        }
        let left = self.body.take().filter(|body| !body.is_end_stream() && !self.is_held_back);
        if let (Some(body), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) {
            let leaves = self.busy.place().told_to_leave();
            runtime.spawn(async move {
                tokio::select! {
                    _ = tokio::time::timeout(UNWANTED_TIME, forget(body)) => {}
                    () = leaves => {}
                }
            });
        }
    }
}

/// Reads what comes of a body without a pause.
async fn forget(body: Incoming) {
    let (mut body, mut bytes) = (std::pin::pin!(body), 0);
    while bytes < UNWANTED {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, frame).await else { return };
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// A client sent too little of a body, and others waited for its connection.
#[derive(Debug)]
pub struct MadeRoom;

impl fmt::Display for MadeRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "less than {PACE} bytes of the body came in {} s, and all connections are taken", PAUSE.as_secs())
    }
}

impl std::error::Error for MadeRoom {}
