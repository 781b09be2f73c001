//! The `postgres` sink: tables in a schema of its own, for whoever asks in SQL.
//!
//! | table | holds |
//! |---|---|
//! | `alerts`, `alert_changes` | every alert as it stands; every change of it |
//! | `scores`, `facts` | the latest of each key; facts of all kinds together, as a correction may change one's kind |
//! | `cursors` | how far each lane has come, and whose turn it is |
//! | `migrations` | what has made the schema what it is |
//!
//! A batch is one transaction: its rows and the cursor behind them, or nothing. That makes delivery effectively once:
//! - *One owner.* Claiming a lane raises its epoch. A transaction first locks the lane's row, and if the epoch there is
//!   not its own, it changes nothing and [another has taken over](SinkError::Lost).
//! - *COMMIT without an answer.* The next attempt reads the cursor, which waits for the transaction to end whichever
//!   way, and sends the batch again only if it is not there.
//! - *Newer stands.* A row is only overwritten by one of the same or a higher version (alerts: sequence), so that the
//!   rows are the same however lanes interleave and batches are cut.
//! - *Tombstones* carry a key and no version, and leave nothing behind, since a key may name a person who wishes to be
//!   forgotten. What keeps an older version from coming back is order: a key's changes all come in one lane, a lane's
//!   in order, and nothing from before the cursor comes again without what followed it. So no lane may be read by two
//!   feeds that disagree, and a schema that an outbox has filled is refused to any other lane of the sink.
//!
//! What a row's data causes (a check that somebody has added, a number that `jsonb` refuses) is found out by halving
//! the batch; what can be seen without asking the server (a NUL character, which no text in PostgreSQL can have) is
//! rejected at once. Both become dead letters.
//!
//! Rows are sent as one array of texts a column, to `insert … select … from unnest(…) on conflict`. Measured with 4,096
//! facts a batch and all indexes, for each second of the server's CPU: 68,000 rows are inserted and 57,000 updated, 37
//! columns each. `copy` into a temporary table does 73,000 and 59,000, needs a privilege more, and three round trips
//! where few changes come at once.

mod address;
mod connection;
mod error;
mod members;
mod migrate;
mod rows;
mod schema;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time;
use zeroize::Zeroizing;

use crate::sink::{Batch, BoxFuture, Cursor, Delivered, Lane, Sink, SinkError, Start};
use address::Address;
use connection::{Claim, Connection};
pub use error::{Advice, Cause, PostgresError};
use rows::Rows;
use schema::Schema;

/// For a batch and, where the connection has to be made again, that too. Half of it is plenty for a server that works.
const DELIVER_WITHIN: Duration = Duration::from_secs(30);

/// What a PostgreSQL sink is made of.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Its name in the configuration; together with the lane it names a cursor.
    pub name: String,
    /// `postgresql://user@host:5432/database?sslmode=verify-full`, as libpq has it.
    pub url: String,
    /// In the place of one in the URL.
    pub password: Option<Zeroizing<String>>,
    /// The schema that the tables are in; made if it does not exist.
    pub schema: String,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have a password in it.
        f.debug_struct("PostgresConfig").field("name", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What a look at the server has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The server's version, in its own words.
    pub server: String,
    /// Migrations that a start would apply; with all of them outstanding the schema is not touchline's yet.
    pub pending: usize,
    /// Whether the role may apply them.
    pub may_migrate: bool,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
}

/// The sink; see the module.
pub struct PostgresSink {
    name: String,
    address: Address,
    schema: Schema,
    connection: Option<Connection>,
    epochs: HashMap<Lane, i64>,
    /// A batch of which nobody knows whether it was committed.
    doubt: Option<(Lane, Cursor)>,
}

impl PostgresSink {
    /// The sink of a configuration that can be used. Nothing is sent.
    pub fn new(config: &PostgresConfig) -> Result<PostgresSink, PostgresError> {
        let (address, schema) = (Address::of(config)?, Schema::new(&config.schema)?);
        let (name, epochs) = (config.name.clone(), HashMap::new());
        Ok(PostgresSink { name, address, schema, connection: None, epochs, doubt: None })
    }

