//! Connections: how they are accepted, and what bounds each.
//!
//! `axum::serve` waits for the head of a request for ever, and looks first whether the client speaks HTTP/2 in the clear, for which
//! each connection is read into twice the memory. Thousands of calls that wait are what this server is for.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    serve::Listener,
};
use futures::TryFutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How long a connection may take over the head of its next request, and so how long it may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// The largest head of a request, and the most of a body that is held for a handler that does not read it.
const MOST_BUFFERED: usize = 64 << 10;

/// Serves until `stop`, and then what has begun.
pub(super) async fn serve(mut listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MOST_BUFFERED);
    let open = GracefulShutdown::new();
    while let Some((stream, peer)) = stop.run_until_cancelled(Listener::accept(&mut listener)).await {
        // Answers and events are small, and wanted at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(%peer, %error, "a connection keeps its delay");
        }
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
            router.clone().call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // Not awaited in an async block, which would have room for it twice.
        tokio::spawn(open.watch(connection).map_err(move |error| {
            tracing::trace!(%peer, %error, "a connection broke");
        }));
    }
    drop(listener);
    open.shutdown().await;
}
