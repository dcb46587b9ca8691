//! Clients that vanish, clients that read slowly, keys that are read again, and servers that are ended and killed: every answer that is
//! whole is that of the same request alone. `CHAOS_SECONDS=1800` is the long form.
#![cfg(unix)]

mod common;

use common::server::{PATIENCE, Server};
use common::trine_with;
use fastrand::Rng;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Clients at once.
const CLIENTS: u64 = 12;

/// Requests, each of which has one answer.
const REQUESTS: u64 = 24;

/// What a client does with its answer.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    Reads,
    ReadsSlowly,
    Vanishes,
}

fn request(i: u64) -> Value {
    let beginnings = ["Once upon a time", "The little dog", "Lily and Tom", "In the park there was", "One day a bird"];
    let prompt = beginnings[i as usize % beginnings.len()].repeat(1 + i as usize % 4);
    let mut body = json!({"prompt": prompt, "max_tokens": 8 + i % 5 * 25, "seed": i, "temperature": 1, "stream": !i.is_multiple_of(3)});
    if i % 6 == 5 {
        body["structured_outputs"] = json!({"regex": "[a-z]{3,9}( [a-z]{2,8}){2,6}\\."});
    }
    body
}

/// The text of a response, if it came to its end.
fn text_of(response: &str, stream: bool) -> Option<String> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    if !stream {
        return Some(serde_json::from_str::<Value>(body).ok()?["choices"][0]["text"].as_str()?.to_owned());
    }
    // The lengths of chunks stand between the lines.
    let data: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, events) = data.split_last()?;
    if *last != "[DONE]" {
        return None;
    }
    let text = |data: &&str| Some(serde_json::from_str::<Value>(data).ok()?["choices"][0]["text"].as_str()?.to_owned());
    events.iter().map(text).collect()
}

/// Sends a request; the response, as far as it came.
fn send(address: &str, key: &str, body: &Value, client: Client, random: &mut Rng) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
    )?;
    write!(stream, "content-length: {length}\r\n\r\n{body}")?;
    let (mut response, mut part) = (Vec::new(), [0; 4096]);
    let end = random.usize(..2000);
    loop {
        let size = if client == Client::ReadsSlowly { 100 } else { part.len() };
        match stream.read(&mut part[..size]) {
            Ok(0) => return Ok(Some(String::from_utf8_lossy(&response).into_owned())),
            Ok(n) => response.extend(&part[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        match client {
            Client::Vanishes if response.len() > end => return Ok(None),
            Client::ReadsSlowly => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
    }
}

/// Bytes of anonymous memory of a process.
fn memory(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

#[test]
fn answers_that_are_whole_are_those_of_a_quiet_server() {
    let seconds = std::env::var("CHAOS_SECONDS").map_or(6, |seconds| seconds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (keys, cache) = (path("keys.toml"), path("cache"));
    let new = trine_with(&["key", "new", "ann", "--keys", &keys]);
    assert_eq!(new.code, 0, "{}", new.err);
    let key = new.out.trim().to_owned();
    let start =
        || Server::start(&["--keys", &keys, "--parallel", "4", "--cache-dir", &cache, "--cache-dir-limit", "8MiB"]);
    let address = |server: &Server| server.url.strip_prefix("http://").unwrap().to_owned();

    let quiet = start();
    let mut random = Rng::with_seed(0);
    let alone: Vec<String> = (0..REQUESTS)
        .map(|i| {
            let response = send(&address(&quiet), &key, &request(i), Client::Reads, &mut random).unwrap().unwrap();
            text_of(&response, request(i)["stream"] == true).unwrap()
        })
        .collect();
    drop(quiet);

    let server = RwLock::new(start());
    let (over, whole, broken) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut samples: Vec<(f64, f64)> = Vec::new();
    std::thread::scope(|scope| {
        for i in 0..CLIENTS {
            let (server, key, alone, over, whole, broken) = (&server, &key, &alone, &over, &whole, &broken);
            scope.spawn(move || {
                let mut random = Rng::with_seed(i);
                while !over.load(Relaxed) {
                    let client = [Client::Reads, Client::ReadsSlowly, Client::Vanishes][i as usize % 3];
                    let asked = random.u64(..REQUESTS);
                    let at = address(&server.read().unwrap());
                    let body = request(asked);
                    match send(&at, key, &body, client, &mut random) {
                        Ok(Some(response)) => match text_of(&response, body["stream"] == true) {
                            Some(text) => {
                                assert_eq!(text, alone[asked as usize], "{body}");
                                whole.fetch_add(1, Relaxed);
                            }
                            None => _ = broken.fetch_add(1, Relaxed),
                        },
                        Ok(None) => {}
                        // The server ends or begins.
                        Err(_) => {
                            broken.fetch_add(1, Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
            });
        }
        let begun = Instant::now();
        let part = Duration::from_secs_f64(seconds as f64 / 6.0);
        for turn in 0..6 {
            let end = begun + part * (turn + 1);
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(200));
                let server = server.read().unwrap();
                server.signal("-HUP");
                // The last server of all is watched.
                if turn == 5 {
                    samples.extend(memory(server.child.id()).map(|bytes| (begun.elapsed().as_secs_f64(), bytes)));
                }
            }
            // Ended, killed, and started again with the same cache.
            if turn == 1 || turn == 3 {
                let mut server = server.write().unwrap();
                server.signal(if turn == 1 { "-TERM" } else { "-KILL" });
                let status = server.wait();
                assert!(turn == 3 || status == 0, "{status}");
                *server = start();
            }
        }
        over.store(true, Relaxed);
    });
    let server = server.into_inner().unwrap();
    let agent = ureq::Agent::new_with_defaults();
    let metrics = || {
        let response =
            agent.get(format!("{}/metrics", server.url)).header("authorization", format!("Bearer {key}")).call();
        response.unwrap().body_mut().read_to_string().unwrap()
    };
    let begun = Instant::now();
    while !metrics().contains("\ntrine_num_requests_running 0\n") {
        assert!(begun.elapsed() < PATIENCE, "{}", metrics());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (whole, broken) = (whole.into_inner(), broken.into_inner());
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let half = samples.len() / 2;
    let mean = |samples: &[(f64, f64)]| samples.iter().map(|sample| sample.1).sum::<f64>() / samples.len() as f64;
    let (first, last) = (mean(&samples[..half]), mean(&samples[half..]));
    println!(
        "{whole} whole answers, {broken} broken off, in {seconds} s; memory {:.1} then {:.1} MiB",
        mib(first),
        mib(last)
    );
    assert!(whole > 0);
    assert!(last < first + f64::from(16 << 20), "{} MiB grew to {}", mib(first), mib(last));
}
