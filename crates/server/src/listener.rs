//! Sockets that connections come from.

use crate::options::{Inherited, Listen};
#[cfg(unix)]
use crate::unix_socket::UnixSocket;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of an answer that the system holds for a client. Only when a third of them is taken does it say so: with more, one that reads slowly
/// would seem to take nothing.
#[cfg(unix)]
const SEND_BUFFER: usize = 128 << 10;

/// A socket that connections come from.
pub enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
}

impl Listener {
    /// Begins to listen.
    pub async fn bind(listen: &Listen) -> io::Result<Listener> {
        match listen {
            Listen::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            #[cfg(unix)]
            Listen::Unix(path) => Ok(Listener::Unix(UnixSocket::bind(path)?)),
            #[cfg(not(unix))]
            Listen::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no UNIX sockets")),
        }
    }

    /// A socket that listens already.
    pub fn inherit(inherited: Inherited) -> io::Result<Listener> {
        match inherited {
            Inherited::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(TcpListener::from_std(listener)?))
            }
            #[cfg(unix)]
            Inherited::Unix(listener) => Ok(Listener::Unix(UnixSocket::inherit(listener)?)),
        }
    }

    /// The address that clients use, with TLS or without.
    pub fn url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |at| format!("{scheme}://{at}"))
            }
            #[cfg(unix)]
            Listener::Unix(socket) => socket.url(),
        }
    }

    /// The next connection, and its peer, if that has an address.
    pub async fn accept(&self) -> io::Result<(Box<dyn Io>, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                prepare(&stream)?;
                Ok((Box::new(stream), Some(peer)))
            }
            #[cfg(unix)]
            Listener::Unix(socket) => Ok((Box::new(socket.accept().await?), None)),
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    #[cfg(unix)]
    rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER)?;
    stream.set_nodelay(true)
}

/// A connection of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}
