//! The state of one partition, in a RocksDB directory of its own.
//!
//! [`Store`] is the core's [`State`]: contacts and accounts are in a [`Cache`], all other rows go through an
//! [`Overlay`]. Nothing reaches the database before [`Store::commit`], which writes all that has changed in one batch
//! together with the journal's position; [`Store::abort`] forgets all that has changed. So the database is always the state
//! at the position that stands in it, and the store is that plus the batch.

mod identity;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rocksdb::{DB, DBPinnableSlice, FlushOptions, WriteBatch, WriteOptions};
use touchline_core::account::Account;
use touchline_core::codec::Corrupt;
use touchline_core::contact::Contact;
use touchline_core::keys::{self as core_keys, table};
use touchline_core::state::{Row, State};

use crate::cache::{Cache, Known, Packed};
use crate::options::Memory;
use crate::outputs::OutputBatch;
use crate::overlay::{Direction, Overlay, merge, range};
use crate::scrub::Scrub;
use crate::snapshot::Uploaded;
use crate::{Outbox, StoreError, keys};
pub(crate) use identity::schemas;
pub use identity::{SCHEMA, SCHEMAS};

/// Changed rows take no more than this in memory before they have to be committed.
const OVERLAY_BYTES: usize = 32 << 20;
/// Nor more than this part of what contacts may take: a process has many stores.
const OVERLAY_SHARE: usize = 8;

/// What a batch has of an output beside its key and value: a second row, which points to the first, and the keys of both.
const ROW_BYTES: usize = 160;

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power, once it has returned.
    Synced,
    /// The end of the process. The loss of power takes the newest commits, whole ones.
    Logged,
    /// Neither, until [`Store::flush`]: for a journal that has it all and can be read again from the last position kept.
    Unlogged,
}

/// One partition's state.
pub struct Store {
    db: Arc<DB>,
    contacts: Cache<Contact>,
    accounts: Cache<Account>,
    rows: Overlay,
    outbox: Outbox,
    /// No event is held before this key: what has been released need not be walked over again.
    held_from: Vec<u8>,
    /// Which of its files are in snapshots.
    uploaded: Uploaded,
    scrub: Scrub,
}

impl Store {
    /// Opens the state in a directory, or begins one there.
    pub fn open(path: &Path, memory: &Memory) -> Result<Store, StoreError> {
        let db = DB::open(&memory.options(), path).map_err(|error| StoreError::of(path, error))?;
        Store::with(db, true, memory)
    }

    /// Opens the state in a directory as it was last committed, to look at it; also while another process has it open.
    /// [`Store::commit`] fails.
    pub fn open_read_only(path: &Path, memory: &Memory) -> Result<Store, StoreError> {
        if !path.join("CURRENT").exists() {
            return Err(StoreError::Missing { path: path.to_path_buf() });
        }
        let mut options = memory.options();
        options.create_if_missing(false);
        let db = DB::open_for_read_only(&options, path, false).map_err(|error| StoreError::of(path, error))?;
        Store::with(db, false, memory)
    }

    fn with(db: DB, is_writable: bool, memory: &Memory) -> Result<Store, StoreError> {
        let db = Arc::new(db);
        let state = identity::identify(&db, is_writable)?;
        let (contacts, accounts) = memory.records();
        let scrub = Scrub::new(is_there(&db, &keys::SCRUB)?, is_there(&db, &keys::END)?);
        Ok(Store {
            outbox: Outbox::open(db.clone(), state, scrub.due())?,
            uploaded: Uploaded::load(db.path()),
            scrub,
            contacts: Cache::new(contacts, has_none(&db, table::CONTACT)?),
            accounts: Cache::new(accounts, has_none(&db, table::ACCOUNT)?),
            rows: Overlay::default(),
            held_from: Vec::new(),
            db,
        })
    }

