//! Connections: limited, and given to the router.

use crate::App;
use crate::arriving::Arriving;
use crate::listener::{Io, Listener};
use crate::patience::Patient;
use crate::places::{Answer, Place, Places};
use crate::trace::Peer;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tower::ServiceExt;

/// Bytes that wait for a client which reads slowly, beside those that the system holds.
const WRITE_BUFFER: usize = 16 << 10;

/// How long one that is told to leave is looked at once more: whatever has come is seen within that.
const LAST_LOOK: Duration = Duration::from_millis(2);

/// How long a client may take to close its half of a connection that is over, and has no place any more.
const LINGER: Duration = Duration::from_secs(1);

/// Serves connections until `draining` is true, and then those that are open, as long as they may.
pub async fn serve(listener: Listener, router: Router, app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let places = Arc::new(Places::new(app.options.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = ended(&mut draining) => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                tokio::spawn(connection(stream, peer, place, router.clone(), app.clone(), draining.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection");
                // Out of files, for example: later there may be some.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(app.options.drain_timeout, places.all_free()).await;
}

/// Waits until the server is told to end.
async fn ended(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

type Accepted = (Box<dyn Io>, Option<SocketAddr>, Arc<Place>);

async fn accept(listener: &Listener, places: &Arc<Places>) -> io::Result<Accepted> {
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, places.take().await?))
}

/// Encrypts a connection, if the server has a certificate.
async fn secure(stream: Box<dyn Io>, app: &App) -> io::Result<Box<dyn Io>> {
    let Some(tls) = &app.tls else { return Ok(stream) };
    let accepting = tls.acceptor().accept(stream);
    Ok(Box::new(tokio::time::timeout(app.options.read_timeout, accepting).await??))
}

async fn connection(
    stream: Box<dyn Io>,
    peer: Option<SocketAddr>,
    place: Arc<Place>,
    router: Router,
    app: Arc<App>,
    mut draining: watch::Receiver<bool>,
) {
    let stream: Box<dyn Io> = Box::new(Patient::new(stream, app.options.write_timeout, Arc::downgrade(&place)));
    let told = place.told_to_leave();
    let secured = tokio::select! {
        secured = secure(stream, &app) => secured,
        () = told => return,
    };
    let stream = match secured {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "no encrypted connection"),
    };
    place.rest();
    let peer = Peer(peer.map(|peer| peer.ip()));
    let of = place.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let busy = of.busy();
        let mut request: Request = Arriving::of(request, busy.clone()).map(axum::body::Body::new);
        request.extensions_mut().insert(peer);
        let answering = router.clone().oneshot(request);
        async move {
            let mut answer = answering.await?;
            if busy.place().is_wanted() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _busy: busy }))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.read_timeout)
        .max_buf_size(app.options.max_headers.max(8 << 10).max(WRITE_BUFFER));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let (mut told, mut ends) = (Box::pin(place.told_to_leave()), false);
    let served = loop {
        tokio::select! {
            served = &mut connection => break served,
            () = ended(&mut draining), if !ends => ends = true,
            () = &mut told => {
                told.set(place.told_to_leave());
                if place.is_busy() {
                    ends = true;
                } else if let Ok(served) = tokio::time::timeout(LAST_LOOK, &mut connection).await {
                    break served;
                } else if place.must_leave() {
                    // Without a request, there is nothing to send.
                    if !place.was_asked() {
                        break Ok(());
                    }
                    ends = true;
                }
            }
        }
        if ends {
            // The answer under way is the last of this connection.
            Pin::new(&mut connection).graceful_shutdown();
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, draining = app.draining.load(Relaxed), "a connection ended");
    }
    let stream = connection.into_parts().io.into_inner();
    drop(place);
    let _ = tokio::time::timeout(LINGER, close(stream)).await;
}

/// Closes a connection. What its client still sends is read until it closes its half: it would find the last answer gone else.
async fn close(mut stream: Box<dyn Io>) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await?;
    let mut rest = [0; 4 << 10];
    loop {
        let mut rest = ReadBuf::new(&mut rest);
        poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut rest)).await?;
        if rest.filled().is_empty() {
            return Ok(());
        }
    }
}
