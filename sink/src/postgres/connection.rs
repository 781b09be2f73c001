//! One session with the server, and the statements that a sink needs, prepared.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};
use touchline_core::notice::Notice;
use tracing::{info, warn};

use super::address::Address;
use super::error::{Cause, PostgresError};
use super::migrate;
use super::rows::{Rows, TableRows, Values};
use super::schema::Schema;
use super::table::TABLES;
use crate::sink::{Cursor, Lane};

/// To connect, agree on TLS and log in, whatever number of hosts is tried.
const OPEN_WITHIN: Duration = Duration::from_secs(15);
/// What every statement may take. Rows that somebody else has locked are waited for more shortly, so that it is known
/// why; a session that a crash has left in a transaction ends by itself, before it holds up its successor for long.
/// Times are read and written in UTC, and what is committed is durable, whatever the server's defaults are.
const SETTINGS: &str = "set statement_timeout = '20s'; set lock_timeout = '10s'; \
                        set idle_in_transaction_session_timeout = '30s'; set timezone = 'UTC'; \
                        select set_config('synchronous_commit', 'on', false) \
                        where current_setting('synchronous_commit') = 'off'";

/// Raises the epoch, once a transaction of the epoch before has ended.
const CLAIM: &str = "insert into cursors as held (sink, lane, epoch, claimed_at) values ($1, $2, 1, now()) \
                     on conflict (sink, lane) do update set epoch = held.epoch + 1, claimed_at = now() \
                     returning epoch, cursor";
/// A lane whose rows do not compare with this one's: an outbox is all of a state, and a state begins its versions anew.
const OTHER_FEED: &str = "select lane from cursors where sink = $1 and lane <> $2 \
                          and (starts_with($2, 'outbox/') or starts_with(lane, 'outbox/')) order by lane limit 1";
/// Changes nothing in another epoch. The row stays locked until the transaction ends, so that a claim waits for it.
const FENCE: &str = "update cursors set cursor = coalesce($4, cursor), stored_at = now() \
                     where sink = $1 and lane = $2 and epoch = $3";
/// Finds nothing in another epoch. Waits until a transaction of which nobody knows the end has ended.
const CHECK: &str = "select cursor from cursors where sink = $1 and lane = $2 and epoch = $3 for update";

/// Forgets the alerts of contacts, and writes down that it has.
const ERASE: &str = "select erase_alerts(account, contact, id, sequence, erased_at::timestamptz) \
                     from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) \
                     as given (account, contact, id, sequence, erased_at)";

/// A session.
pub struct Connection {
    client: Client,
    socket: AbortHandle,
    fence: Statement,
    erase: Statement,
    /// Those of each table, in the order of [`TABLES`].
    tables: Vec<TableStatements>,
}

struct TableStatements {
    delete: Statement,
    upsert: Statement,
}

/// A lane that a sink has taken over.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub sink: &'a str,
    pub lane: &'a Lane,
    pub epoch: i64,
}

/// Logs in. Nothing has been read or written when it returns.
pub async fn log_in(address: &Address, schema: &Schema) -> Result<(Client, AbortHandle), PostgresError> {
    let silent = |_| PostgresError::Silent { at: address.to_string(), seconds: OPEN_WITHIN.as_secs() };
    let failed = |error| PostgresError::connect(&address.to_string(), error);
    let opened = async {
        let (client, socket) = address.config().connect(address.tls()).await?;
        let at = address.to_string();
        let socket = tokio::spawn(async move {
            // Whoever waits for an answer learns only that there is none.
            if let Err(error) = socket.await {
                warn!(at, reason = %Cause::new(error), "the connection to PostgreSQL has ended");
            }
        });
        client.batch_execute(SETTINGS).await?;
        // Temporary objects last: nobody else's can be taken for ours.
        client.batch_execute(&format!("set search_path = {}, pg_temp", schema.quoted())).await?;
        Ok((client, socket.abort_handle()))
    };
    time::timeout(OPEN_WITHIN, opened).await.map_err(silent)?.map_err(failed)
}

impl Connection {
    /// Logs in, brings the schema up to date and prepares.
    pub async fn open(address: &Address, schema: &Schema) -> Result<Connection, PostgresError> {
        let (mut client, socket) = log_in(address, schema).await?;
        let migrations = migrate::bring_up(&mut client, schema).await?;
        if migrations > 0 {
            info!(%schema, migrations, at = %address, "the schema has been brought up to date");
        }
        let refused = PostgresError::statement("prepare statements");
        let fence = client.prepare(FENCE).await.map_err(&refused)?;
        let erase = client.prepare(ERASE).await.map_err(&refused)?;
        let mut tables = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            let delete = client.prepare(&table.delete()).await.map_err(&refused)?;
            let upsert = client.prepare(&table.upsert()).await.map_err(&refused)?;
            tables.push(TableStatements { delete, upsert });
        }
        Ok(Connection { client, socket, fence, erase, tables })
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends it without waiting for the server, which may never answer.
    pub fn abandon(self) {
        self.socket.abort();
    }

