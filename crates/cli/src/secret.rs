//! Values of options that nobody should read over a shoulder or in a log.

/// Options that are secret as a whole.
pub const KEYS: [&str; 2] = ["api-key", "key"];

/// Options whose addresses may have a password, or a token in their path.
pub const URLS: [&str; 2] = ["otlp-endpoint", "webhook"];

/// An address with its scheme and host alone.
pub fn public(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    // A password may have any sign, and so may a path.
    if user.contains(['/', '?', '#']) {
        return format!("{scheme}***");
    }
    let user = if rest.contains('@') { "***@" } else { "" };
    let host = place.split(['/', '?', '#']).next().unwrap_or_default();
    let more = if place[host.len()..].trim_matches('/').is_empty() { "" } else { "/***" };
    format!("{scheme}{user}{host}{more}")
}

/// The error of an option, without what is secret of its value.
pub fn without_secret(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else { return error };
    // A variable, a flag, or a key of a file.
    let name = name.to_lowercase().replace('_', "-");
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && URLS.iter().any(|url| name.contains(url))
    {
        let value = ContextValue::String(public(value));
        error.insert(ContextKind::InvalidValue, value);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::public;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("localhost:4318/", "localhost:4318"),
            ("http://user:hunter2@a.test:4318/v1", "http://***@a.test:4318/***"),
            ("user:hunter2@a.test", "***@a.test"),
            ("https://user:hun/ter2@a.test", "https://***"),
            ("https://user:hun@ter2@a.test", "https://***@a.test"),
            ("https://a.test?hunter2", "https://a.test/***"),
            ("https://hooks.test/services/hunter2", "https://hooks.test/***"),
            ("https://hooks.test/hunter@2", "https://***"),
            ("", ""),
        ] {
            assert_eq!(public(url), shown, "{url}");
        }
    }
}