    /// The journal's position as of the last commit; `None` before the first.
    pub fn position(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.stored(&keys::POSITION)?.map(|value| value.to_vec()))
    }

    /// What was published, for sinks.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Writes all that has changed, `position`, and into the outbox `outputs`: everything or nothing. After an error
    /// [`Store::abort`] is due.
    pub fn commit(
        &mut self,
        position: &[u8],
        outputs: Option<&OutputBatch>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        // More than it takes: to grow would be to copy all of it, and to have it in memory twice.
        let room = outputs.map_or(0, |outputs| outputs.bytes() + outputs.len() * ROW_BYTES);
        let mut batch = WriteBatch::with_capacity_bytes(self.changed_bytes() + room);
        // By key in each table: inserting into the memtable is cheaper when the neighbour is warm.
        self.contacts.each_dirty(|key, packed| write(&mut batch, key, packed));
        self.accounts.each_dirty(|key, packed| write(&mut batch, key, packed));
        for (key, value) in self.rows.iter() {
            write(&mut batch, key, value);
        }
        batch.put(keys::POSITION, position);
        self.scrub.mark(&mut batch, outputs.is_some_and(|outputs| !outputs.is_empty()));
        let mut options = WriteOptions::new();
        options.set_sync(durability == Durability::Synced);
        options.disable_wal(durability == Durability::Unlogged);
        self.outbox.commit(batch, outputs, &options)?;
        self.contacts.settle();
        self.accounts.settle();
        self.rows.clear();
        self.scrub.start(&self.db);
        Ok(())
    }

    /// Waits until nothing is left in the files of what has been deleted for good.
    pub fn finish_scrub(&mut self) -> Result<(), StoreError> {
        if self.scrub.finish(&self.db) {
            self.db.delete_opt(keys::SCRUB, &synced()).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// What has changed takes no more than this.
    fn changed_bytes(&self) -> usize {
        self.contacts.pinned_bytes() + self.accounts.pinned_bytes() + self.rows.bytes()
    }

    /// Forgets all that has changed since the last commit.
    pub fn abort(&mut self) {
        self.contacts.discard_dirty();
        self.accounts.discard_dirty();
        self.rows.clear();
        self.held_from.clear();
    }

    /// Whether the batch should be committed soon: what has changed cannot leave memory before.
    pub fn is_full(&self) -> bool {
        // While it is written, it is in memory three times: here, in the batch, and in RocksDB's write buffer.
        fn has_third<T: Packed>(cache: &Cache<T>) -> bool {
            cache.pinned_bytes() > cache.bound() / 3
        }
        let rows = OVERLAY_BYTES.min(self.contacts.bound() / OVERLAY_SHARE);
        has_third(&self.contacts) || has_third(&self.accounts) || self.rows.bytes() > rows
    }

    /// Makes ready for records of these accounts and contacts.
    pub(crate) fn prefetch<'a>(&self, names: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        self.accounts.prefetch(names.clone().map(|(account, _)| core_keys::account(account)));
        self.contacts.prefetch(names.map(|(account, contact)| core_keys::contact(account, contact)));
    }

    /// What the cached records take, for a gauge.
    pub fn cached_bytes(&self) -> usize {
        self.contacts.bytes() + self.accounts.bytes()
    }

    /// Brings everything committed onto the disk, for [`Durability::Unlogged`] and before a clean end.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.failed(error))
    }

    /// Begins to bring everything committed onto the disk, without waiting for it.
    pub(crate) fn start_flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db.flush_opt(&options).map_err(|error| self.failed(error))
    }

    /// Whether [`Store::close_cleanly`] was the last that happened to it; from here on it no longer is.
    pub(crate) fn reopen(&mut self) -> Result<bool, StoreError> {
        let was_clean = self.stored(&keys::CLEAN)?.is_some();
        if was_clean {
            self.db.delete_opt(keys::CLEAN, &synced()).map_err(|error| self.failed(error))?;
        }
        Ok(was_clean)
    }

    /// Brings everything onto the disk, and says there that nothing is missing.
    pub(crate) fn close_cleanly(&mut self) -> Result<(), StoreError> {
        self.abort();
        self.flush()?;
        self.db.put_opt(keys::CLEAN, [], &synced()).map_err(|error| self.failed(error))
    }

    /// Gives the records so much memory.
    pub(crate) fn limit(&mut self, contacts: usize, accounts: usize) {
        self.contacts.limit(contacts);
        self.accounts.limit(accounts);
    }

    /// Keeps an event until its time has come.
    pub(crate) fn hold(&mut self, at: Timestamp, raw: Vec<u8>) -> Result<(), StoreError> {
        let number = match self.get(&keys::HELD_NEXT)? {
            Some(value) => {
                keys::read_sequence(&value, 0).map_err(|corrupt| StoreError::row(&keys::HELD_NEXT, corrupt))?
            }
            None => 0,
        };
        let key = keys::held(at, number);
        if key < self.held_from {
            self.held_from.clone_from(&key);
        }
        self.rows.set(key, Some(raw));
        self.rows.set(keys::HELD_NEXT.to_vec(), Some((number + 1).to_be_bytes().to_vec()));
        Ok(())
    }

    /// Lets go of a held event, which is being applied.
    pub(crate) fn release(&mut self, key: HeldKey) {
        if key.0 > self.held_from {
            self.held_from.clone_from(&key.0);
        }
        self.rows.set(key.0, None);
    }

    /// The first event held at or before `through`.
    pub(crate) fn first_held(&mut self, through: Timestamp) -> Result<Option<Held>, StoreError> {
        let (from, to) = keys::held_through(through);
        let from = from.max(self.held_from.clone());
        let Some((key, raw)) = self.first(&from, &to)? else { return Ok(None) };
        let (at, _) = keys::read_held(&key).map_err(|corrupt| StoreError::row(&key, corrupt))?;
        Ok(Some(Held { key: HeldKey(key), at, raw }))
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn uploaded(&self) -> &Uploaded {
        &self.uploaded
    }

    pub(crate) fn stored(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.db.get_pinned(key).map_err(|error| self.failed(error))
    }

    pub(crate) fn failed(&self, error: rocksdb::Error) -> StoreError {
        StoreError::of(self.db.path(), error)
    }
}