    /// Takes a lane over for a sink: the epoch from here on, and the cursor.
    pub async fn claim(
        &mut self,
        sink: &str,
        lane: &Lane,
        schema: &Schema,
    ) -> Result<(i64, Option<Cursor>), PostgresError> {
        let refused = PostgresError::statement("claim a lane");
        let transaction = self.client.transaction().await.map_err(&refused)?;
        let other = transaction.query_opt(OTHER_FEED, &[&sink, &lane.as_str()]).await.map_err(&refused)?;
        if let Some(other) = other {
            let (sink, schema, other) = (sink.to_owned(), schema.to_string(), other.try_get(0).map_err(&refused)?);
            return Err(PostgresError::OtherFeed { sink, schema, lane: lane.clone(), other });
        }
        let row = transaction.query_one(CLAIM, &[&sink, &lane.as_str()]).await.map_err(&refused)?;
        transaction.commit().await.map_err(&refused)?;
        let (epoch, cursor) = (row.try_get(0), row.try_get::<_, Option<Vec<u8>>>(1));
        Ok((epoch.map_err(&refused)?, cursor.map_err(&refused)?.map(Cursor::new)))
    }

    /// The cursor that is stored of a lane, once every transaction that could change it has ended.
    pub async fn cursor(&mut self, claim: Claim<'_>) -> Result<Option<Cursor>, PostgresError> {
        let refused = PostgresError::statement("read the cursor");
        let row = self.client.query_opt(CHECK, &[&claim.sink, &claim.lane.as_str(), &claim.epoch]).await;
        let row = row.map_err(&refused)?.ok_or_else(|| PostgresError::Lost(claim.lane.clone()))?;
        let cursor: Option<Vec<u8>> = row.try_get(0).map_err(&refused)?;
        Ok(cursor.map(Cursor::new))
    }

    /// Writes rows and moves the cursor, if there is another, in a transaction that is left to be committed.
    pub async fn write(
        &mut self,
        claim: Claim<'_>,
        parts: Vec<Rows<'_>>,
        next: Option<&Cursor>,
    ) -> Result<Transaction<'_>, PostgresError> {
        let refused = PostgresError::statement("store a batch");
        let transaction = self.client.transaction().await.map_err(&refused)?;
        let next = next.map(Cursor::as_bytes);
        let held: [&(dyn ToSql + Sync); 4] = [&claim.sink, &claim.lane.as_str(), &claim.epoch, &next];
        if transaction.execute(&self.fence, &held).await.map_err(&refused)? == 0 {
            return Err(PostgresError::Lost(claim.lane.clone()));
        }
        for mut rows in parts {
            for (rows, statements) in rows.take_tables().iter().zip(&self.tables) {
                statements.write(&transaction, rows).await.map_err(&refused)?;
            }
            if !rows.erased().is_empty() {
                let given = |value: fn(&Notice<'_>) -> String| rows.erased().iter().map(value).collect::<Vec<_>>();
                let (accounts, contacts) = (given(|it| it.account.to_string()), given(|it| it.contact.to_string()));
                let (ids, times) = (given(|it| it.id.to_string()), given(|it| it.erased_at.to_string()));
                let sequences: Vec<i64> = rows.erased().iter().map(|notice| notice.sequence).collect();
                let given: [&(dyn ToSql + Sync); 5] = [&accounts, &contacts, &ids, &sequences, &times];
                transaction.execute(&self.erase, &given).await.map_err(&refused)?;
            }
        }
        Ok(transaction)
    }
}

impl TableStatements {
    async fn write(&self, transaction: &Transaction<'_>, rows: &TableRows<'_>) -> Result<(), tokio_postgres::Error> {
        if !rows.deleted.is_empty() {
            transaction.execute(&self.delete, &[&rows.deleted]).await?;
        }
        if !rows.written.is_empty() {
            let columns = columns(&rows.written);
            let columns: Vec<_> = columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
            transaction.execute(&self.upsert, &columns).await?;
        }
        Ok(())
    }
}

/// Rows turned into columns. One without a value in any row is left empty: where the arrays of `unnest` end early, it
/// gives nulls, and most rows have no value in most columns.
fn columns<'a>(rows: &'a [Values<'_>]) -> Vec<Vec<Option<&'a str>>> {
    let width = rows.first().map_or(0, Vec::len);
    let mut columns = Vec::with_capacity(width);
    for column in 0..width {
        let values: Vec<_> = rows.iter().map(|row| row.get(column).and_then(Option::as_deref)).collect();
        columns.push(if values.iter().any(Option::is_some) { values } else { Vec::new() });
    }
    columns
}
