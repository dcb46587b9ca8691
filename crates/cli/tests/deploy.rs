//! The files of `deploy` fit the program.

mod common;

use common::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

#[test]
fn the_board_of_grafana_asks_for_metrics_that_there_are() {
    let server = Server::start(&[]);
    server.post("/v1/completions", &json!({"prompt": "Once", "max_tokens": 4}));
    let metrics = server.get("/metrics").text;
    let names: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let board: Value = serde_json::from_str(&std::fs::read_to_string(deploy("grafana.json")).unwrap()).unwrap();
    let mut asked = 0;
    for target in board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("trine_") || word.starts_with("process_")) {
            assert!(names.contains(name), "{name} of {expression}");
            asked += 1;
        }
    }
    assert!(asked > 20);
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("trine");
    std::fs::copy(env!("CARGO_BIN_EXE_trine"), &program).unwrap();
    let mut units = Vec::new();
    for name in ["trine.service", "trine.socket", "trine-bench.service", "trine-bench.timer"] {
        let text = std::fs::read_to_string(deploy(name)).unwrap();
        let text = text.replace("/usr/local/bin/trine", &program.display().to_string());
        units.push(folder.path().join(name));
        std::fs::write(units.last().unwrap(), text).unwrap();
    }
    let Ok(ran) = Command::new("systemd-analyze").arg("verify").args(&units).output() else {
        return println!("skipped: needs systemd-analyze");
    };
    let problems = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && !problems.contains("trine.") && !problems.contains("trine-bench."), "{problems}");
}

/// An nginx, which ends when this is dropped.
struct Nginx(std::process::Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn nginx_balances_two_servers_and_holds_no_stream_back() {
    let has =
        |program: &str| Command::new(program).arg("-v").stderr(Stdio::null()).stdout(Stdio::null()).status().is_ok();
    if !has("nginx") || !has("openssl") || !has("curl") {
        return println!("skipped: needs nginx, openssl and curl");
    }
    let servers = [Server::start(&[]), Server::start(&[])];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = std::fs::read_to_string(deploy("nginx.conf")).unwrap();
    for (from, to) in [
        ("127.0.0.1:8081", servers[0].url.strip_prefix("http://").unwrap()),
        ("127.0.0.1:8082", servers[1].url.strip_prefix("http://").unwrap()),
        ("/etc/trine/cert.pem", &certificate),
        ("/etc/trine/key.pem", &key),
        ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
        ("server_name trine.example.org", "server_name localhost"),
    ] {
        assert!(site.contains(from), "{from}");
        site = site.replace(from, to);
    }
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", path(name)))
        .concat();
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{site}}}\n",
        path("pid"),
        path("error.log"),
    );
    std::fs::write(path("nginx.conf"), whole).unwrap();
    let started =
        Command::new("nginx").args(["-p", &path(""), "-c", &path("nginx.conf")]).stderr(Stdio::null()).spawn();
    let nginx = Nginx(started.unwrap());
    let curl = |route: &str, body: Option<&Value>| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--cacert",
            &certificate,
            "--retry",
            "20",
            "--retry-connrefused",
            "--retry-delay",
            "1",
        ]);
        if let Some(body) = body {
            command.args(["-d", &body.to_string()]);
        }
        let ran = command.arg(format!("https://localhost:{port}{route}")).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(curl("/health", None), "{\"status\":\"ok\"}");
    let body = json!({"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "stream": true});
    let through = curl("/v1/completions", Some(&body));
    let text = |stream: &str| {
        let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        let texts = data.map(|data| {
            serde_json::from_str::<Value>(data).unwrap()["choices"][0]["text"].as_str().unwrap().to_owned()
        });
        texts.collect::<String>()
    };
    let direct = servers[0].post("/v1/completions", &body).text;
    assert_eq!(text(&through), text(&direct));
    // The other answers when one is gone, whichever the client had.
    let [first, second] = servers;
    drop(first);
    assert_eq!(text(&curl("/v1/completions", Some(&body))), text(&direct));
    drop(second);
    drop(nginx);
}
