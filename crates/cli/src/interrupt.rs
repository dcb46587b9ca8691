//! Ctrl-C stops an answer, the loading of a model or other work; a second Ctrl-C exits, as does the first while nobody reads the output, opens the
//! pipe that it goes to, or writes to the input.

use crate::exit::Exit;
use crate::terminal::Settings;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use trine_tensor::Replacement;

/// Outputs that may be pipes, beside standard output.
static OUTPUTS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// How often the program began and ceased to wait for who is at the other end of a pipe: odd while it waits.
static WAITS: AtomicUsize = AtomicUsize::new(0);

/// How long a reader may leave an output full after Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(500);

/// A flag that Ctrl-C sets. Its user may clear it. The terminal is left as it is now.
///
/// # Errors
/// When the handler cannot be installed.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    install(true)
}

/// [`flag`] for work that is saved after Ctrl-C: an output that nobody reads is waited for.
///
/// # Errors
/// Those of [`flag`].
pub fn patient_flag() -> anyhow::Result<Arc<AtomicBool>> {
    install(false)
}

fn install(watches: bool) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let (set, terminal) = (flag.clone(), Settings::now());
    ctrlc::set_handler(move || {
        if set.swap(true, Relaxed) {
            exit(&terminal);
        }
        if !watches {
            return;
        }
        let (set, terminal) = (set.clone(), terminal.clone());
        // Who writes to a full pipe, opens one, or reads an empty one does not see the flag.
        let watch = move || {
            while set.load(Relaxed) {
                let before = WAITS.load(Relaxed);
                std::thread::sleep(PATIENCE / 5);
                let waits = before % 2 == 1 && WAITS.load(Relaxed) == before;
                if set.load(Relaxed) && (waits || is_full()) {
                    exit(&terminal);
                }
            }
        };
        let _ = std::thread::Builder::new().spawn(watch);
    })
    .map_err(|error| anyhow::anyhow!("cannot wait for Ctrl-C, which takes a thread: {error}"))?;
    Ok(flag)
}

/// Makes Ctrl-C exit while nobody reads this output.
pub fn watch(output: &File) {
    if let Ok(output) = output.try_clone() {
        OUTPUTS.lock().unwrap_or_else(PoisonError::into_inner).push(output);
    }
}

/// Opens or reads what may be a pipe. Makes Ctrl-C exit until that is done.
pub fn waiting<T>(work: impl FnOnce() -> T) -> T {
    WAITS.fetch_add(1, Relaxed);
    let done = work();
    WAITS.fetch_add(1, Relaxed);
    done
}

/// An input that may be a pipe. Ctrl-C exits while nobody writes to it.
pub struct Input<R>(pub R);

impl<R: Read> Read for Input<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        waiting(|| self.0.read(bytes))
    }
}

fn exit(terminal: &Settings) -> ! {
    Replacement::remove_unfinished();
    terminal.restore();
    std::process::exit(Exit::Interrupted as i32);
}

/// Whether an output stays full: a pipe that is not read, or a terminal that is stopped.
#[cfg(unix)]
fn is_full() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;
    let timeout = Timespec::try_from(PATIENCE).ok();
    let waits = |output: &dyn AsFd| {
        poll(&mut [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::OUT)], timeout.as_ref()) == Ok(0)
    };
    let outputs = OUTPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    waits(&std::io::stdout()) || outputs.iter().any(|output| waits(output))
}

#[cfg(not(unix))]
fn is_full() -> bool {
    false
}
