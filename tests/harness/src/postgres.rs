//! PostgreSQL.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::proxy::{Protocol, Proxy};
use crate::server::Server;

/// A server of PostgreSQL, that trusts whoever comes.
pub struct Postgres {
    server: Server,
    databases: AtomicU32,
}

impl Postgres {
    /// This process's one, which is not to be stopped: other tests use it.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// One of the test's own.
    pub fn start() -> Postgres {
        // What is written survives the server's death, if not the machine's.
        let settings = ["fsync=off", "max_connections=200"].map(str::to_owned);
        // SIGTERM would wait for its clients to leave.
        let server = Server::start("postgres.sh", "-INT", settings.into(), Vec::new());
        Postgres { server, databases: AtomicU32::new(0) }
    }

    /// Creates a database for one test, and gives its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        query(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// A proxy on the way to it, for whoever takes its port, and does without TLS.
    pub fn proxied(&self) -> Proxy {
        Proxy::start(Protocol::Postgres, 0, self.port())
    }

    /// The URL of a database, for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Runs SQL in the database of a URL, and gives the rows as text, NULL as `None`.
    pub fn query(&self, url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        query(url, sql)
    }

    /// Kills the postmaster with SIGKILL; it is gone when this returns, and its connections are soon.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it in order, cutting its connections; it is gone when this returns.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Starts it again on the same port and data.
    pub fn restart(&self) {
        self.server.restart();
    }
}

/// On a thread of its own, since the caller may be asynchronous.
fn query(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            drop(client);
            connection.await.unwrap().unwrap();
            messages
        })
    };
    let messages = thread::scope(|scope| scope.spawn(run).join().unwrap());
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}
