//! `trine serve`: what clients may take, who may ask, and where it listens.
#![cfg(unix)]

mod common;

use common::server::{PATIENCE, Server};
use common::{run, trine, trine_with};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

const TEXT: &str = "/v1/completions";
const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/encoders/bert");

/// The head of a request whose body is to come.
fn head(path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n")
}

/// Waits until something is so.
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bodies_take_room_as_they_come() {
    let server = Server::start(&["--max-body", "128KiB"]);
    let large = json!({"content": "word ".repeat(20_000)});
    let open = |head: &str, bytes: usize| {
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(" ".repeat(bytes).as_bytes()).unwrap();
        stream
    };
    let held = || server.get("/debug/memory").json()["bodies"].as_u64().unwrap();
    // Nobody waits for who sends nothing.
    let heads = [head(TEXT, "transfer-encoding: chunked\r\n"), head(TEXT, "content-length: 131072\r\n")];
    let idle: Vec<TcpStream> = (0..20).map(|i| open(&heads[i % 2], 0)).collect();
    let begun = Instant::now();
    assert_eq!(server.post("/tokenize", &large).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(50), "it waited for others: {:?}", begun.elapsed());
    assert_eq!(held(), 0);
    drop(idle);
    // Eight of the largest are all there is room for, beside small ones.
    let full: Vec<TcpStream> = (0..8).map(|_| open(&heads[1], 120_000)).collect();
    wait_until("eight bodies", || held() == 8 << 17);
    let refused = server.post("/tokenize", &large);
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("too many large requests") && refused.headers.contains_key("retry-after"));
    assert_eq!(server.post("/tokenize", &json!({"content": "word"})).status, 200);
    drop(full);
    wait_until("no body", || held() == 0);
    assert_eq!(server.post("/tokenize", &large).status, 200);
}

#[test]
fn what_a_body_can_become_is_limited() {
    let server = Server::start(&["--max-body", "64MiB", "--embedding-model", ENCODER, "embedded:stories"]);
    let pieces = server.post("/tokenize", &json!({"content": "Once upon a time", "with_pieces": true})).json();
    let ids = server.post("/tokenize", &json!({"content": "Once upon a time"})).json();
    let pieces = pieces["tokens"].as_array().unwrap();
    let of = |name: &str| pieces.iter().map(|token| token[name].clone()).collect::<Vec<Value>>();
    assert_eq!((ids["tokens"].as_array().unwrap(), of("piece").len()), (&of("id"), 4));
    let long = server.post("/tokenize", &json!({"content": "0".repeat(1_100_000), "with_pieces": true}));
    assert_eq!(long.status, 400);
    assert!(long.text.contains("content: expected a text of at most 1048576 tokens, found 1100"), "{}", long.text);
    // More prompts than the server can answer are refused before the first is read.
    let mut prompts = vec!["a"; 300];
    let long = "word ".repeat(600);
    prompts[0] = &long;
    let many = server.post(TEXT, &json!({"prompt": prompts}));
    assert_eq!(many.status, 400);
    assert!(many.text.contains("prompt: expected at most 264 answers in all, found 300"), "{}", many.text);
    let many = json!({"input": vec!["a"; 2049]});
    for path in ["/v1/embeddings", "/api/embed"] {
        let refused = server.post(path, &many);
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("input: expected at most 2048 texts, found 2049"), "{path}: {}", refused.text);
    }
}

