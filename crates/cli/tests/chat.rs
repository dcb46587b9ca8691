//! The chat, in a terminal.
#![cfg(unix)]

mod common;

use rexpect::session::{PtySession, spawn_command};

/// A chat with a model whose answers do not end, and the folder it keeps its history in.
fn chat(folder: &std::path::Path, more: &[&str]) -> PtySession {
    let mut command = common::trine();
    let model = common::long(folder);
    command.args(["run", &model, "--ignore-eos", "--seed", "1"]).args(more);
    command.env("XDG_STATE_HOME", folder).env("TERM", "xterm");
    spawn_command(command, Some(60_000)).unwrap()
}

#[test]
fn control_c_stops_an_answer_and_control_d_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = chat(folder.path(), &["--context", "100000"]);
    session.exp_string("no chat template").unwrap();
    session.exp_string("> ").unwrap();
    session.send_line("The miller counted").unwrap();
    // The line is echoed; what follows is the answer.
    session.exp_string("The miller counted").unwrap();
    session.exp_regex("[^\r\n]{20}").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("(stopped; ").unwrap();
    session.exp_string("of 100000 tokens left)").unwrap();
    session.send_line("/stats").unwrap();
    session.exp_string("peak memory").unwrap();
    let saved = folder.path().join("chat.json");
    session.send_line(&format!("/save {}", saved.display())).unwrap();
    session.exp_string("(saved to").unwrap();
    session.send_line("/frobnicate").unwrap();
    session.exp_string("unknown command /frobnicate").unwrap();
    session.send_line("/sav x.json").unwrap();
    session.exp_string("did you mean /save?").unwrap();
    session.send_line("/help").unwrap();
    session.exp_string("Ctrl-C stops an answer.").unwrap();
    // Keys count when the line editor has the terminal.
    for key in ['c', 'd'] {
        session.exp_string("> ").unwrap();
        session.send_control(key).unwrap();
    }
    session.exp_eof().unwrap();
    let status = format!("{:?}", session.process().wait().unwrap());
    assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
    let messages: serde_json::Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    assert_eq!(messages[0]["content"], "The miller counted");
    assert_eq!(messages[1]["role"], "assistant");
    let history = std::fs::read_to_string(folder.path().join("trine/history")).unwrap();
    assert!(history.contains("The miller counted"));
}

#[test]
fn no_byte_and_no_line_ends_the_chat_or_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = chat(folder.path(), &["--max-tokens", "4", "--raw"]);
    session.exp_string("> ").unwrap();
    // "Café" in Latin-1, which goes on after the byte that is not UTF-8.
    std::io::Write::write_all(&mut session.process().get_file_handle().unwrap(), b"Caf\xe9 ").unwrap();
    session.exp_string("a byte that is not UTF-8 was left out").unwrap();
    session.send_line("e noir").unwrap();
    session.exp_string("(stopped at --max-tokens").unwrap();
    // Lines that come at once, as terminals without bracketed paste send them, are answered one by one.
    session.send("first line\rsecond line\rthird line\r").unwrap();
    session.flush().unwrap();
    for _ in 0..3 {
        session.exp_string("(stopped at --max-tokens").unwrap();
    }
    let saved = folder.path().join("chat.json");
    session.send_line(&format!("/save {}", saved.display())).unwrap();
    session.exp_string("(saved to").unwrap();
    session.send_line("/bye").unwrap();
    session.exp_eof().unwrap();
    let messages: serde_json::Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    let texts = messages.as_array().unwrap().iter().filter(|message| message["role"] == "user");
    let texts: Vec<_> = texts.map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["Cafe noir", "first line", "second line", "third line"]);
    let history = std::fs::read_to_string(folder.path().join("trine/history")).unwrap();
    assert!(history.contains("Cafe noir") && history.contains("/bye"), "{history}");
}

