//! Downloads from a hub that breaks, stalls and lies.

mod common;

use common::{Asked, COMMIT, FakeHub, Reply, git_blob, noise, sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use trine_hub::{Cache, Error, Hub, HubOptions, Progress, Pulled, Reference};

const REPO: &str = "owner/model";
/// More than two segments.
const LEN: usize = (70 << 20) + 123;

fn options(hub: &FakeHub, cache: &Path) -> HubOptions {
    HubOptions {
        endpoint: hub.url.clone(),
        attempts: 3,
        backoff: Duration::from_millis(5),
        stall: Duration::from_secs(8),
        ..HubOptions::new(cache.to_owned())
    }
}

fn pull_with(options: &HubOptions, reference: &str) -> Result<(Pulled, Progress), Error> {
    let hub = Hub::new(options)?;
    let progress = Progress::default();
    let plan = hub.plan(&reference.parse::<Reference>()?, "main", &progress)?;
    hub.pull(&plan, &progress).map(|pulled| (pulled, progress))
}

fn pull(hub: &FakeHub, cache: &Path) -> Result<(Pulled, Progress), Error> {
    pull_with(&options(hub, cache), REPO)
}

fn gguf(len: usize) -> (FakeHub, TempDir, Vec<u8>) {
    let content = noise(len, 1);
    (FakeHub::new(REPO, [("m-Q8_0.gguf", content.clone())]), tempfile::tempdir().unwrap(), content)
}

fn blobs(cache: &Path) -> Vec<String> {
    let folder = cache.join("models--owner--model/blobs");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_or(Vec::new(), |dir| dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect());
    names.sort();
    names
}

/// No file of the cache has another content than its name says, but for parts.
fn check_blobs(cache: &Path) {
    for name in blobs(cache).into_iter().filter(|name| !name.ends_with(".incomplete")) {
        let bytes = std::fs::read(cache.join("models--owner--model/blobs").join(&name)).unwrap();
        assert!(name == sha256(&bytes) || name == git_blob(&bytes), "{name}");
    }
}

fn is_content(asked: &Asked) -> bool {
    asked.method == "GET" && (asked.at_cdn || asked.path.contains("/resolve/"))
}

/// A part of the error, and what is answered instead.
type Lie = (&'static str, fn(&Asked, Reply) -> Reply);

#[test]
fn a_model_of_safetensors_is_laid_out_as_python_does() {
    let files = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", noise(5000, 3)),
        ("tokenizer.json", b"{}".to_vec()),
        ("1_Pooling/config.json", b"{ }".to_vec()),
        ("pytorch_model.bin", noise(100, 4)),
        ("empty.txt", Vec::new()),
    ];
    let (hub, folder) = (FakeHub::new(REPO, files.clone()), tempfile::tempdir().unwrap());
    let (pulled, progress) = pull(&hub, folder.path()).unwrap();
    let root = folder.path().join("models--owner--model");
    assert_eq!(pulled.path, root.join("snapshots").join(COMMIT));
    for (name, content) in &files {
        let path = pulled.path.join(name);
        if *name == "pytorch_model.bin" {
            assert!(!path.exists());
            continue;
        }
        assert_eq!(std::fs::read(&path).unwrap(), *content, "{name}");
        let blob = if name.ends_with(".safetensors") { sha256(content) } else { git_blob(content) };
        let up = "../".repeat(name.split('/').count() + 1);
        #[cfg(unix)]
        assert_eq!(path.read_link().unwrap(), PathBuf::from(format!("{up}blobs/{blob}")));
        assert!(root.join("blobs").join(blob).is_file(), "{up}{name}");
    }
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!((progress.done(), progress.total()), (5005, 5005));
    // Two files of the same content are one, and the next time nothing is downloaded.
    assert_eq!(blobs(folder.path()).len(), 4);
    hub.asked();
    let (pulled, _) = pull(&hub, folder.path()).unwrap();
    assert_eq!(pulled.received, 0);
    assert!(!hub.asked().iter().any(is_content));
}

#[test]
fn a_large_file_comes_in_several_ranges_at_once() {
    let (hub, folder, content) = gguf(LEN);
    let (pulled, _) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == content);
    let ranges: Vec<_> = hub.asked().iter().filter(|asked| asked.at_cdn).map(|asked| asked.range().unwrap()).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(blobs(folder.path()), [sha256(&content)]);
}