/// A new key with a limit.
fn key(keys: &str, name: &str, limit: &[&str]) -> String {
    let ran = trine_with(&[&["key", "new", name, "--keys", keys], limit].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.trim().to_owned()
}

/// The status and the text of an answer to a request with a key.
fn post(server: &Server, key: &str, path: &str, body: &Value) -> (u16, String) {
    let body = body.to_string();
    let more = format!("authorization: Bearer {key}\r\ncontent-length: {}\r\n", body.len());
    let answer = server.raw(format!("{}{body}", head(path, &more)).as_bytes());
    (answer[9..12].parse().unwrap(), answer)
}

#[test]
fn every_request_counts_for_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml").display().to_string();
    let key = key(&keys, "ann", &["--requests-per-minute", "1"]);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let routes = [
        ("/tokenize", json!({"content": "Hi"})),
        ("/v1/embeddings", json!({"input": "Hi"})),
        ("/api/embed", json!({"input": "Hi"})),
        ("/api/embeddings", json!({"prompt": "Hi"})),
        ("/v1/responses/input_tokens", json!({"input": "Hi"})),
        ("/detokenize", json!({"tokens": [1]})),
        ("/apply-template", json!({"messages": messages})),
        ("/v1/messages/count_tokens", json!({"messages": messages})),
        (TEXT, json!({"prompt": "Hi"})),
    ];
    let server = Server::start(&["--keys", &keys]);
    for (i, (path, body)) in routes.iter().enumerate() {
        let (status, answer) = post(&server, &key, path, body);
        assert_eq!(status, if i == 0 { 200 } else { 429 }, "{path}: {answer}");
    }
}

#[test]
fn all_tokens_are_charged() {
    let one = |tokens: usize| vec![5; tokens];
    let cases = [
        (TEXT, json!({"prompt": [one(40), one(40), one(40)], "max_tokens": 1})),
        ("/v1/embeddings", json!({"input": [one(40), one(40), one(40)]})),
        ("/api/embed", json!({"input": vec!["the cat sat on the mat"; 20]})),
        // A stream that its client cuts.
        (TEXT, json!({"prompt": "Once", "max_tokens": 500, "ignore_eos": true, "stream": true})),
    ];
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml").display().to_string();
    let own = [0, 1, 2, 3].map(|i| key(&keys, &i.to_string(), &["--tokens-per-minute", "100"]));
    let server = Server::start(&["--keys", &keys, "--embedding-model", ENCODER, "embedded:stories"]);
    for ((path, body), key) in cases.into_iter().zip(&own) {
        let (text, streams) = (body.to_string(), body["stream"] == true);
        let mut stream = server.connect();
        let more = format!("authorization: Bearer {key}\r\ncontent-length: {}\r\n", text.len());
        stream.write_all(format!("{}{text}", head(path, &more)).as_bytes()).unwrap();
        let mut answer = vec![0; if streams { 40_000 } else { 12 }];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[..12], b"HTTP/1.1 200", "{path}");
        drop(stream);
        let (status, answer) = post(&server, key, "/tokenize", &json!({"content": "Hi"}));
        assert_eq!(status, 429, "{path}: {answer}");
        assert!(answer.contains("100 tokens per minute"), "{answer}");
    }
}

#[test]
fn options_that_would_open_a_server_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    for (text, message) in [
        ("tls-cert = \"c.pem\"", "--tls-cert is given, and --tls-key is not"),
        ("tls-key = \"c.pem\"", "--tls-key is given, and --tls-cert is not"),
        ("max-body = \"0\"", "expected at least 1 byte"),
        ("alias = \"\"", "a value is required"),
        ("host = \"unix:\"", "--host unix: expected the path of a socket"),
        ("api-key = \"a\\nb\"", "--api-key: expected a key that a header can carry"),
    ] {
        std::fs::write(&config, format!("[serve]\n{text}\n")).unwrap();
        let ran = trine_with(&["serve", "--port", "0", "--config", &config.display().to_string()]);
        assert!(ran.code == 2 && ran.err.contains(message), "{text}: {}", ran.err);
    }
    let names = ["TRINE_API_KEY", "TRINE_KEYS", "TRINE_TLS_CERT", "TRINE_TLS_KEY"];
    let mut command = trine();
    command.envs(names.map(|name| (name, "")));
    let server = Server::start_with(command, &[]);
    for name in names {
        let warning = format!("warning: {name} is empty, which counts as unset: ");
        assert!(server.seen.iter().any(|line| line.starts_with(&warning)), "{name}: {:?}", server.seen);
    }
}

