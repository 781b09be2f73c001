//! Which state a directory holds, in which form, and how one of an earlier version becomes one of this.
//!
//! A value says its own form, and is rewritten in the newest when it next changes. What is put right here, when the
//! state is opened, are whole rows.

use std::ops::RangeInclusive;

use rocksdb::{DB, WriteBatch};
use touchline_core::keys::table;
use touchline_core::step;

use super::{random, synced};
use crate::overlay::{Direction, range};
use crate::{StoreError, keys};

/// What the rows look like.
pub const SCHEMA: u32 = 5;
/// What is read. Another state is made again from the log. In all of these an unfinished record has the same slices.
pub const SCHEMAS: RangeInclusive<u32> = 4..=SCHEMA;

/// Rows that are written together: a state may hold millions.
const BATCH_BYTES: usize = 1 << 20;

/// For people.
pub(crate) fn schemas() -> String {
    format!("{} to {}", SCHEMAS.start(), SCHEMAS.end())
}

/// Which state this is; a new one gets a name at random, and one of an earlier version what it lacks.
pub(super) fn identify(db: &DB, is_writable: bool) -> Result<u64, StoreError> {
    let path = db.path();
    let failed = |error| StoreError::of(path, error);
    if let Some(value) = db.get_pinned(keys::IDENTITY).map_err(failed)? {
        let (schema, name) = value.split_first_chunk().ok_or(StoreError::Foreign { path: path.to_path_buf() })?;
        let found = u32::from_be_bytes(*schema);
        if !SCHEMAS.contains(&found) {
            return Err(StoreError::Schema { path: path.to_path_buf(), found });
        }
        let state = keys::read_sequence(name, 0).map_err(|corrupt| StoreError::row(&keys::IDENTITY, corrupt))?;
        if is_writable && found < SCHEMA {
            add_voided(db)?;
            set(db, state)?;
        }
        return Ok(state);
    }
    let rows = range(db, &[0], &[u8::MAX], Direction::Forward);
    rows.status().map_err(failed)?;
    if rows.valid() {
        return Err(StoreError::Foreign { path: path.to_path_buf() });
    }
    let state = random();
    set(db, state)?;
    Ok(state)
}

/// Last of all, and on the disk: whatever is interrupted before is done again.
fn set(db: &DB, state: u64) -> Result<(), StoreError> {
    let value = [&SCHEMA.to_be_bytes()[..], &state.to_be_bytes()].concat();
    db.put_opt(keys::IDENTITY, value, &synced()).map_err(|error| StoreError::of(db.path(), error))
}

/// The rows by which a contact that is forgotten finds what was voided in its name, which schema 4 did not have.
fn add_voided(db: &DB) -> Result<(), StoreError> {
    let failed = |error| StoreError::of(db.path(), error);
    let mut batch = WriteBatch::default();
    let mut rows = range(db, &[table::REVISION], &[table::REVISION + 1], Direction::Forward);
    while let Some((key, value)) = rows.item() {
        let voided = step::voided(value).map_err(|corrupt| StoreError::row(key, corrupt))?;
        if let Some(voided) = voided {
            batch.put(voided, []);
        }
        if batch.size_in_bytes() >= BATCH_BYTES {
            db.write(std::mem::take(&mut batch)).map_err(failed)?;
        }
        rows.next();
    }
    rows.status().map_err(failed)?;
    db.write(batch).map_err(failed)
}