#[test]
fn the_token_stays_with_the_hub() {
    let (hub, folder, _) = gguf(1000);
    let with_token = HubOptions { token: Some("hf_secret".to_owned()), ..options(&hub, folder.path()) };
    pull_with(&with_token, REPO).unwrap();
    let asked = hub.asked();
    assert!(asked.iter().any(|asked| asked.at_cdn) && asked.iter().any(|asked| !asked.at_cdn));
    for asked in asked {
        let sent = asked.headers.get("authorization").map(String::as_str);
        assert_eq!(sent, (!asked.at_cdn).then_some("Bearer hf_secret"), "{asked:?}");
        assert!(asked.at_cdn || !asked.headers.values().any(|value| value.contains("Signature")));
    }
}

#[test]
fn broken_connections_are_continued() {
    let (hub, folder, content) = gguf(LEN);
    let count = AtomicUsize::new(0);
    hub.on(move |asked, reply| {
        // Two of three requests end early, after some progress.
        let cut = is_content(asked) && asked.at_cdn && count.fetch_add(1, Relaxed) % 3 < 2;
        Reply { cut: cut.then_some(3 << 20), ..reply }
    });
    let (pulled, progress) = pull(&hub, folder.path()).unwrap();
    // How many ranges there are depends on which ends first: of three requests at least, two were cut.
    assert!(std::fs::read(&pulled.path).unwrap() == content && progress.retries() >= 2);
    let asked = hub.asked();
    let from_start = asked.iter().filter(|asked| asked.at_cdn && asked.range().unwrap().0 == 0).count();
    assert_eq!(from_start, 1, "no byte is asked for twice");
}

#[test]
fn connections_that_bring_nothing_end_and_the_next_pull_goes_on() {
    let (hub, folder, content) = gguf(LEN);
    hub.on(|asked, reply| {
        let first = asked.range().is_some_and(|(first, _)| first % (32 << 20) == 0);
        Reply { cut: asked.at_cdn.then_some(if first { 5 << 20 } else { 0 }), ..reply }
    });
    let error = pull(&hub, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Connection { .. }), "{error}");
    assert_eq!(blobs(folder.path()), [format!("{}.trine.incomplete", sha256(&content))]);
    hub.on(|_, reply| reply);
    hub.asked();
    let (pulled, progress) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == content);
    assert!(progress.kept() >= 5 << 20 && pulled.received == LEN as u64 - progress.kept(), "{}", progress.kept());
    assert!(hub.asked().iter().filter(|asked| asked.at_cdn).any(|asked| asked.range().unwrap().0 == 5 << 20));
}

#[test]
fn stalls_are_noticed() {
    let (hub, folder, content) = gguf(200_000);
    let count = AtomicUsize::new(0);
    hub.on(move |asked, reply| {
        let stalls = asked.at_cdn && count.fetch_add(1, Relaxed) == 0;
        Reply { stall: stalls.then_some((100_000, Duration::from_secs(20))), ..reply }
    });
    let start = Instant::now();
    let options = HubOptions { stall: Duration::from_secs(1), ..options(&hub, folder.path()) };
    let (pulled, progress) = pull_with(&options, REPO).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == content);
    assert!(progress.retries() == 1 && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let ranges: Vec<_> = hub.asked().iter().filter_map(|asked| asked.range()).map(|(first, _)| first).collect();
    assert!(ranges.contains(&100_000), "{ranges:?}");
}

#[test]
fn a_hub_without_ranges_sends_the_whole_file() {
    let (hub, folder, content) = gguf(LEN);
    let whole = content.clone();
    let cuts = AtomicUsize::new(0);
    hub.on(move |asked, reply| match asked.at_cdn {
        true if cuts.fetch_add(1, Relaxed) == 4 => Reply { cut: Some(40 << 20), ..Reply::new(200, whole.clone()) },
        true => Reply::new(200, whole.clone()),
        false => reply,
    });
    let (pulled, _) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == content);
}