/// An event that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// To be given back when the event is applied: [`crate::Input::Record`].
    pub key: HeldKey,
    /// When it occurred.
    pub at: Timestamp,
    /// As it came.
    pub raw: Vec<u8>,
}

/// Names a held event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey(Vec<u8>);

impl State for Store {
    type Error = StoreError;

    fn take_contact(&mut self, key: &[u8]) -> Result<Option<Box<Contact>>, StoreError> {
        take(&self.db, &mut self.contacts, key)
    }

    fn put_contact(&mut self, key: &[u8], contact: Box<Contact>) {
        self.contacts.put(key, &contact);
    }

    fn keep_contact(&mut self, key: &[u8], contact: Box<Contact>) {
        self.contacts.keep(key, &contact);
    }

    fn contact_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        record_keys(&self.db, &mut self.contacts, from, to, limit)
    }

    fn take_account(&mut self, key: &[u8]) -> Result<Option<Box<Account>>, StoreError> {
        take(&self.db, &mut self.accounts, key)
    }

    fn put_account(&mut self, key: &[u8], account: Box<Account>) {
        self.accounts.put(key, &account);
    }

    fn keep_account(&mut self, key: &[u8], account: Box<Account>) {
        self.accounts.keep(key, &account);
    }

    fn account_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        record_keys(&self.db, &mut self.accounts, from, to, limit)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.rows.get(key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => Ok(self.stored(key)?.map(|value| value.to_vec())),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if key.first() == Some(&table::ERASED) {
            self.scrub.want();
        }
        self.rows.set(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.rows.set(key, None);
    }

    fn first(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        let Store { rows, db, contacts, accounts, .. } = self;
        // A timer that fires takes its contact and account.
        let prefetch = |ahead: &[Row]| {
            let timers: Vec<_> = ahead.iter().filter_map(|(key, _)| core_keys::timer_of(key)).collect();
            let of = |table: u8| timers.iter().filter(move |key| key.first() == Some(&table));
            contacts.prefetch(of(table::CONTACT));
            accounts.prefetch(of(table::ACCOUNT));
            accounts.prefetch(
                of(table::CONTACT).filter_map(|key| Some(core_keys::account(&core_keys::names(key).ok()?.0))),
            );
        };
        rows.first(db, from, to, prefetch).map_err(|error| StoreError::of(db.path(), error))
    }

    fn last(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        self.rows.last(&self.db, from, to).map_err(|error| self.failed(error))
    }
}

impl Packed for Contact {
    fn decode(bytes: &[u8]) -> Result<Contact, Corrupt> {
        Contact::decode(bytes)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Contact::encode(self, out);
    }
}

impl Packed for Account {
    fn decode(bytes: &[u8]) -> Result<Account, Corrupt> {
        Account::decode(bytes)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Account::encode(self, out);
    }
}

fn take<T: Packed>(db: &DB, cache: &mut Cache<T>, key: &[u8]) -> Result<Option<Box<T>>, StoreError> {
    let corrupt = |corrupt| StoreError::row(key, corrupt);
    match cache.take(key).map_err(corrupt)? {
        Known::Here(record) => return Ok(Some(record)),
        Known::Gone => return Ok(None),
        Known::Unknown => {}
    }
    let Some(packed) = db.get_pinned(key).map_err(|error| StoreError::of(db.path(), error))? else { return Ok(None) };
    cache.load(key, &packed).map(Some).map_err(corrupt)
}

fn record_keys<T: Packed>(
    db: &DB,
    cache: &mut Cache<T>,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found = Vec::new();
    if from >= to || limit == 0 {
        return Ok(found);
    }
    let changes = cache.dirty_range(from, to).map(|(key, is_here)| (key, is_here.then_some(&[][..])));
    let collected = merge(db, from, to, Direction::Forward, changes, |key, _| {
        found.push(key.to_vec());
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    collected.map_err(|error| StoreError::of(db.path(), error))?;
    Ok(found)
}

fn write(batch: &mut WriteBatch, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => batch.put(key, value),
        None => batch.delete(key),
    }
}

/// Whether a table has no rows.
fn is_there(db: &DB, key: &[u8]) -> Result<bool, StoreError> {
    Ok(db.get_pinned(key).map_err(|error| StoreError::of(db.path(), error))?.is_some())
}

fn has_none(db: &DB, table: u8) -> Result<bool, StoreError> {
    let rows = range(db, &[table], &[table + 1], Direction::Forward);
    rows.status().map_err(|error| StoreError::of(db.path(), error))?;
    Ok(!rows.valid())
}

/// Also survives the loss of power.
fn synced() -> WriteOptions {
    let mut options = WriteOptions::new();
    options.set_sync(true);
    options
}

/// A number that nobody else has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
