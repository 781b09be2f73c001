//! A database of a test's own, and what is in it.

use tokio_postgres::{Client, NoTls};
use touchline_harness::Postgres;
use touchline_sink::postgres::{PostgresConfig, PostgresSink};
use touchline_sink::{Batch, Change, Delivered, Lane, Sink, SinkError};

use crate::kit::cursor_at;

pub struct Place {
    pub url: String,
}

impl Place {
    pub fn new() -> Place {
        Place { url: Postgres::shared().database() }
    }

    pub fn config(&self) -> PostgresConfig {
        config(&self.url)
    }

    pub fn sink(&self) -> PostgresSink {
        PostgresSink::new(&self.config()).unwrap()
    }

    /// The rows of the last statement, columns with `|` between them and `-` for null.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        let rows = Postgres::shared().query(&self.url, &format!("set search_path = touchline; {sql}"));
        let shown = |row: Vec<Option<String>>| row.into_iter().map(|column| column.unwrap_or("-".to_owned()));
        rows.into_iter().map(|row| shown(row).collect::<Vec<_>>().join("|")).collect()
    }

    /// All that a reader finds, and how far the lanes have come.
    pub fn tables(&self) -> Vec<String> {
        let tables = ["alerts", "alert_changes", "scores", "facts"];
        let all = tables.map(|table| format!("select '{table}', row_to_json({table})::text from {table}"));
        let cursors = "select lane, encode(cursor, 'hex') from cursors";
        self.ask(&format!("{} union all {cursors} order by 1, 2", all.join(" union all ")))
    }

    /// The URL for another role.
    pub fn url_of(&self, role: &str) -> String {
        self.url.replacen("postgres@", &format!("{role}@"), 1)
    }
}

pub fn config(url: &str) -> PostgresConfig {
    PostgresConfig { name: "warehouse".to_owned(), url: url.to_owned(), password: None, schema: "touchline".to_owned() }
}

/// A session that a test keeps open.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A batch that ends before `next`.
pub fn batch(changes: &[Change], next: usize) -> Batch {
    Batch { changes: changes.to_vec(), next: Some(cursor_at(next)), published_at: None }
}

/// Claims the lane and delivers the changes in one batch.
pub async fn deliver(sink: &mut PostgresSink, lane: &Lane, changes: &[Change]) -> Result<Delivered, SinkError> {
    sink.claim(lane).await?;
    sink.deliver(lane, &batch(changes, changes.len())).await
}
