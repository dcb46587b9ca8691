//! Problems as responses.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use trine_api::Problem;

/// A response whose body is JSON.
pub fn json(status: u16, body: &Value) -> Response<Body> {
    json_text(status, body.to_string())
}

/// A response whose body is JSON that is written already.
pub fn json_text(status: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The response to a request without an answer, which may be repeated after so many seconds.
pub fn failed(problem: &Problem, body: &Value, retry_after: Option<u64>) -> Response<Body> {
    let mut response = json(problem.kind.status(), body);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
