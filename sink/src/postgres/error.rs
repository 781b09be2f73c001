//! What goes wrong with PostgreSQL, and what can be done about it.

use std::fmt;
use std::io;

use tokio_postgres::error::{DbError, SqlState};

use crate::sink::{Lane, SinkError};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The address cannot be used as it is.
    #[error("`url` of a PostgreSQL sink {0}")]
    Url(String),
    /// The schema's name cannot be used.
    #[error(
        "`schema` of a PostgreSQL sink is {0:?}: it must be up to 63 lower-case letters, digits and underscores, not begin \
         with a digit or `pg_`, and not be information_schema"
    )]
    Schema(String),
    /// The certificate that the server's must be signed by.
    #[error("the certificates in {path} (`sslrootcert`) cannot be used")]
    RootCertificate {
        /// As given.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up")]
    Tls(#[source] native_tls::Error),
    /// The server cannot be reached, or lets nobody in.
    #[error("no connection to PostgreSQL at {at}{advice}")]
    Connect {
        /// Host and port, or more of them.
        at: String,
        /// What to do, if something can be done.
        advice: Advice,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A statement was refused, or its answer never came.
    #[error("PostgreSQL could not {what}{advice}")]
    Statement {
        /// What was asked.
        what: &'static str,
        /// What to do, if something can be done.
        advice: Advice,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("PostgreSQL at {at} has not answered for {seconds} s")]
    Silent {
        /// Host and port, or more of them.
        at: String,
        /// For how long.
        seconds: u64,
    },
    /// The database is ahead of this program.
    #[error(
        "schema {schema} was brought to version {found} by a newer touchline ({by}), and this one knows version {known}: run \
         that touchline or a newer one, or give this one a schema of its own"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its version.
        found: i32,
        /// Who made it so.
        by: String,
        /// The last version known here.
        known: i32,
    },
    /// A migration has been applied that is not the one of this program.
    #[error(
        "schema {schema} was made by another touchline: migration {version} is not this one's; run the touchline that made \
         it, or give this one a schema of its own"
    )]
    Foreign {
        /// The schema.
        schema: String,
        /// The migration.
        version: i32,
    },
    /// The rows in the schema are of something else.
    #[error(
        "sink {sink} has filled schema {schema} from {other}, and cannot fill it from {lane} as well: versions of different \
         states do not compare; give this one a schema of its own, or drop that one (drop schema {schema} cascade)"
    )]
    OtherFeed {
        /// The sink.
        sink: String,
        /// The schema.
        schema: String,
        /// The lane that is to be claimed.
        lane: Lane,
        /// A lane that was.
        other: String,
    },
    /// Another process has claimed the lane.
    #[error("{0} has been taken over")]
    Lost(Lane),
    /// A lane was not claimed, which is a mistake of the caller.
    #[error("{0} was not claimed")]
    Unclaimed(Lane),
}

/// What to do about an error; nothing is said where there is nothing to do but wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice(&'static str);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; {}", self.0) }
    }
}

/// Why the server or the connection failed, in one line, without the values of rows.
#[derive(Debug)]
pub struct Cause {
    error: tokio_postgres::Error,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.as_db_error() {
            Some(refusal) => write_refusal(refusal, f),
            // Its sources follow by themselves.
            None => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.error.as_db_error() {
            Some(_) => None,
            None => self.error.source(),
        }
    }
}

/// Details of other classes than data exceptions repeat whole rows, which belong in the dead letter and not in a log.
fn write_refusal(refusal: &DbError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let code = refusal.code().code();
    write!(f, "{} (SQLSTATE {code}", refusal.message())?;
    for (what, name) in [("table", refusal.table()), ("constraint", refusal.constraint()), ("column", refusal.column())]
    {
        if let Some(name) = name {
            write!(f, ", {what} {name}")?;
        }
    }
    match refusal.detail() {
        Some(detail) if code.starts_with("22") => write!(f, ": {detail})"),
        _ => f.write_str(")"),
    }
}

/// What can be done about an error of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Try again.
    Retry,
    /// A row is to blame.
    Row,
    /// Nothing, unless a person acts.
    Fatal(&'static str),
}

impl Cause {
    pub(super) fn new(error: tokio_postgres::Error) -> Cause {
        Cause { error }
    }

    /// Whether the server has said that it did not do what it was asked, and has stayed.
    pub fn is_refusal(&self) -> bool {
        self.error.as_db_error().is_some_and(|refusal| refusal.severity() == "ERROR")
    }

