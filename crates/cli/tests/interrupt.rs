//! Ctrl-C, and readers that go away or never come.
#![cfg(unix)]

mod common;

use common::trine;
use std::io::{Read, Write};
use std::process::Stdio;

/// The exit status, which comes soon.
fn code(child: &mut std::process::Child) -> Option<i32> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if std::time::Instant::now() > end => panic!("it goes on: {:?}", child.kill()),
            None => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
}

/// Waits until a signal has a handler, and what follows in the program has come to its pipe.
#[cfg(target_os = "linux")]
fn wait_for_handler(child: &std::process::Child) {
    let handles = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
    };
    while !handles() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // On a busy machine that takes a while: at its pipe it takes no more CPU time.
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect();
        fields[11..13].to_vec()
    };
    loop {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_secs(1));
        if ticks() == before {
            return;
        }
    }
}

/// `kill -INT`.
fn interrupt(child: &std::process::Child) {
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
}

#[test]
fn interrupted_work_reports_its_result_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let model = common::long(folder.path());
    let args = ["run", &model, "hi", "--raw", "--ignore-eos", "--json"];
    let mut child = trine().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The line about the context says that the model is there.
    let mut line = [0; 10];
    child.stderr.as_mut().unwrap().read_exact(&mut line).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["finish_reason"], "cancelled");
}

#[test]
fn one_interrupt_is_enough_while_nobody_reads_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let model = common::long(folder.path());
    let args = ["run", &model, "--raw", "--ignore-eos", "--echo", "-q"];
    let mut child = trine().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds, and it is repeated.
    child.stdin.take().unwrap().write_all("mill ".repeat(30_000).as_bytes()).unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    interrupt(&child);
    assert_eq!(code(&mut child), Some(130));
}

#[test]
#[cfg(target_os = "linux")]
fn one_interrupt_is_enough_at_a_named_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = &folder.path().join("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let generate = ["generate-data", trine::EMBEDDED, pipe, "--count", "5000", "--max-tokens", "9", "--keep-cut"];
    let profile = ["run", trine::EMBEDDED, "hi", "--max-tokens", "99", "--ignore-eos", "--profile", pipe];
    let load = ["bench", trine::EMBEDDED, "--load", "requests=4", "--profile", pipe];
    for args in [&generate[..], &profile, &load] {
        // Nobody opens it.
        let mut child = trine().args(args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        wait_for_handler(&child);
        interrupt(&child);
        assert_eq!(code(&mut child), Some(130), "{args:?}");
    }
    // Nobody writes to it: there is nothing to save, and the signal ends the program.
    for args in [&["eval", "perplexity", trine::EMBEDDED, pipe][..], &["serve", "--port", "0", "--warm", pipe]] {
        let mut child = trine().args(args).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        interrupt(&child);
        assert_eq!(code(&mut child), None, "{args:?}");
    }
    for args in [&generate[..], &profile] {
        // Nobody reads more than a byte.
        let mut child = trine().args(args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut reader = std::fs::File::open(pipe).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        interrupt(&child);
        assert_eq!(code(&mut child), Some(130), "{args:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn one_interrupt_is_enough_while_nobody_writes_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl").display().to_string();
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/encoders/bert");
    let request =
        b"{\"custom_id\": \"a\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"a\", \"max_tokens\": 5}}\n";
    let batch = ["batch", trine::EMBEDDED, "/dev/stdin", &out];
    for (args, begin) in [(&["embed", encoder][..], &b"Hi\n"[..]), (&batch, request)] {
        let mut child = trine().args(args).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(begin).unwrap();
        wait_for_handler(&child);
        interrupt(&child);
        assert_eq!(code(&mut child), Some(130), "{args:?}");
    }
}

#[test]
fn interrupted_work_for_a_pipe_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let request = |i| {
        format!(
            "{{\"custom_id\": \"{i}\", \"url\": \"/v1/completions\", \"body\": {{\"prompt\": \"a\", \"max_tokens\": 5}}}}\n"
        )
    };
    std::fs::write(at("in.jsonl"), (0..5000).map(request).collect::<String>()).unwrap();
    let generate =
        ["generate-data", trine::EMBEDDED, &at("pipe"), "--count", "5000", "--max-tokens", "5", "--keep-cut"];
    let batch = ["batch", trine::EMBEDDED, &at("in.jsonl"), &at("pipe")];
    for args in [&generate[..], &batch] {
        let child = trine().args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = std::fs::File::open(at("pipe")).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        interrupt(&child);
        reader.read_to_end(&mut Vec::new()).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{args:?}: {err}");
        assert!(err.contains("stopped after") && !err.contains("--resume"), "{args:?}: {err}");
    }
}

#[test]
fn a_reader_of_a_named_pipe_that_goes_away_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let requests = (0..200).map(|i| {
        format!("{{\"custom_id\": \"{i}\", \"url\": \"/v1/completions\", \"body\": {{\"prompt\": \"a\", \"max_tokens\": 50}}}}\n")
    });
    std::fs::write(at("in.jsonl"), requests.collect::<String>()).unwrap();
    let generate =
        ["generate-data", trine::EMBEDDED, &at("pipe"), "--count", "5000", "--max-tokens", "50", "--keep-cut", "-q"];
    let batch = ["batch", trine::EMBEDDED, &at("in.jsonl"), &at("pipe"), "--parallel", "1", "-q"];
    for args in [&generate[..], &batch] {
        let child = trine().args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = std::fs::File::open(at("pipe")).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.starts_with(&format!("error: {}: Broken pipe", at("pipe"))), "{args:?}: {err}");
    }
}

#[test]
fn an_interrupted_conversion_says_so_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf").display().to_string();
    let args = ["quantize", trine::EMBEDDED, &output, "--format", "iq2_xs"];
    let child = trine().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has begun.
    while std::fs::read_dir(folder.path()).unwrap().next().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(130) && err.ends_with("stopped: nothing was written\n"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
