//! The web page: files that are part of the program.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Names and contents of the files.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What the page may do: run its own scripts and ask this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file of a path, if there is one; `/` is the page.
fn find(path: &str) -> Option<&'static (&'static str, &'static [u8])> {
    let name = match path {
        "/" => "index.html",
        other => other.strip_prefix('/')?,
    };
    FILES.iter().find(|(known, _)| *known == name)
}

/// Whether a path is one of the page, which everybody may see.
pub fn is_file(path: &str) -> bool {
    find(path).is_some()
}

/// The response to a request for a file of the page.
pub fn file(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let &(name, content) = find(path)?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(content) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    for (name, value) in [
        (header::CONTENT_TYPE, kind(name)),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::ETAG, HeaderValue::try_from(tag).expect("it is hexadecimal"));
    Some(response)
}

/// The type of a file, by its name.
fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_and_the_page_is_there() {
        let plain: Vec<_> = FILES.iter().filter(|(name, _)| kind(name).starts_with("text/plain")).collect();
        assert!(plain.iter().all(|(name, _)| name.ends_with("LICENSE")), "{plain:?}");
        assert!(file("/", &HeaderMap::new()).is_some() && file("/../Cargo.toml", &HeaderMap::new()).is_none());
    }
}
