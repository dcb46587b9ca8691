//! `trine serve`: embeddings of many clients at once.
#![cfg(unix)]

mod common;

use common::server::{PATIENCE, Server};
use common::trine_with;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PATH: &str = "/v1/embeddings";
const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/encoders/bert");

fn ask(input: impl Into<Value>) -> Value {
    json!({"input": input.into()})
}

fn vectors(server: &Server, input: impl Into<Value>) -> Vec<Value> {
    let answer = server.post(PATH, &ask(input));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].as_array().unwrap().iter().map(|entry| entry["embedding"].clone()).collect()
}

/// As many texts as a request may have, each as long as the model takes it.
fn long() -> Value {
    (0..2048).map(|i| Value::from(vec![5 + i % 7; 64])).collect()
}

/// Asks for those in the background, and waits until they run.
fn begin<'a, 'b>(
    scope: &'a std::thread::Scope<'a, 'b>,
    server: &'a Server,
) -> std::thread::ScopedJoinHandle<'a, Vec<Value>> {
    let asked = scope.spawn(|| vectors(server, long()));
    server.wait_for("trine_embedding_requests_running", 1.0);
    asked
}

/// A connection that has asked for those, when they run.
fn connect(server: &Server) -> TcpStream {
    let body = ask(long()).to_string();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = server.connect();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    server.wait_for("trine_embedding_requests_running", 1.0);
    stream
}

#[test]
fn clients_at_once_share_a_pass_and_get_the_bits_of_texts_alone() {
    let texts: Vec<String> =
        (0..64).map(|i| ["a cat", "the dog ran", "on a mat"][i % 3].repeat(1 + i / 3 % 2)).collect();
    let args: Vec<&str> = ["embed", ENCODER].into_iter().chain(texts.iter().map(String::as_str)).collect();
    let alone: Vec<Value> = trine_with(&args).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The last text makes the pass full: none waits for a minute.
    let server = Server::start(&["--embedding-wait", "60000", "--batch", "4096", ENCODER]);
    std::thread::scope(|scope| {
        for (texts, alone) in texts.chunks(8).zip(alone.chunks(8)) {
            let server = &server;
            scope.spawn(move || assert_eq!(vectors(server, texts), alone));
        }
        // What one asks in vain is no other's affair.
        let wrong = server.post(PATH, &ask(vec!["a cat", &"cat ".repeat(99)]));
        assert!(wrong.status == 400 && wrong.text.contains("input[1]: "), "{}", wrong.text);
    });
    let metrics = ["passes_total", "texts_total", "requests_running", "requests_waiting"];
    assert_eq!(metrics.map(|name| server.metric(&format!("trine_embedding_{name}"))), [1.0, 64.0, 0.0, 0.0]);
}

#[test]
fn a_text_waits_for_others_as_long_as_it_may() {
    let server = Server::start(&["--embedding-wait", "300", ENCODER]);
    let begun = Instant::now();
    vectors(&server, "a cat");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PATIENCE / 4, "{took:?}");
}

#[test]
fn a_request_of_many_texts_keeps_no_other_waiting() {
    let server = Server::start(&["--max-queued", "1", ENCODER]);
    let (cat, alone) = (vectors(&server, "a cat"), vectors(&server, vec![vec![5; 64], vec![6; 64]]));
    std::thread::scope(|scope| {
        let many = begin(scope, &server);
        assert_eq!(vectors(&server, "a cat"), cat);
        let done = server.metric("trine_embedding_texts_total");
        assert!(done < 2048.0 && !many.is_finished(), "{done} texts were first");
        // They come back in order.
        let many = many.join().unwrap();
        assert!(many.len() == 2048 && (0..2048).step_by(7).all(|i| many[i..i + 2] == alone));
    });
}

#[test]
fn more_than_may_wait_are_refused_and_who_has_left_waits_no_more() {
    let server = Server::start(&["--max-queued", "0", ENCODER]);
    std::thread::scope(|scope| {
        let many = begin(scope, &server);
        for (path, body) in
            [(PATH, ask("a cat")), ("/api/embed", ask("a cat")), ("/api/embeddings", json!({"prompt": "a cat"}))]
        {
            let refused = server.post(path, &body);
            assert_eq!(refused.status, 429, "{}", refused.text);
            assert!(refused.headers.contains_key("retry-after") && refused.text.contains("requests wait already"));
        }
        many.join().unwrap();
    });
    let one = server.post("/api/embeddings", &json!({"prompt": "a cat"}));
    assert_eq!(vec![one.json()["embedding"].clone()], vectors(&server, "a cat"), "{}", one.text);
    let stream = connect(&server);
    drop(stream);
    server.wait_for("trine_embedding_requests_running", 0.0);
    let done = server.metric("trine_embedding_texts_total");
    assert!(done < 4096.0, "all {done} texts were embedded");
    vectors(&server, "a cat");
}

#[test]
fn embeddings_under_way_are_finished_when_the_server_ends() {
    let server = Server::start(&["--drain-timeout", "100", ENCODER]);
    let mut stream = connect(&server);
    server.signal("-TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"index\":2047"),
        "{}",
        &answer[..answer.len().min(300)]
    );
}

#[test]
fn what_is_about_a_model_that_generates_is_refused_without_one() {
    for option in ["--trim-after", "--self-test-interval"] {
        let ran = trine_with(&["serve", "--port", "0", option, "5", ENCODER]);
        let expected = format!("{option}: expected a model that generates, found one for embeddings alone");
        assert!(ran.code == 2 && ran.err.contains(&expected), "{}", ran.err);
    }
    let server = Server::start(&[ENCODER]);
    for (path, body) in [("/admin/trim", json!({})), ("/tokenize", json!({"content": "a"}))] {
        let refused = server.post(path, &body);
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
        let expected =
            "a model for embeddings alone: start it with one that answers, and name this one by --embedding-model";
        assert!(refused.text.contains(expected), "{path}: {}", refused.text);
    }
}
