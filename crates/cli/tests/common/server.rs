//! A server of the program, and a client.

use super::trine;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// `trine serve`, which ends when this is dropped.
pub struct Server {
    pub child: Child,
    pub url: String,
    /// Lines of its standard error before the one that names the address.
    pub seen: Vec<String>,
    /// Lines of its standard error after the first that names the address.
    pub lines: Mutex<Receiver<String>>,
}

/// The response to a request.
pub struct Response {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of the events of a stream; the last says that it is done.
    pub fn events(&self) -> Vec<Value> {
        let mut data: Vec<&str> = self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{}", self.text);
        data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

impl Server {
    /// Starts a server at a free port, with these arguments.
    pub fn start(args: &[&str]) -> Server {
        Server::start_with(trine(), args)
    }

    /// Starts a server of a command, which may have variables and an input.
    pub fn start_with(mut command: Command, args: &[&str]) -> Server {
        command.args([&["serve", "--port", "0"], args].concat()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Server { child, url: String::new(), seen: Vec::new(), lines: lines.into() };
        while server.url.is_empty() {
            let line = server.lines.get_mut().unwrap().recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no address: {:?}", server.seen));
            // In a log of JSON, it is the message of an event.
            let event = serde_json::from_str::<Value>(&line).ok();
            let message = event.as_ref().and_then(|event| event["message"].as_str()).unwrap_or(&line);
            match message.strip_prefix("serving ").and_then(|rest| rest.rsplit_once(" at ")) {
                Some((_, url)) => server.url = url.to_owned(),
                None => server.seen.push(line),
            }
        }
        server
    }

    /// The next line of its standard error.
    pub fn line(&self) -> String {
        self.lines.lock().unwrap().recv_timeout(PATIENCE).expect("a line")
    }

    fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        config.build().into()
    }

    pub fn get(&self, path: &str) -> Response {
        read(Server::agent().get(format!("{}{path}", self.url)).call().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Response {
        read(Server::agent().post(format!("{}{path}", self.url)).send(body).unwrap())
    }

    /// A connection, for what no client would send.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What the server answers to these bytes, until it closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits for a line of its standard error that has this text.
    pub fn wait_for_line(&self, text: &str) -> String {
        let lines = self.lines.lock().unwrap();
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line has {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A number of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub fn wait_for(&self, name: &str, value: f64) {
        let begun = std::time::Instant::now();
        while self.metric(name) != value {
            assert!(begun.elapsed() < PATIENCE, "{name} is {} and not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal, by its name for `kill`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let kill = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end; its status.
    pub fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let panics: Vec<String> =
            self.lines.lock().unwrap().try_iter().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty() || std::thread::panicking(), "{panics:?}");
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Response {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Response { status, headers, text: response.body_mut().read_to_string().unwrap() }
}