#[test]
fn keys_wait_unseen_while_the_model_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = chat(folder.path(), &["--max-tokens", "1500", "--raw"]);
    session.exp_string("> ").unwrap();
    session.send_line("The miller").unwrap();
    session.exp_string("The miller").unwrap();
    session.exp_regex("[^\r\n]{20}").unwrap();
    session.send("QQ-QQ\r").unwrap();
    session.flush().unwrap();
    let answer = session.exp_string("(stopped at --max-tokens").unwrap();
    assert!(!answer.contains("QQ-QQ"), "{answer}");
    session.exp_string("QQ-QQ").unwrap();
    session.exp_string("(stopped at --max-tokens").unwrap();
    session.send_line("/bye").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_terminal_without_line_editing_shows_what_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    // Sessions begin without echo.
    command.args(["-c", "stty echo && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_trine"), "run", &common::llama()]);
    command
        .args(["--max-tokens", "4", "--raw", "--ignore-eos", "--seed", "1"])
        .env("XDG_STATE_HOME", folder.path())
        .env("TERM", "dumb");
    let mut session = spawn_command(command, Some(60_000)).unwrap();
    session.exp_string("> ").unwrap();
    session.send_line("The miller").unwrap();
    session.exp_string("The miller").unwrap();
    session.exp_string("(stopped at --max-tokens").unwrap();
    session.send_line("/system Be brief.").unwrap();
    session.exp_string("/system: expected a chat template, found none").unwrap();
    session.send_line("/load nosuch.json").unwrap();
    session.exp_string("error: nosuch.json: ").unwrap();
    session.send_line("/bye").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_continuation_on_a_terminal_begins_with_its_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = chat(folder.path(), &["The miller", "--max-tokens", "4", "--raw", "-q"]);
    session.exp_string("The miller").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_message_that_does_not_fit_is_refused_and_the_chat_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = chat(folder.path(), &["--context", "20", "--max-tokens", "5", "--raw", "-q"]);
    session.exp_string("> ").unwrap();
    session.send_line("one two three four five six seven eight nine ten").unwrap();
    session.exp_string("do not fit into the context of 20 tokens").unwrap();
    session.send_line("The").unwrap();
    session.exp_string("(stopped at --max-tokens)").unwrap();
    session.send_line("/exit").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn each_line_begins_a_story_when_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = common::trine();
    command.args(["run", "--temperature", "0", "--max-tokens", "6", "--ignore-eos"]);
    command.env("XDG_STATE_HOME", folder.path()).env("TERM", "xterm");
    let mut session = spawn_command(command, Some(60_000)).unwrap();
    session.exp_string("no model was named").unwrap();
    session.exp_string("begins a story").unwrap();
    let mut stories = Vec::new();
    for _ in 0..2 {
        session.exp_string("> ").unwrap();
        session.send_line("Once upon a time").unwrap();
        // The first is the line as it was typed.
        session.exp_string("Once upon a time").unwrap();
        session.exp_string("Once upon a time").unwrap();
        stories.push(session.exp_string("(stopped at --max-tokens)").unwrap());
    }
    assert!(!stories[0].trim().is_empty());
    assert_eq!(stories[0], stories[1], "nothing is remembered");
    session.send_line("/exit").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_retry_that_fails_keeps_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let [loaded, saved] = ["loaded.json", "saved.json"].map(|name| folder.path().join(name));
    let messages = serde_json::json!([
        { "role": "user", "content": "one two three four five six seven eight nine ten" },
        { "role": "assistant", "content": "eleven" },
    ]);
    std::fs::write(&loaded, messages.to_string()).unwrap();
    let mut session = chat(folder.path(), &["--context", "20", "--raw", "-q"]);
    session.exp_string("> ").unwrap();
    session.send_line(&format!("/load {}", loaded.display())).unwrap();
    session.exp_string("(2 messages)").unwrap();
    session.send_line("/retry").unwrap();
    session.exp_string("do not fit into the context of 20 tokens").unwrap();
    session.send_line(&format!("/save {}", saved.display())).unwrap();
    session.exp_string("(saved to").unwrap();
    session.send_line("/bye").unwrap();
    session.exp_eof().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    assert_eq!(found, messages);
}
