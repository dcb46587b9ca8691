//! Who may ask what.

use crate::generate::refused;
use crate::keys::Key;
use crate::page;
use crate::proxy;
use crate::quota::Admission;
use crate::routes::shape_of;
use crate::trace::{Client, Peer};
use crate::{App, Listen};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use axum::middleware::Next;
use std::net::IpAddr;
use std::sync::Arc;
use trine_api::{Problem, ProblemKind};

/// Paths that say no more than that the server is there.
const OPEN: &[&str] = &["/health", "/ready"];

/// Lets those requests through that have a key, where keys are asked for, and none that a browser sends for another site.
pub async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    match admit(&app, &mut request) {
        // It counts as one of its key until it is answered; streams keep it for longer.
        Ok(_admission) => next.run(request).await,
        Err(problem) => {
            let mut response = refused(&app, &problem, shape_of(request.uri().path()));
            if problem.kind == ProblemKind::Authentication {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Notes whose request it is, and counts it, if it may take the time of the server.
fn admit(app: &App, request: &mut Request) -> Result<Option<Arc<Admission>>, Problem> {
    let Some(key) = allowed(app, request)? else { return Ok(None) };
    request.extensions_mut().insert(Client(key.name.clone()));
    if *request.method() != Method::POST || is_for_admins(request.uri().path()) {
        return Ok(None);
    }
    let admission = Arc::new(app.quotas.admit(&key)?);
    request.extensions_mut().insert(admission.clone());
    Ok(Some(admission))
}

fn allowed(app: &App, request: &Request) -> Result<Option<Arc<Key>>, Problem> {
    let path = request.uri().path();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page = looks && page::is_file(path);
    if !is_page {
        check_origin(app, request)?;
    }
    let Some(keys) = &app.keys else {
        let listens = matches!(&app.options.listen, Listen::Tcp(address) if !address.ip().to_canonical().is_loopback());
        // Behind a proxy, others ask.
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
        let client = proxy::client(&app.options.trusted_proxies, peer, request.headers());
        let is_open = listens || client.is_some_and(|client| !client.to_canonical().is_loopback());
        if is_for_admins(path) && is_open {
            let message = "without keys nobody may ask that of a server that others reach: --keys names a file of keys";
            return Err(Problem::new(ProblemKind::Permission, message));
        }
        return Ok(None);
    };
    if OPEN.contains(&path) && request.uri().query().is_none() || is_page {
        return Ok(None);
    }
    let problem = |kind, message: &str| Problem { code: Some("invalid_api_key"), ..Problem::new(kind, message) };
    let Some(given) = given(request.headers()) else {
        let message = "expected a key: Authorization: Bearer KEY, or x-api-key: KEY";
        return Err(problem(ProblemKind::Authentication, message));
    };
    let key = keys.find(given).ok_or_else(|| problem(ProblemKind::Authentication, "the key is not known"))?;
    if is_for_admins(path) && !key.admin {
        return Err(Problem::new(ProblemKind::Permission, format!("the key `{}` is not one of an admin", key.name)));
    }
    Ok(Some(key))
}

/// Paths that change or tell what concerns all clients.
fn is_for_admins(path: &str) -> bool {
    ["/admin/", "/debug/"].iter().any(|prefix| path.starts_with(prefix))
}

/// The key of a request.
fn given(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    };
    bearer().or_else(|| headers.get("x-api-key")?.to_str().ok())
}

/// A page of another site must not ask in the name of whoever looks at it, nor by a name that it gives this machine.
fn check_origin(app: &App, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::new(ProblemKind::Invalid, "expected one host, found several"));
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // A URI with a host has the last word.
    let host = request.uri().authority().map_or(named, |authority| authority.as_str());
    let forbidden = |message: String| Problem::new(ProblemKind::Permission, message);
    if let Some(origin) = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) {
        let own = origin.split_once("://").is_some_and(|(_, rest)| rest == host);
        let known = app.options.cors_origins.iter().any(|known| known == "*" || known == origin);
        if !own && !known {
            return Err(forbidden(format!("pages of {origin} may not ask: --cors-origin lets them")));
        }
    }
    if app.keys.is_none() && is_local(&app.options.listen) && !is_this_machine(host) {
        return Err(forbidden(format!("expected a name of this machine as the host, found {host:?}")));
    }
    Ok(())
}

/// Whether only browsers of this machine reach the server.
fn is_local(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.ip().to_canonical().is_loopback())
}

/// Whether a host is this machine: under other names a site could reach it by a name server of its own.
fn is_this_machine(host: &str) -> bool {
    // A name may end with the dot of the root; what is before an @ is no name.
    let host = host.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for (host, own) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("127.1.2.3:80", true),
            ("[::1]:8080", true),
            ("trine.localhost", true),
            ("LOCALHOST:8080", true),
            ("localhost.", true),
            ("localhost.:8080", true),
            ("127.0.0.1:80@evil.example", false),
            ("", true),
            ("evil.example", false),
            ("localhost.evil.example:8080", false),
            ("10.0.0.1", false),
            ("[2001:db8::1]", false),
        ] {
            assert_eq!(is_this_machine(host), own, "{host}");
        }
    }
}
