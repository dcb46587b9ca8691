//! A hub on this machine that answers as Hugging Face's, or as a test wants it to. Its large files are on another host, at another port.
#![allow(dead_code, reason = "each test binary takes what it needs")]

use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Whether it came to the host of large files.
    pub at_cdn: bool,
}

impl Asked {
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// What it gets.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// Nothing follows these bytes for some time.
    pub stall: Option<(usize, Duration)>,
    /// Bytes a second.
    pub speed: Option<u64>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

type Hook = Box<dyn Fn(&Asked, Reply) -> Reply + Send + Sync>;

struct State {
    repo: String,
    files: Mutex<BTreeMap<String, Content>>,
    hook: Mutex<Option<Hook>>,
    asked: Mutex<Vec<Asked>>,
    cdn: String,
}

struct Content {
    bytes: Vec<u8>,
    sha256: String,
    git_blob: String,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content { sha256: sha256(&bytes), git_blob: git_blob(&bytes), bytes }
    }
}

pub struct FakeHub {
    pub url: String,
    state: Arc<State>,
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn git_blob(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a hub keeps a file in LFS.
fn is_large(path: &str) -> bool {
    path.ends_with(".gguf") || path.ends_with(".safetensors")
}

/// Bytes that look random and are the same every time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

impl FakeHub {
    pub fn new(repo: &str, files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> FakeHub {
        let (hub, cdn) = (listener(), listener());
        let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.into())).collect();
        let state = Arc::new(State {
            repo: repo.to_owned(),
            files: Mutex::new(files),
            hook: Mutex::new(None),
            asked: Mutex::default(),
            cdn: address(&cdn),
        });
        let url = address(&hub);
        for (listener, at_cdn) in [(hub, false), (cdn, true)] {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || serve(stream, &state, at_cdn));
                }
            });
        }
        FakeHub { url, state }
    }

    /// Changes answers from now on.
    pub fn on(&self, hook: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) {
        *self.state.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.state.files.lock().unwrap().insert(path.to_owned(), bytes.into());
    }

    /// What clients asked for since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn address(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(stream: TcpStream, state: &State, at_cdn: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let mut asked = Asked { method: method.to_owned(), path: path.to_owned(), headers: BTreeMap::new(), at_cdn };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            asked.headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
    }
    let mut reply = if at_cdn { state.cdn(&asked) } else { state.answer(&asked) };
    if let Some(hook) = &*state.hook.lock().unwrap() {
        reply = hook(&asked, reply);
    }
    state.asked.lock().unwrap().push(asked.clone());
    let _ = send(stream, &asked, &reply);
}

fn send(mut stream: TcpStream, asked: &Asked, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    let mut sent = 0;
    for piece in body.chunks(64 << 10) {
        if let Some((at, time)) = reply.stall.filter(|(at, _)| (sent..sent + piece.len()).contains(at)) {
            stream.write_all(&piece[..at - sent])?;
            std::thread::sleep(time);
            return Ok(());
        }
        stream.write_all(piece)?;
        sent += piece.len();
        if let Some(speed) = reply.speed {
            std::thread::sleep(Duration::from_secs_f64(piece.len() as f64 / speed as f64));
        }
    }
    stream.flush()
}

/// All of a content, or the range that was asked for.
fn bytes(asked: &Asked, content: &[u8]) -> Reply {
    match asked.range() {
        Some((first, last)) if (first as usize) < content.len() => {
            let last = (last as usize).min(content.len() - 1);
            let range = format!("bytes {first}-{last}/{}", content.len());
            Reply::new(206, &content[first as usize..=last]).with("Content-Range", range)
        }
        Some(_) => Reply::new(416, ""),
        None => Reply::new(200, content),
    }
    .with("Accept-Ranges", "bytes")
}

impl State {
    fn answer(&self, asked: &Asked) -> Reply {
        let files = self.files.lock().unwrap();
        let path = asked.path.split('?').next().unwrap();
        let api = format!("/api/models/{}", self.repo);
        if path == "/api/models" {
            return Reply::new(200, format!("[{{\"id\":\"{}\"}},{{\"id\":\"other/thing\"}}]", self.repo));
        }
        if let Some(rest) = path.strip_prefix(&api) {
            let list = |(path, content): (&String, &Content)| {
                let (len, id, hash) = (content.bytes.len(), &content.git_blob, &content.sha256);
                let lfs = format!(",\"lfs\":{{\"sha256\":\"{hash}\",\"size\":{len},\"pointerSize\":130}}");
                let lfs = if is_large(path) { &lfs } else { "" };
                format!("{{\"rfilename\":\"{path}\",\"size\":{len},\"blobId\":\"{id}\"{lfs}}}")
            };
            return match rest {
                "/revision/main" | "/revision/v1" | "" => {
                    let files: Vec<String> = files.iter().map(list).collect();
                    Reply::new(
                        200,
                        format!("{{\"id\":\"{}\",\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", self.repo, files.join(",")),
                    )
                }
                rest if rest == format!("/revision/{COMMIT}") => {
                    let files: Vec<String> = files.iter().map(list).collect();
                    Reply::new(
                        200,
                        format!("{{\"id\":\"{}\",\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", self.repo, files.join(",")),
                    )
                }
                "/refs" => Reply::new(200, "{\"branches\":[{\"name\":\"main\"}],\"tags\":[{\"name\":\"v1\"}]}"),
                _ => Reply::new(404, "{\"error\":\"Invalid rev id\"}").with("X-Error-Code", "RevisionNotFound"),
            };
        }
        let prefix = format!("/{}/resolve/", self.repo);
        let file = path.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')).map(|(_, file)| file);
        match file.and_then(|file| Some((file, files.get(file)?))) {
            Some((file, content)) if is_large(file) => {
                let hash = &content.sha256;
                Reply::new(302, "")
                    .with("Location", format!("{}/{hash}?X-Amz-Signature=secret", self.cdn))
                    .with("X-Linked-Etag", format!("\"{hash}\""))
                    .with("X-Linked-Size", content.bytes.len())
            }
            Some((_, content)) => bytes(asked, &content.bytes).with("ETag", format!("\"{}\"", content.git_blob)),
            None => Reply::new(404, "").with("X-Error-Code", "EntryNotFound"),
        }
        .with("X-Repo-Commit", COMMIT)
    }

    fn cdn(&self, asked: &Asked) -> Reply {
        let files = self.files.lock().unwrap();
        let hash = asked.path.trim_start_matches('/').split('?').next().unwrap();
        let found = files.values().find(|content| content.sha256 == hash);
        // The etag of a store says nothing about the file's.
        found
            .map_or_else(|| Reply::new(403, ""), |content| bytes(asked, &content.bytes).with("ETag", "\"multipart-7\""))
    }
}
