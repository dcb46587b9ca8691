//! What the system tells a server, and what it is told: signals, systemd, and how much memory there is.

use crate::exit::Exit;
use crate::{secret, table, units};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use trine_server::{App, Inherited, Pressure, TellOutage, Tls};

/// Tells what is wrong with a certificate that is used all the same.
pub fn warn(tls: &Tls) {
    tls.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
}

/// Reads keys and certificates again on SIGHUP, which is told unless `quiet` or it fails, and tells where the memory is on SIGUSR1.
#[cfg(unix)]
pub fn obey_signals(app: &Arc<App>, quiet: bool) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut hangup, mut user) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
    let of = app.clone();
    tokio::spawn(async move {
        while user.recv().await.is_some() {
            note!("memory: {}", of.memory());
        }
    });
    let app = app.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if app.keys.is_some() {
                match app.reload_keys() {
                    Ok(_) if quiet => {}
                    Ok(count) => note!("note: {} read again", units::plural(count as u64, "key")),
                    Err(error) => note!("error: the keys stay as they are: {}", table::visible(&error)),
                }
            }
            let Some(tls) = &app.tls else { continue };
            match tls.reload() {
                Ok(()) if quiet => {}
                Ok(()) => {
                    note!("note: the certificate was read again");
                    warn(tls);
                }
                Err(error) => note!("error: the certificate stays as it is: {}", table::visible(&error.to_string())),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
pub fn obey_signals(_: &Arc<App>, _: bool) -> Result<()> {
    Ok(())
}

/// Compares the memory of the process with its limit, once a second.
pub fn watch_memory(app: Arc<App>, limit: u64, quiet: bool) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Some((bytes, pressure)) = app.watch_memory(limit) else { continue };
            let has = format!("the process has {} of at most {}", units::bytes(bytes), units::bytes(limit));
            match pressure {
                _ if quiet => {}
                Pressure::Low => note!("note: {has} again"),
                Pressure::High => note!("warning: {has}"),
                Pressure::Full => note!("warning: {has}: new requests are refused"),
            }
            if pressure > Pressure::Low {
                let _ = tokio::task::spawn_blocking(trine_tensor::memory::give_back).await;
            }
        }
    });
}

/// Gives memory back each time that no request has run for so long.
pub fn trim_when_idle(app: Arc<App>, after: Duration) {
    tokio::spawn(async move {
        let (mut steps, mut since, mut done) = (0, Instant::now(), false);
        loop {
            tokio::time::sleep(after.min(Duration::from_secs(1))).await;
            let Some(load) = app.load() else { return };
            if load.running + load.waiting > 0 || load.steps != steps {
                (steps, since, done) = (load.steps, Instant::now(), false);
            } else if !done && since.elapsed() >= after {
                done = true;
                if let Err(problem) = app.trim().await {
                    note!("warning: --trim-after: {}", table::visible(&problem.message));
                }
            }
        }
    });
}

/// Warns once when steps must be given more time than they were promised, so that prompts get on.
pub fn watch_pace(app: Arc<App>, target: Duration) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let given = app.load().and_then(|load| load.step_target).unwrap_or_default();
            // The target is a sum of floating point numbers.
            if given > target + Duration::from_millis(1) {
                let [target, given] = [target, given].map(|time| 1e3 * time.as_secs_f64());
                note!(
                    "warning: --itl-target {target:.0} leaves too little time for prompts: steps are given up to {given:.0} ms"
                );
                return;
            }
        }
    });
}

/// A problem that begins with the address of a collector, whose path may have a token.
fn without_token(problem: &str) -> String {
    const PATH: &str = "/v1/traces";
    let (url, why) = problem.split_once(": ").unwrap_or((problem, ""));
    match url.strip_suffix(PATH).filter(|url| url.contains("://")) {
        Some(url) => format!("{}{PATH}: {why}", secret::public(url)),
        None => problem.to_owned(),
    }
}

/// Tells when a collector takes no spans, and when it does again.
pub fn tell_outage(quiet: bool) -> Box<TellOutage> {
    Box::new(move |taken| match taken {
        _ if quiet => {}
        Ok(()) => note!("note: the collector takes spans again"),
        Err(problem) => {
            note!("warning: spans are lost: {}", table::visible(&without_token(&problem)))
        }
    })
}

/// The socket that systemd opened for this process, if it did.
#[cfg(unix)]
pub fn inherited() -> Result<Option<Inherited>> {
    let mut sockets = listenfd::ListenFd::from_env();
    let inherited = match sockets.take_tcp_listener(0) {
        Ok(listener) => Ok(listener.map(Inherited::Tcp)),
        Err(_) => sockets.take_unix_listener(0).map(|listener| listener.map(Inherited::Unix)),
    };
    match inherited {
        Ok(socket) if socket.as_ref().is_none_or(listens) => Ok(socket),
        _ => Err(anyhow::anyhow!("expected a TCP or UNIX socket that listens as file descriptor 3")),
    }
}

/// Whether a socket listens.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn listens(socket: &Inherited) -> bool {
    use rustix::net::sockopt::socket_acceptconn;
    let listens = match socket {
        Inherited::Tcp(socket) => socket_acceptconn(socket),
        Inherited::Unix(socket) => socket_acceptconn(socket),
    };
    listens.unwrap_or(false)
}

/// Here the system does not tell.
#[cfg(target_vendor = "apple")]
fn listens(_: &Inherited) -> bool {
    true
}

/// Tells systemd that requests are answered, and then, as often as its watchdog wants to know, that the engine still does.
#[cfg(unix)]
pub fn tell_systemd(app: Arc<App>) {
    use sd_notify::NotifyState;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(patience / 3).await;
            let Some(generator) = &app.generator else { return };
            if matches!(tokio::time::timeout(patience / 3, generator.handle.ping_async()).await, Ok(Ok(_))) {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
        }
    });
}

#[cfg(unix)]
pub fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

#[cfg(not(unix))]
pub fn inherited() -> Result<Option<Inherited>> {
    Ok(None)
}

#[cfg(not(unix))]
pub fn tell_systemd(_: Arc<App>) {}

#[cfg(not(unix))]
pub fn stopping() {}

/// What SIGTERM or Ctrl-C does first: a flag that ends loading, and a message that ends the server. The second of them ends the program.
pub fn signals(runtime: &Runtime) -> Result<(Arc<AtomicBool>, oneshot::Receiver<()>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = oneshot::channel();
    let (set, _guard) = (stop.clone(), runtime.enter());
    let mut signals = Signals::new()?;
    runtime.spawn(async move {
        signals.next().await;
        set.store(true, Relaxed);
        let _ = sender.send(());
        signals.next().await;
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok((stop, receiver))
}

/// The signals that end a program.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