#[test]
fn lies_about_ranges_and_lengths_are_found() {
    let lies: [Lie; 6] = [
        ("bytes 0-999/1000", |_, reply| reply.with("Content-Range", "bytes 1-999/1000")),
        ("bytes 0-999/1000", |_, reply| reply.with("Content-Range", "bytes 0-999/2000")),
        ("bytes 0-999/1000", |_, reply| reply.with("Content-Range", "junk")),
        ("1000 bytes", |_, _| Reply::new(200, vec![0; 999])),
        ("the connection ended at byte", |_, reply| Reply { body: reply.body[..10].to_vec(), ..reply }),
        ("plain bytes", |_, reply| reply.with("Content-Encoding", "gzip")),
    ];
    for (expected, lie) in lies {
        let (hub, folder, content) = gguf(1000);
        hub.on(move |asked, reply| if asked.at_cdn { lie(asked, reply) } else { reply });
        let error = pull(&hub, folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!blobs(folder.path()).contains(&sha256(&content)));
    }
    // One that sends more than it says is not read further.
    let (hub, folder, content) = gguf(1000);
    hub.on(|asked, mut reply| {
        reply.body.extend(if asked.at_cdn { vec![7; 500] } else { Vec::new() });
        reply
    });
    let (pulled, _) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(pulled.path).unwrap() == content);
}

#[test]
fn another_content_is_refused_and_removed() {
    let (hub, folder, _) = gguf(100_000);
    hub.on(|asked, mut reply| {
        if asked.at_cdn {
            reply.body[77_777] ^= 1;
        }
        reply
    });
    let error = pull(&hub, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Hash { kind: "SHA-256", .. }), "{error}");
    assert!(blobs(folder.path()).is_empty());
    // A small file has the hash of its blob in git.
    let (hub, folder) = (
        FakeHub::new(REPO, [("config.json", b"{}".to_vec()), ("model.safetensors", noise(9, 1))]),
        tempfile::tempdir().unwrap(),
    );
    hub.on(|asked, reply| {
        let small = asked.path.ends_with("config.json") && asked.method == "GET";
        if small { Reply { body: b"[]".to_vec(), ..reply } } else { reply }
    });
    let error = pull(&hub, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Hash { kind: "the git hash", .. }), "{error}");
    check_blobs(folder.path());
}