    fn class(&self) -> Class {
        match self.error.as_db_error() {
            Some(refusal) => class_of(refusal.code()),
            None => self.class_of_connection(),
        }
    }

    /// What comes from the network may pass; what the client itself refuses does not.
    fn class_of_connection(&self) -> Class {
        use std::error::Error;
        match self.error.source() {
            None => Class::Retry,
            Some(source) if source.is::<io::Error>() || source.is::<native_tls::Error>() => Class::Retry,
            Some(_) => Class::Fatal("check `url`, `password` and what the server demands of a connection"),
        }
    }

    fn advice(&self) -> Advice {
        match self.class() {
            Class::Fatal(advice) => Advice(advice),
            Class::Retry | Class::Row => Advice(""),
        }
    }
}

/// By the class of the SQLSTATE (appendix A of the manual), which is the same in every release and language.
fn class_of(state: &SqlState) -> Class {
    const RETRIED: [&str; 6] = ["08", "40", "53", "55", "57", "58"];
    const OF_ROWS: [&str; 4] = ["22", "23", "44", "54"];
    let code = state.code();
    let class = code.get(..2).unwrap_or_default();
    match code {
        // A server that is going down, a standby that will be promoted, somebody who cancels.
        "25006" => Class::Retry,
        // What a trigger raises, to refuse a row.
        "P0001" => Class::Row,
        "42501" => Class::Fatal(
            "grant the role what it needs: `create` on the database, or a schema that it owns; for reading and writing alone, \
             `usage` on the schema and `select, insert, update, delete` on its tables",
        ),
        "3D000" => Class::Fatal("create the database, or correct `url`"),
        _ if class == "28" => Class::Fatal("correct the user in `url`, `password`, or pg_hba.conf"),
        _ if RETRIED.contains(&class) => Class::Retry,
        _ if OF_ROWS.contains(&class) => Class::Row,
        _ if class == "42" => Class::Fatal(
            "the schema is not as touchline has made it: restore it, or drop it and let it be filled again",
        ),
        _ => Class::Fatal("see the server's log"),
    }
}

impl PostgresError {
    pub(super) fn connect(at: &str, error: tokio_postgres::Error) -> PostgresError {
        let source = Cause::new(error);
        PostgresError::Connect { at: at.to_owned(), advice: source.advice(), source }
    }

    /// Whether a COMMIT that ended so may have been carried out: anything but a refusal by a server that is still there.
    pub(super) fn is_ambiguous(&self) -> bool {
        !matches!(self, PostgresError::Statement { source, .. } if source.is_refusal())
    }

    /// For `map_err`.
    pub(super) fn statement(what: &'static str) -> impl Fn(tokio_postgres::Error) -> PostgresError {
        move |error| {
            let source = Cause::new(error);
            PostgresError::Statement { what, advice: source.advice(), source }
        }
    }
}

impl From<PostgresError> for SinkError {
    fn from(error: PostgresError) -> SinkError {
        let class = match &error {
            PostgresError::Lost(lane) => return SinkError::Lost(lane.clone()),
            PostgresError::Silent { .. } => Class::Retry,
            // Nothing that a row can cause happens before a statement.
            PostgresError::Connect { source, .. } if source.class() != Class::Row => source.class(),
            PostgresError::Statement { source, .. } => source.class(),
            _ => Class::Fatal(""),
        };
        match class {
            Class::Retry => SinkError::Retry(error.into()),
            Class::Row => SinkError::RejectSome(error.into()),
            Class::Fatal(_) => SinkError::Fatal(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_an_error_is_that_of_its_state() {
        let check = |codes: &[&str], class: fn(Class) -> bool| {
            for code in codes {
                assert!(
                    class(class_of(&SqlState::from_code(code))),
                    "{code}: {:?}",
                    class_of(&SqlState::from_code(code))
                );
            }
        };
        let retried =
            ["08006", "25006", "40001", "40P01", "53300", "53100", "55P03", "57014", "57P01", "57P03", "58030"];
        check(&retried, |class| class == Class::Retry);
        check(&["22003", "22P02", "22P05", "23505", "23514", "44000", "54000", "P0001"], |class| class == Class::Row);
        let fatal = ["28P01", "28000", "3D000", "42501", "42P01", "42703", "XX001", "0A000", "?"];
        check(&fatal, |class| matches!(class, Class::Fatal(advice) if !advice.is_empty()));
    }
}
