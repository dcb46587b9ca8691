//! Values of options that nobody should read over a shoulder or in a log.

/// Options that are secret as a whole.
pub const KEYS: [&str; 2] = ["api-key", "key"];

/// How keys begin.
const KEY_BEGINNINGS: [&str; 2] = ["sk-", "hf_"];

/// Options whose addresses may have a password, or a token in their path.
pub const URLS: [&str; 3] = ["otlp-endpoint", "webhook", "url"];

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

/// A text without the keys in it, wherever they were given: words that begin as those of `trine key new` or of Hugging Face do.
pub fn without_keys(text: &str) -> String {
    /// Letters of a key at least.
    const LEAST: usize = 20;
    let is_key = |word: &str| KEY_BEGINNINGS.iter().any(|begin| word.starts_with(begin)) && word.len() >= LEAST;
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !of_word(c)).unwrap_or(rest.len()));
        let (between, after) = after.split_at(after.find(of_word).unwrap_or(after.len()));
        shown.push_str(if is_key(word) { "***" } else { word });
        shown.push_str(between);
        rest = after;
    }
    shown
}

/// The error of an option, without what is secret of its value.
pub fn without_secret(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let name = match error.get(ContextKind::InvalidArg) {
        // A variable, a flag, or a key of a file.
        Some(ContextValue::String(name)) => name.to_lowercase().replace('_', "-"),
        _ => String::new(),
    };
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && URLS.iter().any(|url| name.contains(url))
    {
        let value = ContextValue::String(public(value));
        error.insert(ContextKind::InvalidValue, value);
    }
    let texts = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(without_keys(text)))),
        _ => None,
    });
    for (kind, text) in texts.collect::<Vec<_>>() {
        error.insert(kind, text);
    }
    error
}

/// The address of an HTTP server.
pub fn http_address(text: &str) -> Result<String, &'static str> {
    let expected = "expected an address that begins with http:// or https://, such as https://example.org/alerts";
    let uri: ureq::http::Uri = text.parse().map_err(|_| expected)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none_or(str::is_empty) {
        return Err(expected);
    }
    let after_host = uri
        .authority()
        .map_or("", |authority| authority.as_str().rsplit_once(uri.host().unwrap_or("")).map_or("", |(_, rest)| rest));
    match after_host.strip_prefix(':').map(str::parse::<u16>) {
        Some(Err(_) | Ok(0)) => Err("expected a port from 1 to 65535"),
        _ => Ok(text.to_owned()),
    }
}

/// The address of a server, to which paths are added.
pub fn server_address(text: &str) -> Result<String, &'static str> {
    match text.contains(['?', '#']) {
        true => Err("expected the address of a server, without ? and #"),
        false => http_address(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{http_address, public, server_address, without_keys};

    #[test]
    fn keys_are_shown_nowhere() {
        for (text, shown) in [
            ("--host sk-aB3_d-fghijklmnopqrst: no such host", "--host ***: no such host"),
            ("'hf_abcdefghijklmnopqrst'", "'***'"),
            ("sk-short and desk-abcdefghijklmnopqrst, é", "sk-short and desk-abcdefghijklmnopqrst, é"),
            (" x", " x"),
        ] {
            assert_eq!(without_keys(text), shown, "{text}");
        }
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for (text, is_address) in [
            ("https://hooks.test/services/x", true),
            ("http://127.0.0.1:8080", true),
            ("hooks.test", false),
            ("ftp://hooks.test", false),
            ("http://", false),
            ("http:///x", false),
            ("http://127.0.0.1:0/", false),
            ("http://127.0.0.1:99999/", false),
            ("http://[::1]:8080/x", true),
            ("", false),
        ] {
            assert_eq!(http_address(text).is_ok(), is_address, "{text}");
        }
        assert!(server_address("http://127.0.0.1:8080/?key=x").is_err() && server_address("http://a.test/#x").is_err());
        assert!(server_address("http://a.test:80/v1").is_ok());
    }

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