#[test]
fn headers_that_disagree_are_refused() {
    let lies: [Lie; 5] = [
        ("as listed", |asked, reply| if asked.method == "HEAD" { reply.with("X-Linked-Size", 5) } else { reply }),
        (
            "as listed",
            |asked, reply| if asked.method == "HEAD" { reply.with("X-Linked-Etag", "0".repeat(64)) } else { reply },
        ),
        ("an etag that can name a file", |asked, reply| {
            if asked.method == "HEAD" { reply.with("X-Linked-Etag", "\"../../x\"") } else { reply }
        }),
        // The content changes after it was asked for.
        ("the content", |asked, reply| {
            let is_get = asked.method == "GET" && asked.path.contains("/resolve/");
            if is_get { reply.with("X-Linked-Etag", "1".repeat(64)) } else { reply }
        }),
        ("a redirect to an HTTP address", |asked, reply| {
            if is_content(asked) { reply.with("Location", "file:///etc/passwd?secret") } else { reply }
        }),
    ];
    for (expected, lie) in lies {
        let (hub, folder, _) = gguf(1000);
        hub.on(lie);
        let error = pull(&hub, folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{expected}: {error}");
    }
}

#[test]
fn listings_that_are_no_listings_are_refused() {
    for (body, expected) in [
        ("<html>", "expected JSON"),
        ("{\"sha\":\"main\",\"siblings\":[]}", "the hash of a commit"),
        ("[[[[", "expected JSON"),
    ] {
        let (hub, folder, _) = gguf(10);
        hub.on(move |asked, reply| if asked.path.contains("/revision/") { Reply::new(200, body) } else { reply });
        let error = pull(&hub, folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let (hub, folder, _) = gguf(10);
    hub.on(
        |asked, reply| {
            if asked.path.contains("/revision/") { Reply::new(200, vec![b' '; (64 << 20) + 9]) } else { reply }
        },
    );
    let error = pull(&hub, folder.path()).unwrap_err().to_string();
    assert!(error.contains("at most 67108864 bytes"), "{error}");
    // Names that lead out of the folder.
    for name in ["../../x.gguf", "/etc/x.gguf", "a\\\\..\\\\x.gguf"] {
        let (hub, folder, _) = gguf(10);
        let body = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{{\"rfilename\":\"{name}\",\"size\":10}}]}}");
        hub.on(
            move |asked, reply| if asked.path.contains("/revision/") { Reply::new(200, body.clone()) } else { reply },
        );
        let error = pull(&hub, folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Name { what: "file", .. }), "{name}: {error}");
    }
}

#[test]
fn refusals_say_what_is_missing() {
    let (hub, folder, _) = gguf(10);
    for status in [401, 403] {
        hub.on(move |_, _| Reply::new(status, "{\"error\":\"Access to model is restricted\"}"));
        let error = pull(&hub, folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Denied { has_token: false, .. }), "{error}");
        assert!(error.to_string().contains("Access to model is restricted"), "{error}");
    }
    hub.on(|_, reply| reply);
    let mistyped = || not_found(pull_with(&options(&hub, folder.path()), "owner/modle")).0;
    assert_eq!(mistyped(), [REPO]);
    // A hub does not tell strangers what is private.
    hub.on(|asked, reply| {
        let is_unknown = asked.path.contains("modle") && !asked.path.contains("search");
        if is_unknown { Reply::new(401, "").with("X-Error-Code", "RepoNotFound") } else { reply }
    });
    assert_eq!(mistyped(), [REPO]);
    let at = |revision: &str| {
        let hub = Hub::new(&options(&hub, folder.path())).unwrap();
        hub.plan(&REPO.parse().unwrap(), revision, &Progress::default())
    };
    assert_eq!(not_found(at("mian")).0, ["main"]);
    assert!(at("v1").is_ok() && at(COMMIT).is_ok());
    assert!(matches!(at("../main").unwrap_err(), Error::Name { what: "revision", .. }));
    let error = pull_with(&options(&hub, folder.path()), "owner/model:Q4_K_M").unwrap_err();
    assert!(matches!(&error, Error::NoModel { found, .. } if *found == ["m-Q8_0.gguf"]), "{error}");
}

struct NotFound(Vec<String>);

fn not_found<T: std::fmt::Debug>(result: Result<T, Error>) -> NotFound {
    match result.unwrap_err() {
        Error::NotFound { near, .. } => NotFound(near),
        error => panic!("{error}"),
    }
}

#[test]
fn busy_hubs_are_asked_again_after_the_time_that_they_say() {
    let (hub, folder, _) = gguf(10);
    let count = AtomicUsize::new(0);
    hub.on(move |_, reply| match count.fetch_add(1, Relaxed) {
        0 => Reply::new(429, "").with("Retry-After", 1),
        2 => Reply::new(503, ""),
        _ => reply,
    });
    let start = Instant::now();
    let (_, progress) = pull(&hub, folder.path()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1) && progress.retries() == 2, "{}", progress.retries());
    // Not forever, and not for hours.
    hub.on(|_, _| Reply::new(500, ""));
    hub.asked();
    assert!(matches!(pull(&hub, folder.path()).unwrap_err(), Error::Status { status: 500, .. }));
    assert_eq!(hub.asked().len(), 3);
    hub.on(|_, _| Reply::new(429, "").with("Retry-After", 86_400));
    assert!(matches!(pull(&hub, folder.path()).unwrap_err(), Error::Status { status: 429, .. }));
    assert_eq!(hub.asked().len(), 1);
}

#[test]
fn a_changed_file_starts_over() {
    let (hub, folder, old) = gguf(100_000);
    hub.on(|asked, reply| Reply { cut: asked.at_cdn.then_some(5_000), ..reply });
    pull(&hub, folder.path()).unwrap_err();
    let new = noise(100_000, 2);
    hub.put("m-Q8_0.gguf", new.clone());
    hub.on(|_, reply| reply);
    let (pulled, progress) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == new && progress.kept() == 0);
    assert_ne!(sha256(&old), sha256(&new));
}

#[test]
fn stopping_is_quick_and_keeps_what_came() {
    let (hub, folder, content) = gguf(10 << 20);
    hub.on(|asked, reply| Reply { stall: asked.at_cdn.then_some((4 << 20, Duration::from_secs(60))), ..reply });
    let options = HubOptions { stall: Duration::from_secs(50), ..options(&hub, folder.path()) };
    let client = Hub::new(&options).unwrap();
    let progress = Progress::default();
    let plan = client.plan(&REPO.parse().unwrap(), "main", &progress).unwrap();
    assert_eq!((plan.size(), plan.missing()), (10 << 20, 10 << 20));
    let (start, error) = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| client.pull(&plan, &progress).unwrap_err());
        while progress.done() < 4 << 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        client.stop();
        (start, pulling.join().unwrap())
    });
    assert!(matches!(error, Error::Cancelled) && start.elapsed() < Duration::from_secs(5), "{error}");
    hub.on(|_, reply| reply);
    let (pulled, progress) = pull(&hub, folder.path()).unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == content && progress.kept() == 4 << 20);
}