#[test]
fn a_log_of_json_has_what_is_wrong_with_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = |text: &str| {
        let path = folder.path().join(format!("{}.toml", text.len()));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let events = |lines: &str| -> Vec<Value> {
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {lines}"))).collect()
    };
    let (unknown, quick) = (config("[serve]\nprt = 1"), config("[serve]\ndrain-timeout = 1"));
    let json = &["--log-format", "json"][..];
    for (args, variables, expected) in [
        (&["--log-format=json", "--port", "99999"][..], &[][..], "invalid value '99999' for '--port <N>'"),
        (&["--bogus"], &[("TRINE_LOG_FORMAT", "json")], "unexpected argument '--bogus' found"),
        (json, &[("TRINE_CONTEXT", "zz")], "invalid value 'zz' for 'TRINE_CONTEXT'"),
        (&[json, &["--config", "/nosuch"]].concat(), &[], "/nosuch: "),
        (&[json, &["--config", &unknown]].concat(), &[], "expected the name of an option, found `prt`"),
    ] {
        let ran = run(trine().arg("serve").args(args).envs(variables.iter().copied()), "");
        let events = events(&ran.err);
        let message = events[0]["message"].as_str().unwrap();
        assert!(ran.code == 2 && message.contains(expected), "{expected}: {} {}", ran.code, ran.err);
        assert_eq!(events[0]["level"], "ERROR", "{expected}: {}", ran.err);
    }
    let file = config("[serve]\nlog-format = \"json\"");
    for args in [&[json, &["--config", &quick]].concat()[..], &["--config", &file]] {
        let mut command = trine();
        command.env("RUST_LOG", "info,[[[");
        let server = Server::start_with(command, args);
        let events = events(&server.seen.join("\n"));
        for (level, message) in [("WARN", "found `[[[`, which is ignored"), ("INFO", "options from ")] {
            let fits = |event: &Value| event["level"] == level && event["message"].as_str().unwrap().contains(message);
            assert!(events.iter().any(fits), "{message}: {events:?}");
        }
    }
    let text = run(trine().env("TRINE_LOG_FORMAT", "json").args(["serve", "--log-format", "text", "--bogus"]), "");
    assert!(text.err.starts_with("error: unexpected argument"), "{}", text.err);
}

#[test]
fn a_server_removes_no_socket_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trine.sock");
    let host = format!("unix:{}", path.display());
    let mut first = Server::start(&["--host", &host]);
    std::fs::remove_file(&path).unwrap();
    let _second = Server::start(&["--host", &host]);
    first.signal("-TERM");
    assert_eq!(first.wait(), 0);
    assert!(health(&path).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_quiet_server_tells_only_what_fails() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (keys, host) = (at("keys.toml"), format!("unix:{}", at("trine.sock")));
    key(&keys, "ann", &[]);
    let mut command = trine();
    command.args(["serve", "-q", "--keys", &keys, "--host", &host]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until("a socket", || UnixStream::connect(at("trine.sock")).is_ok());
    assert!(health(at("trine.sock").as_ref()).starts_with("HTTP/1.1 200"));
    let signal = |name: &str| {
        let kill = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        std::thread::sleep(Duration::from_millis(500));
    };
    signal("-HUP");
    std::fs::write(&keys, "x").unwrap();
    signal("-HUP");
    signal("-TERM");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(err.starts_with("error: the keys stay as they are: ") && err.lines().count() == 1, "{err}");
}

/// What a server at a UNIX socket says of its health.
fn health(path: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_may_be_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trine.sock");
    let activated = |socket: Stdio| {
        let mut command = trine();
        command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0")]).stdin(socket);
        command
    };
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Server::start_with(activated(OwnedFd::from(listener).into()), &[]);
    assert!(health(&path).starts_with("HTTP/1.1 200"));
    server.signal("-TERM");
    assert_eq!((server.wait(), path.exists()), (0, true), "it is the socket of who made it");
    let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let ran = activated(OwnedFd::from(open).into()).args(["serve"]).output().unwrap();
    let error = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.code() == Some(2) && error.contains("lets other machines connect, and there are no keys"),
        "{error}"
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for none in [Stdio::null(), OwnedFd::from(connected).into()] {
        let ran = activated(none).args(["serve", "--port", "0"]).output().unwrap();
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && error.contains("expected a TCP or UNIX socket that listens"), "{error}");
    }
}

