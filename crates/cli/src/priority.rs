//! `--nice`: how much of the CPUs this program gets when others want them, too.

use std::io;

/// Sets the priority of this thread and of those that it will start, as `nice` does; says so where the system does not allow it.
pub fn set(nice: i32) {
    if let Err(error) = system(nice) {
        note!("warning: --nice {nice}: {error}: the priority stays as it is");
        let hint = "only the administrator may take more than others: start it with sudo nice, or allow it with LimitNICE= of systemd";
        if error.kind() == io::ErrorKind::PermissionDenied {
            note!("hint: {hint}");
        }
    }
}

#[cfg(unix)]
fn system(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice)?)
}

#[cfg(not(unix))]
fn system(_: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
