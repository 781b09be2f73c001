//! The schema that the tables are in.

use std::fmt;

use sha2::{Digest, Sha256};

use super::error::PostgresError;

/// What PostgreSQL keeps of a name.
const NAME_BYTES: usize = 63;

/// A name that needs no quotes, so that people need none either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// The schema of this name, if it can be one.
    pub fn new(name: &str) -> Result<Schema, PostgresError> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let is_begun = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        let is_taken = name.starts_with("pg_") || name == "information_schema";
        if !is_plain || !is_begun || is_taken || name.len() > NAME_BYTES {
            return Err(PostgresError::Schema(name.to_owned()));
        }
        Ok(Schema(name.to_owned()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its name in a statement: a word of SQL's own is one of the allowed names.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The name of something in it.
    pub fn qualified(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.0)
    }

    /// What those who change the schema lock: a number that nobody else has by chance.
    pub fn lock(&self) -> i64 {
        let hash = Sha256::new().chain_update("touchline migrations ").chain_update(&self.0).finalize();
        hash.iter().take(size_of::<i64>()).fold(0, |number, byte| number << 8 | i64::from(*byte))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_name_that_needs_no_quotes() {
        let longest = "a".repeat(63);
        for name in ["touchline", "t", "_1", "select", &longest] {
            assert!(Schema::new(name).is_ok(), "{name}");
        }
        for name in
            ["", "Touchline", "1a", "a-b", "a b", "a\"b", "ü", "pg_a", "information_schema", &format!("{longest}a")]
        {
            assert!(Schema::new(name).is_err(), "{name}");
        }
        assert_ne!(Schema::new("a").unwrap().lock(), Schema::new("b").unwrap().lock());
    }
}
