//! A UNIX socket, and the file that it has.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// A UNIX socket that listens.
pub struct UnixSocket {
    listener: UnixListener,
    /// What this server made for it, which ends with it.
    _file: Option<SocketFile>,
}

impl UnixSocket {
    /// Begins to listen. A socket that an earlier run left is in the way; what is no socket, or is listened to, stays.
    pub fn bind(path: &Path) -> io::Result<UnixSocket> {
        let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
        let is_left = || {
            let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            std::os::unix::net::UnixStream::connect(path).is_err_and(refused)
        };
        if is_socket && is_left() {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        Ok(UnixSocket { listener, _file: Some(SocketFile::new(path)?) })
    }

    /// One that listens already. Its file is not this server's.
    pub fn inherit(listener: std::os::unix::net::UnixListener) -> io::Result<UnixSocket> {
        listener.set_nonblocking(true)?;
        Ok(UnixSocket { listener: UnixListener::from_std(listener)?, _file: None })
    }

    /// The address that clients use.
    pub fn url(&self) -> String {
        let address = self.listener.local_addr().ok();
        let path = address.and_then(|address| address.as_pathname().map(|path| path.display().to_string()));
        format!("unix:{}", path.unwrap_or_default())
    }

    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

/// The file of a UNIX socket. Nobody listens to it when this is dropped, and then it is in the way of the next.
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: std::path::absolute(path)?, device_and_inode: device_and_inode(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have taken the path.
        if device_and_inode(&self.path).is_ok_and(|found| found == self.device_and_inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = path.symlink_metadata()?;
    Ok((file.dev(), file.ino()))
}
