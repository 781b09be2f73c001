//! What operations ask over HTTP: `/metrics`, `/livez` and `/readyz`, on one port.
//!
//! *Live* says that the process works, also while a broker is away: restarting it would help nobody. *Ready* says that it
//! does what it is there for now, and if not, why. Whoever has no token, where there are some, is told only whether it is.

mod connections;
mod tls;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::runtime;

use crate::cli::Misconfigured;
use crate::config;
use tls::Certificate;
use tokens::{Role, Tokens};

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
    tokens: Tokens,
}

/// What the port is protected with, as its files and variables have it.
pub fn protection(http: &config::Http) -> Result<(Option<Certificate>, Tokens)> {
    let open = |(chain, key): &(_, _)| Certificate::open(PathBuf::clone(chain), PathBuf::clone(key));
    let certificate = http.certificate.as_ref().map(open).transpose();
    Ok((certificate.map_err(|error| Misconfigured(format!("{error:#}")))?, Tokens::read(http)?))
}

/// Listens, and answers on a thread of its own as long as the process lives. Where it listens, for port 0.
pub fn serve(http: &config::Http, registry: Registry, health: Health) -> Result<SocketAddr> {
    let listen = http.listen;
    let (certificate, tokens) = protection(http)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(listen)).with_context(|| {
        format!("cannot listen on {listen}: let [http] listen name an address and port of this machine that is free")
    })?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { registry, health, tokens });
    let serve = move || runtime.block_on(connections::serve(listener, certificate, router));
    thread::Builder::new().name("http".to_owned()).spawn(serve)?;
    Ok(address)
}

/// The answer to whoever may not do what takes this role.
fn refused(tokens: &Tokens, headers: &HeaderMap, needs: Role) -> Option<Response> {
    match tokens.role(headers) {
        Some(role) if role >= needs => None,
        Some(_) => Some((StatusCode::FORBIDDEN, "the token is not one for this\n").into_response()),
        None => {
            let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
            Some((StatusCode::UNAUTHORIZED, wanted, "a token is needed: Authorization: Bearer …\n").into_response())
        }
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(refused) = refused(&shared.tokens, &headers, Role::Read) {
        return refused;
    }
    match TextEncoder::new().encode_to_string(&shared.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let problems = shared.health.problems();
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    let may_know = shared.tokens.role(&headers).is_some();
    let why = if may_know { problems.concat() } else { "not ready\n".to_owned() };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
