//! Connections: so many at once, and none that keeps us waiting.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;
use tracing::{debug, warn};

use super::tls::Certificate;

/// Connections at once: far more than ask for metrics, far fewer than a process has descriptors.
const CONNECTIONS: usize = 64;
/// To agree on TLS, and then to send the head of a request: who takes longer is gone, or means no good.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// For all that comes over one connection, which a scrape takes a moment of: who does not read its answer keeps a place.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// After no connection could be taken, which descriptors that are in use elsewhere can be the reason of.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers for ever.
pub async fn serve(listener: TcpListener, certificate: Option<Certificate>, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection to the port of [http] could not be taken");
                time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (acceptor, router) = (certificate.as_ref().map(Certificate::acceptor), router.clone());
        tokio::spawn(async move {
            let answered = async {
                match acceptor {
                    None => answer(stream, router).await,
                    Some(acceptor) => match shake_hands(&acceptor, stream).await {
                        Some(stream) => answer(stream, router).await,
                        None => debug!("a connection to the port of [http] was not one of TLS"),
                    },
                }
            };
            // Whoever is cut off comes again.
            let _ = time::timeout(CONNECTION_WITHIN, answered).await;
            drop(place);
        });
    }
}

async fn shake_hands(
    acceptor: &tokio_native_tls::TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_native_tls::TlsStream<TcpStream>> {
    time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await.ok()?.ok()
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "a connection to the port of [http] has ended");
    }
}