#[test]
fn two_pulls_at_once_download_once() {
    let (hub, folder, content) = gguf(1 << 20);
    hub.on(|asked, reply| Reply { speed: asked.at_cdn.then_some(4 << 20), ..reply });
    let pulled: Vec<Pulled> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| pull(&hub, folder.path()).unwrap().0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pulled.iter().all(|pulled| std::fs::read(&pulled.path).unwrap() == content));
    assert_eq!(hub.asked().iter().filter(|asked| asked.at_cdn).count(), 1);
}

#[test]
fn a_disk_without_room_is_noticed_before() {
    let (hub, folder, _) = gguf(10);
    hub.on(|asked, reply| match asked.method.as_str() {
        "HEAD" => reply.with("X-Linked-Size", 1_u64 << 49),
        _ if asked.path.contains("/revision/") => {
            let body =
                String::from_utf8(reply.body).unwrap().replace("\"size\":10", &format!("\"size\":{}", 1_u64 << 49));
            Reply::new(200, body)
        }
        _ => reply,
    });
    let error = pull(&hub, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Space { needed, free, .. } if *needed == 1 << 49 && free < needed), "{error}");
    assert!(error.to_string().contains("expected 524288.00 GiB of free space, found "), "{error}");
    assert!(blobs(folder.path()).is_empty());
}

#[test]
fn models_are_found_listed_and_removed() {
    let files = [
        ("m-Q4_K_M.gguf", noise(3000, 1)),
        ("m-Q8_0.gguf", noise(5000, 2)),
        ("s-F16-00001-of-00002.gguf", noise(10, 3)),
        ("s-F16-00002-of-00002.gguf", noise(20, 4)),
    ];
    let (hub, folder) = (FakeHub::new(REPO, files), tempfile::tempdir().unwrap());
    let cache = Cache::new(folder.path());
    let find = |name: &str| {
        cache.find(&name.parse().unwrap(), None).map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
    };
    assert_eq!(find(REPO), None);
    for tag in ["q8_0", "f16"] {
        pull_with(&options(&hub, folder.path()), &format!("{REPO}:{tag}")).unwrap();
    }
    // The default is not there: the best of what is.
    assert_eq!(find(REPO).as_deref(), Some("m-Q8_0.gguf"));
    assert_eq!(find("owner/model:Q4_K_M"), None);
    assert_eq!(find("owner/model:F16").as_deref(), Some("s-F16-00001-of-00002.gguf"));
    pull(&hub, folder.path()).unwrap();
    assert_eq!(find(REPO).as_deref(), Some("m-Q4_K_M.gguf"));
    let listed = cache.list();
    assert_eq!((listed.len(), listed[0].size(), listed[0].files.len()), (1, 8030, 4));
    assert_eq!((listed[0].repo.as_str(), listed[0].revisions.as_slice()), (REPO, ["main".to_owned()].as_slice()));
    // A second snapshot has one of its files.
    let other = folder.path().join("models--owner--model/snapshots/ffff");
    std::fs::create_dir(&other).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&noise(5000, 2))), other.join("m-Q8_0.gguf")).unwrap();
    let remove = |name: &str, revision: Option<&str>| cache.remove(&name.parse().unwrap(), revision);
    let removed = remove(REPO, Some("main")).unwrap();
    assert_eq!((removed.files, removed.blobs), (4, 3));
    assert_eq!(find(REPO).as_deref(), Some("m-Q8_0.gguf"));
    assert_eq!(not_found(remove("owner/model:Q4_K_M", None)).0, ["m-Q8_0.gguf"]);
    assert_eq!(not_found(remove("owner/modell", None)).0, [REPO]);
    assert_eq!(remove("owner/model:Q8_0", None).unwrap().blobs, 1);
    assert!(cache.list().is_empty() && remove(REPO, None).is_err());
    // All of it, with what is not complete.
    pull(&hub, folder.path()).unwrap();
    std::fs::write(folder.path().join("models--owner--model/blobs/x.trine.incomplete"), "1234").unwrap();
    assert!(cache.list()[0].incomplete > 0);
    assert_eq!(remove(REPO, None).unwrap().blobs, 2);
    assert!(!folder.path().join("models--owner--model").exists());
}
