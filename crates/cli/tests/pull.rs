//! Models of a hub: `trine pull`, `list` and `rm`, and their names in other commands.

mod common;
#[path = "../../hub/tests/common/mod.rs"]
mod hub;

use common::{Ran, llama, run, trine};
use hub::{FakeHub, Reply, noise};
use std::io::{BufRead, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const REPO: &str = "owner/Llama-GGUF";

fn with(hub: &FakeHub, cache: &Path, args: &[&str]) -> Command {
    let mut command = trine();
    command.args(args).env("HF_ENDPOINT", &hub.url).env("HF_HUB_CACHE", cache);
    command
}

fn ran(hub: &FakeHub, cache: &Path, args: &[&str]) -> Ran {
    run(&mut with(hub, cache, args), "")
}

#[test]
fn a_model_is_pulled_run_listed_and_removed_by_its_name() {
    let model = std::fs::read(llama()).unwrap();
    let hub = FakeHub::new(
        REPO,
        [("llama-Q8_0.gguf", model.clone()), ("llama-F32.gguf", model.clone()), ("README.md", vec![b'x'])],
    );
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let before = ran(&hub, cache, &["run", REPO, "hi", "--raw", "--max-tokens", "1"]);
    assert!(before.code == 3 && before.err.contains("`trine pull owner/Llama-GGUF` downloads it"), "{}", before.err);
    assert!(hub.asked().is_empty(), "only `trine pull` asks a hub");
    let plan = ran(&hub, cache, &["pull", REPO, "--dry-run"]);
    assert!(
        plan.code == 0 && plan.out.contains("llama-Q8_0.gguf") && plan.out.contains("missing"),
        "{}{}",
        plan.out,
        plan.err
    );
    assert!(!cache.join("models--owner--Llama-GGUF").exists());
    let pulled = ran(&hub, cache, &["pull", REPO]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert_eq!(std::fs::read(pulled.out.trim()).unwrap(), model);
    assert!(pulled.err.contains("`trine run owner/Llama-GGUF` runs it"), "{}", pulled.err);
    let json = ran(&hub, cache, &["pull", "owner/Llama-GGUF:f32", "--json"]).json();
    assert_eq!(
        (&json["files"][0]["path"], &json["revision"], &json["received"]),
        (&"llama-F32.gguf".into(), &"main".into(), &0.into())
    );
    // In any command, whether it takes one model or two or more.
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "The miller counted pear trees near the river. ".repeat(20)).unwrap();
    for args in [
        &["run", REPO, "hi", "--raw", "--max-tokens", "1"][..],
        &["run", "owner/Llama-GGUF:F32", "hi", "--raw", "--max-tokens", "1"],
        &["info", REPO],
        &["tokenize", REPO, "hi"],
        &["quantize", REPO, "x.gguf", "--format", "q8_0", "--dry-run"],
        &["compare", REPO, "owner/Llama-GGUF:F32", text.to_str().unwrap(), "--chunks", "1", "--context", "64"],
    ] {
        let ran = ran(&hub, cache, args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    }
    // But for those that write to it: the cache has what the hub has.
    let snapshot = pulled.out.trim();
    for args in [
        &["edit", snapshot, "--set", "general.name=x"][..],
        &["edit", REPO, "--set", "general.name=x"],
        &["eval", "perplexity", snapshot, text.to_str().unwrap(), "--record"],
    ] {
        let refused = ran(&hub, cache, args);
        assert!(refused.code == 2 && refused.err.contains("cache of models"), "{args:?}: {}", refused.err);
        assert!(std::fs::read(snapshot).unwrap() == model);
    }
    let listed = ran(&hub, cache, &["list", "--files"]);
    assert!(
        listed.out.contains(REPO) && listed.out.contains("main") && listed.out.contains("llama-F32.gguf"),
        "{}",
        listed.out
    );
    let json = ran(&hub, cache, &["list", "--json"]).json();
    assert_eq!((&json[0]["repo"], json[0]["files"].as_array().unwrap().len()), (&REPO.into(), 2));
    let unasked = ran(&hub, cache, &["rm", REPO]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{}", unasked.err);
    let removed = ran(&hub, cache, &["rm", REPO, "--yes"]);
    assert!(removed.code == 0 && removed.err.contains("2 files removed"), "{}", removed.err);
    assert!(ran(&hub, cache, &["list"]).err.contains("no models in "));
    assert_eq!(ran(&hub, cache, &["rm", REPO, "--yes"]).code, 1);
}

#[test]
fn a_file_or_folder_of_the_name_comes_first() {
    let hub = FakeHub::new(REPO, [("llama-Q8_0.gguf", noise(100, 1))]);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ran(&hub, folder.path(), &["pull", REPO]).code, 0);
    std::fs::create_dir(folder.path().join("owner")).unwrap();
    std::fs::copy(llama(), folder.path().join(REPO)).unwrap();
    let ran = run(with(&hub, folder.path(), &["info", REPO]).current_dir(folder.path()), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn refusals_have_hints() {
    let hub = FakeHub::new(REPO, [("llama-Q8_0.gguf", noise(100, 1))]);
    let folder = tempfile::tempdir().unwrap();
    let check = |args: &[&str], code: i32, expected: &[&str]| {
        let ran = ran(&hub, folder.path(), args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        expected.iter().for_each(|expected| assert!(ran.err.contains(expected), "{args:?}: {expected}: {}", ran.err));
    };
    check(&["pull", "owner/Lama-GGUF"], 1, &["not found; similar: owner/Llama-GGUF", "hint: check the name"]);
    check(&["pull", "owner/Llama-GGUF:Q4_K_M"], 1, &["llama-Q8_0.gguf", "hint: OWNER/REPO:FILE"]);
    check(&["pull", REPO, "--revision", "v2"], 1, &["revision v2", "similar: v1"]);
    for odd in ["../x", "a/b/c", "a/b:../c", "/etc/passwd", "a\\b"] {
        check(&["pull", odd], 2, &["expected"]);
    }
    hub.on(|_, _| Reply::new(401, "{\"error\":\"Invalid username or password.\"}"));
    check(&["pull", REPO], 1, &["access denied", "Invalid username", "set HF_TOKEN"]);
    let with_token = run(with(&hub, folder.path(), &["pull", REPO]).env("HF_TOKEN", "hf_secret"), "");
    assert!(
        with_token.err.contains("the token has no access") && !with_token.err.contains("hf_secret"),
        "{}",
        with_token.err
    );
    // A token may be in a file, as `hf auth login` writes it.
    let path = folder.path().join("token");
    std::fs::write(&path, "hf_file\n").unwrap();
    hub.asked();
    run(with(&hub, folder.path(), &["pull", REPO]).env("HF_TOKEN_PATH", &path), "");
    assert_eq!(hub.asked()[0].headers["authorization"], "Bearer hf_file");
    let offline = run(with(&hub, folder.path(), &["pull", REPO]).env("HF_HUB_OFFLINE", "1"), "");
    assert!(offline.code == 2 && offline.err.contains("HF_HUB_OFFLINE"), "{}", offline.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_part_and_says_how_to_go_on() {
    let content = noise(8 << 20, 1);
    let hub = FakeHub::new(REPO, [("llama-Q8_0.gguf", content.clone())]);
    hub.on(|asked, reply| Reply { stall: asked.at_cdn.then_some((4 << 20, Duration::from_secs(60))), ..reply });
    let folder = tempfile::tempdir().unwrap();
    let child =
        with(&hub, folder.path(), &["pull", REPO]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_part(folder.path());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("stopped: the same command continues the download"), "{err}");
    assert!(ran(&hub, folder.path(), &["list"]).out.contains("incomplete"));
    hub.on(|_, reply| reply);
    let json = ran(&hub, folder.path(), &["pull", REPO, "--json"]).json();
    let [received, present] = [&json["received"], &json["files"][0]["present"]].map(|n| n.as_u64().unwrap());
    assert!(present > 1 << 20 && received + present == 8 << 20, "{json}");
    assert!(std::fs::read(json["path"].as_str().unwrap()).unwrap() == content);
}

/// Waits until some of a file is there.
#[cfg(unix)]
fn wait_for_part(cache: &Path) {
    let blobs = cache.join("models--owner--Llama-GGUF/blobs");
    let has_part = || {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| std::os::unix::fs::MetadataExt::blocks(&entry.metadata().unwrap()) > 4096)
    };
    for _ in 0..2000 {
        if has_part() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing was downloaded");
}

/// Also run fifty times, by `bench/long/pull.py`.
#[test]
fn killed_downloads_leave_no_broken_file_and_are_completed() {
    let content = noise(40 << 20, 1);
    let hub = FakeHub::new(REPO, [("llama-Q8_0.gguf", content.clone())]);
    hub.on(|asked, reply| Reply { speed: asked.at_cdn.then_some(30 << 20), ..reply });
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..5 {
        let mut child =
            with(&hub, folder.path(), &["pull", REPO]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(50..600)));
        child.kill().unwrap();
        child.wait().unwrap();
        for model in trine_hub::Cache::new(folder.path()).list() {
            for file in model.files {
                assert!(std::fs::read(model.path.join(file.path)).unwrap() == content);
            }
        }
    }
    hub.on(|_, reply| reply);
    let pulled = ran(&hub, folder.path(), &["pull", REPO, "-q"]);
    assert!(std::fs::read(pulled.out.trim()).unwrap() == content, "{}", pulled.err);
}

#[test]
fn a_hub_that_is_not_reached_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens at a port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = trine();
    command.args(["pull", REPO, "--dry-run"]).env("HF_HUB_CACHE", folder.path());
    command.env("HF_ENDPOINT", format!("http://127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    // Three attempts: it has never answered.
    for again in ["1 s (2 of 3)", "2 s (3 of 3)"] {
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("warning: cannot reach 127.0.0.1:{port}: ")), "{line}");
        assert!(line.ends_with(&format!("; trying again in {again}\n")), "{line}");
    }
    let status = child.wait().unwrap();
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(1), "{rest}");
    assert!(rest.starts_with("error: cannot reach") && rest.contains("HF_ENDPOINT names another hub"), "{rest}");
}