#[test]
fn the_log_has_the_client_behind_a_trusted_proxy_alone() {
    for (args, client) in [(&["--trusted-proxy", "unix,127.0.0.0/8"][..], "198.51.100.1"), (&[][..], "127.0.0.1")] {
        let server = Server::start(&[&["--log-format", "json"], args].concat());
        let head =
            "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 198.51.100.1\r\nconnection: close\r\n\r\n";
        assert!(server.raw(head.as_bytes()).starts_with("HTTP/1.1 200"));
        let event = loop {
            let event: Value = serde_json::from_str(&server.line()).unwrap();
            if event["message"] == "request" {
                break event;
            }
        };
        assert_eq!(event["client"], client, "{event}");
    }
    // Who comes from elsewhere administers nothing.
    let server = Server::start(&["--trusted-proxy", "127.0.0.1"]);
    for (client, status) in [("198.51.100.1", "403"), ("127.0.0.1", "200")] {
        let head = format!(
            "GET /debug/memory HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\r\n"
        );
        let answer = server.raw(head.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{client}: {answer}");
    }
}

#[test]
fn a_server_tests_itself() {
    let server = Server::start(&["--self-test-interval", "1"]);
    wait_until("two self-tests", || server.metric("trine_self_tests_total") >= 2.0);
    assert_eq!(server.metric("trine_self_test_failures_total"), 0.0);
    assert!(server.metric("trine_engine_steps_total") > 0.0);
    for name in
        ["trine_prefix_cache_queries_total", "trine_prompt_tokens_total", "trine_e2e_request_latency_seconds_count"]
    {
        assert_eq!(server.metric(name), 0.0, "{name}");
    }
    assert_eq!([server.get("/health").status, server.get("/ready").status], [200; 2]);
}

#[test]
fn who_watches_a_server_without_its_key_learns_where_that_goes() {
    let server = Server::start(&["--api-key", "secret"]);
    let watch = |more: &[&str]| trine_with(&[&["top", &server.url, "--count", "1", "--json"], more].concat());
    let (without, wrong, with) = (watch(&[]), watch(&["--key", "x"]), watch(&["--key", "secret"]));
    assert!(without.code == 1 && without.out.contains("asks for a key: --key or TRINE_API_KEY"), "{}", without.out);
    assert!(wrong.code == 1 && wrong.out.contains("does not know the key"), "{}", wrong.out);
    assert!(with.code == 0 && with.out.contains("\"problem\":null"), "{} {}", with.out, with.err);
}

#[test]
fn nobody_administers_an_open_server() {
    let server = Server::start(&["--host", "0.0.0.0", "--no-auth"]);
    for (method, path) in [("POST", "/admin/cache/clear"), ("POST", "/admin/keys/reload"), ("GET", "/debug/memory")] {
        let answer =
            server.raw(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("--keys"), "{path}: {answer}");
    }
    let server = Server::start(&["--embedding-model", ENCODER, "embedded:stories"]);
    let memory = server.get("/debug/memory").json();
    for planned in ["planned", "planned_embeddings"] {
        let tensors = &memory[planned]["tensors"];
        let [count, bytes] = ["count", "bytes"].map(|name| tensors[name].as_u64().unwrap());
        assert!(count > 10 && bytes > 100 * count && memory[planned]["weights"].as_u64() > Some(0), "{memory}");
    }
    let reload = server.raw(b"POST /admin/keys/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(reload.starts_with("HTTP/1.1 400"), "{reload}");
}

#[test]
fn a_limit_of_the_request_is_no_fault_of_the_server() {
    let server = Server::start(&["--parallel", "1", "--context", "512"]);
    let long = |more: Value| {
        let mut body = json!({"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post(TEXT, &body)
    };
    assert_eq!(long(json!({"timeout": 0.001})).status, 408);
    std::thread::scope(|scope| {
        scope.spawn(|| long(json!({"prompt": ["Once", "Twice", "Then"]})));
        // Until one waits, it may have a turn at once.
        wait_until("a request that waits too long", || long(json!({"queue_timeout": 0.001})).status == 429);
        let streamed = long(json!({"queue_timeout": 0.001, "stream": true}));
        assert_eq!((streamed.status, streamed.headers.contains_key("retry-after")), (429, true), "{}", streamed.text);
    });
    let health = server.get("/health?verbose").json();
    assert_eq!(health["error_rate"], 0.0, "{health}");
}

#[test]
fn tokens_are_counted_when_they_are_read_or_made() {
    let server = Server::start(&["--parallel", "1", "--context", "512"]);
    let counts =
        || ["trine_prompt_tokens_total", "trine_generation_tokens_total"].map(|name| server.metric(name) as usize);
    let whole = server.post(TEXT, &json!({"prompt": [5, 6, 7], "max_tokens": 4, "n": 2, "ignore_eos": true}));
    assert_eq!((whole.status, counts()), (200, [3, 8]));
    let usage = whole.json()["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(3), &json!(8)));
    let body = json!({"prompt": [5, 6, 7], "max_tokens": 500, "ignore_eos": true, "stream": true}).to_string();
    let mut stream = server.connect();
    let head = head(TEXT, &format!("content-length: {}\r\n", body.len()));
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 4000]).unwrap();
    // What never has its turn is not read.
    let refused = server.post(TEXT, &json!({"prompt": [5, 6, 7], "queue_timeout": 0.001}));
    let [read, made] = counts();
    assert!(refused.status == 429 && read == 6 && made > 8, "{} {read} {made}", refused.status);
    drop(stream);
    server.wait_for("trine_num_requests_running", 0.0);
    assert!(counts()[1] >= made && counts()[0] == 6, "{:?}", counts());
}

#[test]
fn the_metrics_of_vllm_have_its_names_and_labels() {
    let server = Server::start(&["--vllm-metrics", "--alias", "stories"]);
    assert_eq!(server.post(TEXT, &json!({"prompt": "Once", "max_tokens": 9, "ignore_eos": true})).status, 200);
    let text = server.get("/metrics").text;
    assert!(text.contains("\n# TYPE vllm:prompt_tokens_total counter\n") && !text.contains("# EOF"), "{text}");
    let asks =
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n";
    let open_metrics = server.raw(asks.as_bytes());
    assert!(
        open_metrics.contains("\n# TYPE vllm:prompt_tokens counter\n") && open_metrics.contains("# EOF"),
        "{open_metrics}"
    );
    // Those that the dashboard of its documentation asks for.
    for name in [
        "e2e_request_latency_seconds_bucket",
        "prompt_tokens_total",
        "generation_tokens_total",
        "time_per_output_token_seconds_bucket",
        "inter_token_latency_seconds_bucket",
        "num_requests_running",
        "num_requests_waiting",
        "time_to_first_token_seconds_bucket",
        "gpu_cache_usage_perc",
        "kv_cache_usage_perc",
        "request_prompt_tokens_bucket",
        "request_generation_tokens_bucket",
        "request_success_total",
        "request_queue_time_seconds_sum",
        "request_prefill_time_seconds_sum",
        "request_decode_time_seconds_sum",
        "request_max_num_generation_tokens_sum",
        "prefix_cache_hits_total",
    ] {
        let begin = format!("vllm:{name}{{model_name=\"stories\",engine=\"0\"");
        assert!(text.lines().any(|line| line.starts_with(&begin)), "{name}: {text}");
    }
    assert!(text.contains("\nvllm:request_generation_tokens_sum{model_name=\"stories\",engine=\"0\"} 9.0\n"), "{text}");
    for name in
        ["process_proportional_memory_bytes", "trine_system_memory_available_bytes", "trine_engine_step_tokens_total"]
    {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name}: {text}");
    }
}

#[test]
fn connections_that_ask_nothing_give_up_their_places() {
    let server = Server::start(&["--max-connections", "4"]);
    // One that is busy keeps its place, and its answer comes whole.
    let body = json!({"prompt": "Once", "max_tokens": 300, "ignore_eos": true, "stream": true}).to_string();
    let mut busy = server.connect();
    busy.write_all(format!("{}{body}", head(TEXT, &format!("content-length: {}\r\n", body.len()))).as_bytes()).unwrap();
    let mut answer = vec![0; 12];
    busy.read_exact(&mut answer).unwrap();
    let begun = Instant::now();
    let mut idle = Vec::new();
    for sent in
        ["", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"].iter().cycle().take(15)
    {
        let mut stream = server.connect();
        stream.write_all(sent.as_bytes()).unwrap();
        if sent.ends_with("\r\n\r\n") {
            // It stays for another request, of which half comes.
            stream.read_exact(&mut [0; 12]).unwrap();
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\n");
        }
        idle.push(stream);
        let health = server.get("/health");
        assert_eq!(health.status, 200, "{}", health.text);
    }
    // Each would wait for a minute.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    busy.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("data: [DONE]"));
}

#[test]
fn a_body_that_does_not_come_gives_up_its_place() {
    let server = Server::start(&["--max-connections", "2"]);
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for more in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"].iter().cycle().take(6) {
        let mut stream = server.connect();
        stream.write_all(format!("{}1\r\n{{", head(TEXT, more)).as_bytes()).unwrap();
        waiting.push(stream);
        // Until its head has come, it is one that waits for a request.
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(server.get("/health").status, 200);
    // Each would wait for a minute.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let mut answer = String::new();
    waiting[0].read_to_string(&mut answer).unwrap();
    let expected = "less than 1024 bytes of the body came in 1 s, and all connections are taken";
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains(expected), "{answer}");
}

#[test]
fn a_body_that_drips_gives_up_its_place_and_one_that_comes_slowly_does_not() {
    let server = Server::start(&["--max-connections", "1"]);
    let body = json!({"content": "word ".repeat(6000)}).to_string();
    let answer_to = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for (part, status) in [(1, "408"), (2 << 10, "200")] {
        let begun = Instant::now();
        let mut slow = server.connect();
        slow.write_all(head("/tokenize", &format!("content-length: {}\r\n", body.len())).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let mut health = server.connect();
        health.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let sending = slow.try_clone().unwrap();
        // It goes on sending when the answer is there.
        let body = body.clone();
        std::thread::spawn(move || {
            for bytes in body.as_bytes().chunks(part) {
                if (&sending).write_all(bytes).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        let answer = answer_to(slow);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{part}: {answer}");
        let answer = answer_to(health);
        assert!(answer.starts_with("HTTP/1.1 200"), "{part}: {answer}");
        // It would be waited for for a minute.
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}

#[test]
fn nobody_who_asks_loses_the_connection_where_all_are_taken() {
    let server = Server::start(&["--max-connections", "6"]);
    let body = json!({"prompt": "Once", "max_tokens": 3}).to_string();
    let request = format!("{}{body}", head(TEXT, &format!("content-length: {}\r\n", body.len())));
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut stream = server.connect();
                    stream.write_all(request.as_bytes()).unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                }
            });
        }
    });
    // Those who ask again and again are told that it was their last, if others wait.
    let ends = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut answers = 0;
                while Instant::now() < ends || answers == 0 {
                    let mut stream = std::io::BufReader::new(server.connect());
                    loop {
                        stream.get_mut().write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
                        let lines: Vec<String> = std::io::BufRead::lines(&mut stream)
                            .map_while(|line| line.ok().filter(|line| !line.is_empty()))
                            .collect();
                        assert_eq!(lines[0], "HTTP/1.1 200 OK");
                        answers += 1;
                        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                        stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
                        if lines.contains(&"connection: close".to_owned()) || Instant::now() >= ends {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert!(ends.elapsed() < Duration::from_secs(20), "{:?}", ends.elapsed());
}

#[test]
fn who_sends_a_body_that_is_refused_reads_why() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml").display().to_string();
    let key = key(&keys, "ann", &[]);
    let server = Server::start(&["--keys", &keys]);
    let part = vec![b' '; 1 << 20];
    for (key, status) in [(&*key, "413"), ("wrong", "401")] {
        for _ in 0..3 {
            let mut stream = server.connect();
            let head = head(TEXT, &format!("authorization: Bearer {key}\r\ncontent-length: 104857600\r\n"));
            stream.write_all(head.as_bytes()).unwrap();
            for sent in 0..100 {
                stream.write_all(&part).unwrap_or_else(|error| panic!("{status}: {error} after {sent} MiB"));
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }
    // Nothing comes of a body that its client holds back.
    let mut stream = server.connect();
    let more = format!("authorization: Bearer {key}\r\nexpect: 100-continue\r\ncontent-length: 104857600\r\n");
    stream.write_all(head(TEXT, &more).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn odd_requests_are_answered_as_they_should() {
    let server = Server::start(&[]);
    let get = |host: &str| {
        server.raw(format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
    };
    for host in ["LOCALHOST", "localhost.", "Localhost.:80"] {
        assert!(get(host).starts_with("HTTP/1.1 200"), "{host}: {}", get(host));
    }
    for chunk in ["-1\r\n{}\r\n0\r\n\r\n", "2\n{}\n0\n\n"] {
        let answer = server.raw(format!("{}{chunk}", head(TEXT, "transfer-encoding: chunked\r\n")).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{chunk:?}: {answer}");
    }
    let model = server.get("/v1/models/%ff");
    assert_eq!((model.status, &model.json()["error"]["type"]), (400, &"invalid_request_error".into()));
}

#[test]
fn a_client_that_takes_nothing_loses_its_connection() {
    let server = Server::start(&["--io-timeout", "1"]);
    // Its answer is more than the system keeps for it.
    let body = json!({"content": "0".repeat(900_000), "with_pieces": true}).to_string();
    let request = format!("{}{body}", head("/tokenize", &format!("content-length: {}\r\n", body.len())));
    let read = |parts: usize, part: usize| {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).unwrap();
        for _ in 0..parts {
            std::thread::sleep(Duration::from_secs(4) / parts as u32);
            let begin = answer.len();
            answer.resize(begin + part, 0);
            stream.read_exact(&mut answer[begin..]).unwrap();
        }
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        (body.len(), length.parse::<usize>().unwrap())
    };
    let (taken, length) = read(1, 0);
    assert!(taken < length, "all of {length} bytes came");
    // 400,000 bytes a second.
    assert_eq!(read(40, 40_000), (length, length));
}

#[test]
fn a_client_that_closes_its_sending_half_has_left() {
    let server = Server::start(&[]);
    let body = json!({"prompt": "Once", "max_tokens": 500, "ignore_eos": true}).to_string();
    let mut stream = server.connect();
    stream
        .write_all(format!("{}{body}", head(TEXT, &format!("content-length: {}\r\n", body.len()))).as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    server.wait_for("trine_num_requests_running", 0.0);
}
