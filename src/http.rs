//! What operations ask over HTTP: `/metrics`, `/livez` and `/readyz`, on one port.
//!
//! *Live* says that the process works, also while a broker is away: restarting it would help nobody. *Ready* says that it
//! does what it is there for now, and if not, why.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::runtime;

/// Says why a stage is not ready; `None`: it is.
pub type Problem = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What the stages of this process say of themselves.
#[derive(Clone, Default)]
pub struct Health {
    stages: Arc<Mutex<Vec<(String, Problem)>>>,
}

impl Health {
    /// From here on a stage is asked, too.
    pub fn watch(&self, stage: impl Into<String>, problem: Problem) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).push((stage.into(), problem));
    }

    /// A line for each stage that is not ready.
    fn problems(&self) -> Vec<String> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().filter_map(|(stage, problem)| Some(format!("{stage}: {}\n", problem()?))).collect()
    }
}

#[derive(Clone)]
struct Shared {
    registry: Registry,
    health: Health,
}

/// Listens, and answers on a thread of its own as long as the process lives. Where it listens, for port 0.
pub fn serve(listen: SocketAddr, registry: Registry, health: Health) -> Result<SocketAddr> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(listen)).with_context(|| {
        format!("cannot listen on {listen}: let [http] listen name an address and port of this machine that is free")
    })?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { registry, health });
    let serve = move || {
        if let Err(error) = runtime.block_on(axum::serve(listener, router).into_future()) {
            tracing::error!(%error, "nobody answers on the port of [http] any more");
        }
    };
    thread::Builder::new().name("http".to_owned()).spawn(serve)?;
    Ok(address)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match TextEncoder::new().encode_to_string(&shared.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    let problems = shared.health.problems();
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.concat()).into_response()
}
