//! What is noted of every request.

use crate::App;
use crate::otlp::{Note, Span, TraceContext};
use crate::proxy;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Response};
use axum::middleware::Next;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Whom a request is for: those who wait are served alike.
#[derive(Clone, Debug, Default)]
pub struct Client(pub String);

/// The address that a connection came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<IpAddr>);

/// The header by which a request is found in logs.
const REQUEST_ID: &str = "x-request-id";

/// An id of a client's that logs may have.
fn given_id(request: &Request) -> Option<HeaderValue> {
    let id = request.headers().get(REQUEST_ID)?;
    let fits = |text: &str| text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    id.to_str().is_ok_and(fits).then(|| id.clone())
}

/// The trace that a request is of.
fn context(request: &Request) -> TraceContext {
    let parent = request.headers().get("traceparent").and_then(|header| header.to_str().ok());
    // It may have several lines.
    let state = request.headers().get_all("tracestate").iter().filter_map(|line| line.to_str().ok());
    TraceContext::of(parent, &state.collect::<Vec<_>>().join(","))
}

/// Counts a request, logs it without what it says, and gives it an id.
pub async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let begun = Instant::now();
    let id = given_id(&request)
        .unwrap_or_else(|| HeaderValue::try_from(trine_api::openai::new_id("req_")).expect("it is letters and digits"));
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let method = request.method().clone();
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
    let address =
        proxy::client(&app.options.trusted_proxies, peer, request.headers()).map(|address| address.to_string());
    if let Some(address) = address.clone() {
        request.extensions_mut().insert(Client(address));
    }
    // Most servers neither log requests nor export them.
    let told = app.exporter.is_some() || tracing::enabled!(tracing::Level::INFO);
    let told = told.then(|| (context(&request), request.uri().path().to_owned()));
    app.metrics.active.inc();
    let mut active = Active { app: app.clone(), span: None };
    let mut response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    app.metrics.request(route, status, took);
    let text = id.to_str().unwrap_or_default();
    if let Some((context, _)) = &told {
        tracing::info!(id = text, client = address, trace = context.trace, %method, route, status, ?took, "request");
    }
    if app.exporter.is_some()
        && let Some((context, path)) = told.filter(|(context, _)| context.sampled)
    {
        let route = matched.as_ref().map(|path| path.as_str().to_owned());
        let (method, request_id) = (method.to_string(), text.to_owned());
        let scheme = if app.tls.is_some() { "https" } else { "http" };
        let ended = SystemTime::now();
        let begun = ended - took;
        active.span = Some(Span { context, method, route, path, scheme, status, request_id, begun, ended, note });
    }
    response.headers_mut().insert(REQUEST_ID, id);
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    // A stream is active until its body ends.
    response.map(|body| {
        let parts = futures_util::StreamExt::map(body.into_data_stream(), move |part| {
            let _ = &active;
            part
        });
        Body::from_stream(parts)
    })
}

/// Counts a request as active as long as it lives.
struct Active {
    app: Arc<App>,
    /// What is told of it when it is over.
    span: Option<Span>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.app.metrics.active.dec();
        if let (Some(exporter), Some(span)) = (&self.app.exporter, self.span.take()) {
            exporter.send(Span { ended: SystemTime::now(), ..span });
        }
    }
}
