//! Spans of `trine serve`, as a collector of OpenTelemetry gets them.
#![cfg(unix)]

mod common;

use common::server::{PATIENCE, Server};
use common::trine_with;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// A collector, which answers with these statuses, and then ends: its address, and the bodies that it gets.
fn collector(statuses: impl Iterator<Item = &'static str> + Send + 'static) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for (status, stream) in statuses.zip(listener.incoming().map_while(Result::ok)) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                reader.read_until(b'\n', &mut head).unwrap();
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/json"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let _ = write!(&stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}");
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

/// The value of an attribute of a span.
fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"])
}

#[test]
fn spans_say_what_was_done_for_whom_and_when() {
    let (url, bodies) = collector(std::iter::repeat("200 OK"));
    let mut server = Server::start(&["--otlp-endpoint", &url]);
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let send = |path: &str, flags: &str, body: &Value| {
        let request =
            ureq::post(format!("{}{path}", server.url)).header("traceparent", format!("00-{trace}-{parent}-{flags}"));
        let request = request.header("tracestate", "rojo=00f067aa0ba902b7").header("tracestate", "congo=t61");
        let mut answer = request.header("x-request-id", "mine").send(body.to_string()).unwrap();
        answer.body_mut().read_to_string().unwrap()
    };
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let chat = json!({"messages": messages, "max_tokens": 5, "n": 2, "ignore_eos": true, "stream": true});
    send("/v1/chat/completions", "01", &chat);
    // Nobody keeps the trace of this one.
    send("/v1/completions", "00", &json!({"prompt": "x", "max_tokens": 1}));
    server.get("/nowhere");
    // What waits is sent before the program ends.
    server.signal("-TERM");
    assert_eq!(server.wait(), 0);

    let mut spans = Vec::new();
    while spans.len() < 2 {
        let body = bodies.recv_timeout(PATIENCE).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(attribute(&resource["resource"], "service.name"), &json!({"stringValue": "trine"}));
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    assert_eq!((spans.len(), bodies.try_recv().is_err()), (2, true), "{spans:?}");
    let [chat, nowhere] = &spans[..] else { unreachable!() };
    assert_eq!((&chat["name"], &chat["kind"]), (&json!("POST /v1/chat/completions"), &json!(2)));
    assert_eq!((&chat["traceId"], &chat["parentSpanId"]), (&json!(trace), &json!(parent)));
    assert_eq!((&chat["traceState"], &nowhere["traceState"]), (&json!("rojo=00f067aa0ba902b7,congo=t61"), &json!("")));
    let id = chat["spanId"].as_str().unwrap();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let time = |key: &str| chat[key].as_str().unwrap().parse::<u64>().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    assert!(time("startTimeUnixNano") < time("endTimeUnixNano") && time("endTimeUnixNano") < now);
    for (key, value) in [
        ("http.request.method", json!({"stringValue": "POST"})),
        ("http.route", json!({"stringValue": "/v1/chat/completions"})),
        ("url.path", json!({"stringValue": "/v1/chat/completions"})),
        ("url.scheme", json!({"stringValue": "http"})),
        ("http.response.status_code", json!({"intValue": "200"})),
        ("http.response.header.x-request-id", json!({"arrayValue": {"values": [{"stringValue": "mine"}]}})),
        ("gen_ai.operation.name", json!({"stringValue": "chat"})),
        ("gen_ai.request.model", json!({"stringValue": "embedded:stories"})),
        ("gen_ai.usage.output_tokens", json!({"intValue": "10"})),
        (
            "gen_ai.response.finish_reasons",
            json!({"arrayValue": {"values": [{"stringValue": "length"}, {"stringValue": "length"}]}}),
        ),
        ("error.type", Value::Null),
    ] {
        assert_eq!(attribute(chat, key), &value, "{key}");
    }
    let seconds = |key: &str| attribute(chat, key)["doubleValue"].as_f64().unwrap();
    assert!(seconds("gen_ai.latency.time_in_queue") <= seconds("gen_ai.latency.time_to_first_token"));
    // A path that is not there has no pattern.
    assert_eq!((&nowhere["name"], attribute(nowhere, "http.route")), (&json!("GET"), &Value::Null));
    assert_eq!((&nowhere["parentSpanId"], &nowhere["status"]), (&json!(""), &json!({})));
}

#[test]
fn an_outage_of_the_collector_is_told_once() {
    let statuses = ["302 Found\r\nlocation: /", "503 Service Unavailable", "200 OK"];
    let (url, _bodies) = collector(statuses.into_iter());
    let mut server = Server::start(&["--otlp-endpoint", &url]);
    assert_eq!(server.metric("trine_otlp_dropped_spans_total"), 0.0);
    let told = "warning: spans are lost: ";
    assert_eq!(server.wait_for_line("spans"), format!("{told}{url}/v1/traces: status 302 Found"));
    server.wait_for("trine_otlp_dropped_spans_total", 1.0);
    while server.metric("trine_otlp_dropped_spans_total") < 2.0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.wait_for_line("spans"), "note: the collector takes spans again");
    server.get("/health");
    // Nobody listens any more, and the end says so, too.
    server.signal("-TERM");
    assert!(server.wait_for_line("spans").starts_with(&format!("{told}{url}/v1/traces: ")));
    assert_eq!(server.wait(), 0);
}

#[test]
fn what_requests_to_a_collector_do_not_have_is_refused() {
    for url in ["http://", "http:///x", "http://u:p@h", "http://h/x?y", "http://h/x#z"] {
        let ran = trine_with(&["serve", "--otlp-endpoint", url]);
        assert!(ran.code == 2 && ran.err.contains("without user, query and fragment"), "{url}: {}", ran.err);
    }
}
