//! Brings a schema up to the version of this program.
//!
//! - Migrations are numbered files, each applied once, in order, in a transaction of its own, and recorded in the table
//!   `migrations` with a checksum. What has been released is never changed: another file follows it.
//! - Every start checks what is recorded: a schema that is ahead, or was made by other files, is refused.
//! - Processes that start at once wait for each other (an advisory lock); whoever comes second finds it done.
//! - A role that may only read and write is enough once somebody else has applied all of them.

use sha2::{Digest, Sha256};
use tokio_postgres::{Client, Transaction};

use super::error::PostgresError;
use super::schema::Schema;

/// A file of `migrations/`; its place in the list, from 1, is its version.
pub struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),*) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("migrations/", $name, ".sql")) }),*]
    };
}

static MIGRATIONS: &[Migration] = migrations!["0001_tables", "0002_views", "0003_erasures"];

const CREATE_MIGRATIONS: &str = "create table if not exists migrations (version integer primary key, \
                                 name text not null, checksum text not null, applied_at timestamptz not null, \
                                 applied_by text not null)";
/// An index on a large table takes its time, and nobody works on it meanwhile.
const WITHOUT_LIMIT: &str = "set local statement_timeout = 0";

impl Migration {
    fn checksum(&self) -> String {
        Sha256::digest(self.sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is recorded of a migration.
struct Applied {
    version: i32,
    checksum: String,
    by: String,
}

/// Applies what has not been applied; how many migrations that were. The session's search path leads to the schema.
pub async fn bring_up(client: &mut Client, schema: &Schema) -> Result<usize, PostgresError> {
    let pending = pending(client, schema).await?;
    for (version, migration) in &pending {
        apply(client, schema, *version, migration).await?;
    }
    Ok(pending.len())
}

/// The migrations that would be applied to the schema, which is this program's or not there.
pub async fn pending(client: &Client, schema: &Schema) -> Result<Vec<(i32, &'static Migration)>, PostgresError> {
    let refused = PostgresError::statement("look for the migrations of the schema");
    let found = client.query_one("select to_regclass($1) is not null", &[&schema.qualified("migrations")]).await;
    let is_there: bool = found.and_then(|row| row.try_get(0)).map_err(&refused)?;
    let mut applied = Vec::new();
    if is_there {
        let sql = "select version, checksum, applied_by from migrations order by version";
        for row in client.query(sql, &[]).await.map_err(&refused)? {
            let read = || Ok(Applied { version: row.try_get(0)?, checksum: row.try_get(1)?, by: row.try_get(2)? });
            applied.push(read().map_err(&refused)?);
        }
    }
    missing(schema, &applied)
}

/// The migrations that have not been applied; an error if those that have are not the first of ours.
fn missing(schema: &Schema, applied: &[Applied]) -> Result<Vec<(i32, &'static Migration)>, PostgresError> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if let Some(newest) = applied.iter().max_by_key(|applied| applied.version).filter(|newest| newest.version > known) {
        let (schema, by) = (schema.to_string(), newest.by.clone());
        return Err(PostgresError::Newer { schema, found: newest.version, by, known });
    }
    let mut missing = Vec::new();
    for (version, migration) in (1..).zip(MIGRATIONS) {
        match applied.iter().find(|applied| applied.version == version) {
            Some(applied) if applied.checksum == migration.checksum() => {}
            Some(_) => return Err(PostgresError::Foreign { schema: schema.to_string(), version }),
            None => missing.push((version, migration)),
        }
    }
    Ok(missing)
}

async fn apply(client: &mut Client, schema: &Schema, version: i32, migration: &Migration) -> Result<(), PostgresError> {
    let refused = PostgresError::statement("bring the schema up to date");
    let transaction = client.transaction().await.map_err(&refused)?;
    if prepare(&transaction, schema, version).await.map_err(&refused)? {
        transaction.batch_execute(migration.sql).await.map_err(&refused)?;
        let sql =
            "insert into migrations (version, name, checksum, applied_at, applied_by) values ($1, $2, $3, now(), $4)";
        let by = concat!("touchline ", env!("CARGO_PKG_VERSION"));
        transaction.execute(sql, &[&version, &migration.name, &migration.checksum(), &by]).await.map_err(&refused)?;
    }
    transaction.commit().await.map_err(&refused)
}

/// Waits for whoever else is at it, and makes what records migrations; whether this one is still to be applied.
async fn prepare(transaction: &Transaction<'_>, schema: &Schema, version: i32) -> Result<bool, tokio_postgres::Error> {
    transaction.execute("select pg_advisory_xact_lock($1)", &[&schema.lock()]).await?;
    transaction.batch_execute(WITHOUT_LIMIT).await?;
    let sql = "select exists (select from pg_catalog.pg_namespace where nspname = $1)";
    let is_there: bool = transaction.query_one(sql, &[&schema.name()]).await?.try_get(0)?;
    if !is_there {
        // Not `if not exists`: that asks for the privilege even where there is nothing to do.
        transaction.batch_execute(&format!("create schema {}", schema.quoted())).await?;
    }
    transaction.batch_execute(CREATE_MIGRATIONS).await?;
    let sql = "select exists (select from migrations where version = $1)";
    let is_applied: bool = transaction.query_one(sql, &[&version]).await?.try_get(0)?;
    Ok(!is_applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_released_never_changes() {
        let checksums = MIGRATIONS.iter().map(|migration| (migration.name, migration.checksum()));
        let released: [(&str, &str); 3] = [
            ("0001_tables", "afebf793d1c91fbf5533c983ce1488572717ed27e00806b765259474bf1c8b2d"),
            ("0002_views", "dd3745e1716e543ee4d198d1d19b7f11a66ce96679c97ad690e4713d5a459be0"),
            ("0003_erasures", "95976985de04d0a2354594cd388d042b1c54f8a00a2f5b845ac9f7d8df279c74"),
        ];
        for ((name, checksum), released) in checksums.zip(released) {
            assert_eq!((name, &*checksum), released, "a migration that others have applied; add another instead");
        }
        assert_eq!(MIGRATIONS.len(), released.len());
    }

    #[test]
    fn a_schema_is_this_programs_or_refused() {
        let schema = Schema::new("a").unwrap();
        let ours = |version: i32| Applied {
            version,
            checksum: MIGRATIONS[version as usize - 1].checksum(),
            by: "touchline 0.1.0".to_owned(),
        };
        let other = |version| Applied { version, checksum: "other".to_owned(), by: "touchline 9.9.9".to_owned() };
        let check = |applied: &[Applied], expected: Result<&[i32], &str>| match (missing(&schema, applied), expected) {
            (Ok(missing), Ok(expected)) => {
                assert_eq!(missing.iter().map(|(version, _)| *version).collect::<Vec<_>>(), expected);
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (missing, expected) => panic!("{:?} instead of {expected:?}", missing.map(|missing| missing.len())),
        };
        check(&[], Ok(&[1, 2, 3]));
        check(&[ours(1)], Ok(&[2, 3]));
        check(&[ours(1), ours(2), ours(3)], Ok(&[]));
        check(&[ours(1), other(2)], Err("migration 2 is not this one's"));
        check(&[ours(1), ours(2), ours(3), other(4)], Err("version 4 by a newer touchline (touchline 9.9.9)"));
    }
}