    /// Logs in and looks, without changing anything: for people who check a configuration.
    pub async fn probe(&self) -> Result<Probe, PostgresError> {
        const LOOK: &str = "select current_setting('server_version'), \
                            coalesce((select pg_has_role(nspowner, 'usage') or has_schema_privilege(oid, 'create') \
                                      from pg_catalog.pg_namespace where nspname = $1), \
                                     has_database_privilege(current_database(), 'create')), \
                            coalesce((select ssl from pg_catalog.pg_stat_ssl where pid = pg_backend_pid()), false)";
        let refused = PostgresError::statement("tell about itself");
        let (client, _) = connection::log_in(&self.address, &self.schema).await?;
        let pending = migrate::pending(&client, &self.schema).await?.len();
        let row = client.query_one(LOOK, &[&self.schema.name()]).await.map_err(&refused)?;
        let read = || {
            Ok(Probe { server: row.try_get(0)?, pending, may_migrate: row.try_get(1)?, is_encrypted: row.try_get(2)? })
        };
        read().map_err(&refused)
    }

    async fn take_over(&mut self, lane: &Lane) -> Result<Start, PostgresError> {
        self.release(lane);
        let connection = open(&mut self.connection, &self.address, &self.schema).await?;
        let (epoch, cursor) = connection.claim(&self.name, lane, &self.schema).await?;
        self.epochs.insert(lane.clone(), epoch);
        Ok(Start::At(cursor))
    }

    async fn store(&mut self, lane: &Lane, rows: Vec<Rows<'_>>, next: Option<&Cursor>) -> Result<(), PostgresError> {
        let epoch = *self.epochs.get(lane).ok_or_else(|| PostgresError::Unclaimed(lane.clone()))?;
        let claim = Claim { sink: &self.name, lane, epoch };
        let connection = open(&mut self.connection, &self.address, &self.schema).await?;
        if let (Some((of, doubtful)), Some(next)) = (&self.doubt, next)
            && (of, doubtful) == (lane, next)
            && connection.cursor(claim).await?.as_ref() == Some(next)
        {
            self.doubt = None;
            return Ok(());
        }
        let transaction = connection.write(claim, rows, next).await?;
        // Until the server answers. A batch that moves no cursor is sent again, which changes nothing.
        self.doubt = next.map(|next| (lane.clone(), next.clone()));
        let committed = transaction.commit().await.map_err(PostgresError::statement("commit a batch"));
        if !committed.as_ref().is_err_and(PostgresError::is_ambiguous) {
            self.doubt = None;
        }
        committed
    }
}

/// A session like the last one, or another where that has ended.
async fn open<'a>(
    held: &'a mut Option<Connection>,
    address: &Address,
    schema: &Schema,
) -> Result<&'a mut Connection, PostgresError> {
    let connection = match held.take().filter(|connection| !connection.is_closed()) {
        Some(connection) => connection,
        None => Connection::open(address, schema).await?,
    };
    Ok(held.insert(connection))
}

impl Sink for PostgresSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn claim<'a>(&'a mut self, lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        Box::pin(async { Ok(self.take_over(lane).await?) })
    }

    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async {
            let rows = Rows::of(&batch.changes).map_err(SinkError::RejectThese)?;
            let stored = time::timeout(DELIVER_WITHIN, self.store(lane, rows, batch.next.as_ref())).await;
            match stored {
                Ok(stored) => stored?,
                Err(_) => {
                    // What the server is busy with ends by its own time limit.
                    if let Some(connection) = self.connection.take() {
                        connection.abandon();
                    }
                    let seconds = DELIVER_WITHIN.as_secs();
                    Err(PostgresError::Silent { at: self.address.to_string(), seconds })?;
                }
            }
            Ok(Delivered::Stored)
        })
    }

    fn release(&mut self, lane: &Lane) {
        self.epochs.remove(lane);
        if self.doubt.as_ref().is_some_and(|(of, _)| of == lane) {
            self.doubt = None;
        }
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.connection = None;
        Box::pin(async { Ok(()) })
    }
}
