//! A look at a whole state: what it holds, and whether it holds together.

use jiff::Timestamp;
use rocksdb::Range;
use touchline_core::account::Account;
use touchline_core::codec::Corrupt;
use touchline_core::contact::Contact;
use touchline_core::erasure;
use touchline_core::keys::{self as core_keys, table};
use touchline_core::step::{Machine, StepError};

use crate::overlay::scan;
use crate::{Store, StoreError, keys};

/// Problems listed; more are only counted.
const LISTED: usize = 100;

/// The tables by name, in the order of their keys.
const TABLES: [(u8, &str); 15] = [
    (table::ACCOUNT, "accounts"),
    (table::CONTACT, "contacts"),
    (table::ERASED, "erased contacts"),
    (table::MACHINE, "machine"),
    (table::PLANNED, "planned engagements"),
    (table::OCCASION, "occasions"),
    (table::PAGE, "timeline pages"),
    (table::REVISION, "revisions"),
    (table::TIMER, "timers of contacts"),
    (table::ACCOUNT_TIMER, "timers of accounts"),
    (table::VOIDED, "voided records"),
    (keys::META, "position and identity"),
    (keys::HELD, "held events"),
    (keys::ROW, "published records"),
    (keys::POINTER, "outbox log"),
];

/// What a state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Table by table.
    pub tables: Vec<TableStats>,
    /// The journal's position.
    pub position: Option<Vec<u8>>,
    /// The last tick.
    pub last_tick: Option<Timestamp>,
    /// Whether a record is not finished.
    pub is_unfinished: bool,
    /// The first sequence of the outbox's log.
    pub outbox_floor: u64,
    /// The sequence behind the outbox's last record.
    pub outbox_end: u64,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// Its name.
    pub name: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes on the disk, compressed; roughly, and without what has not been flushed.
    pub disk_bytes: u64,
}

/// What a look at every row has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Rows looked at.
    pub rows: u64,
    /// What is wrong, the first hundred of it.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problems_total: u64,
}

impl Store {
    /// What the state holds, as of the last commit. Reads all of it.
    pub fn stats(&mut self) -> Result<Stats, StoreError> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for (number, name) in TABLES {
            let mut stats = TableStats { name, rows: 0, bytes: 0, disk_bytes: 0 };
            let mut rows = scan(self.db(), &[number], &[number + 1]);
            while let Some((key, value)) = rows.item() {
                stats.rows += 1;
                stats.bytes += (key.len() + value.len()) as u64;
                rows.next();
            }
            rows.status().map_err(|error| self.failed(error))?;
            let sizes = self.db().get_approximate_sizes(&[Range::new(&[number], &[number + 1])]);
            stats.disk_bytes = sizes.first().copied().unwrap_or_default();
            tables.push(stats);
        }
        let machine = Machine::load(self).map_err(|error| match error {
            StepError::State(error) => error,
            StepError::Corrupt(corrupt) => StoreError::row(&core_keys::machine(), corrupt),
            // Whoever only looks has no key.
            StepError::ErasureKey(_) => StoreError::row(&core_keys::machine(), Corrupt { what: "machine record" }),
        })?;
        Ok(Stats {
            tables,
            position: self.position()?,
            last_tick: machine.last_tick(),
            is_unfinished: machine.is_unfinished(),
            outbox_floor: self.outbox().floor(),
            outbox_end: self.outbox().end(),
        })
    }

    /// Looks at every row, checksums included: keys read as what they are and in order, records read and write to the
    /// same bytes, each that has filed a timer has that timer, and every timer is one.
    pub fn verify(&mut self) -> Result<Verification, StoreError> {
        let mut found = Verification::default();
        let mut rows = scan(self.db(), &[0], &[u8::MAX]);
        let mut before: Vec<u8> = Vec::new();
        while let Some((key, value)) = rows.item() {
            found.rows += 1;
            if *key <= *before {
                found.add(key, "is not behind the one before it");
            }
            before.clear();
            before.extend_from_slice(key);
            match self.check(key, value) {
                Ok(()) => {}
                Err(Problem::Wrong(what)) => found.add(key, what),
                Err(Problem::Corrupt(corrupt)) => found.add(key, &format!("does not read as {}", corrupt.what)),
                Err(Problem::Store(error)) => return Err(error),
            }
            rows.next();
        }
        rows.status().map_err(|error| self.failed(error))?;
        Ok(found)
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        let (account, contact);
        match key.first().copied().unwrap_or_default() {
            table::CONTACT => {
                (account, contact) = core_keys::names(key)?;
                same(key, &core_keys::contact(&account, &contact))?;
                let record = Contact::decode(value)?;
                record.check()?;
                let mut bytes = Vec::with_capacity(value.len());
                record.encode(&mut bytes);
                same_record(value, &bytes)?;
                self.check_filed(key, record.filed())
            }
            table::ACCOUNT => {
                (account, _) = core_keys::names(key)?;
                same(key, &core_keys::account(&account))?;
                let record = Account::decode(value)?;
                record.check()?;
                let mut bytes = Vec::with_capacity(value.len());
                record.encode(&mut bytes);
                same_record(value, &bytes)?;
                self.check_filed(key, record.filed())
            }
            table::TIMER | table::ACCOUNT_TIMER => self.check_timer(key),
            table::PAGE | table::OCCASION | table::PLANNED => {
                (account, contact) = core_keys::names(key)?;
                let owner = core_keys::contact(&account, &contact);
                if !core_keys::of_contact(table::CONTACT, key).starts_with(&owner) {
                    return Err(Problem::Wrong("does not name a contact"));
                }
                match self.stored(&owner)? {
                    Some(_) => Ok(()),
                    None => Err(Problem::Wrong("belongs to a contact that is not there")),
                }
            }
            keys::HELD => {
                let (at, number) = keys::read_held(key)?;
                same(key, &keys::held(at, number))
            }
            keys::POINTER => {
                same(key, &keys::pointer(keys::read_sequence(key, 1)?))?;
                self.stored(value)?.map(drop).ok_or(Problem::Wrong("points to no record"))
            }
            keys::ROW => crate::outbox::check_row(key, value).map_err(Problem::Corrupt),
            table::ERASED => erasure::check(value).map_err(Problem::Corrupt),
            table::VOIDED => {
                (account, contact) = core_keys::names(key)?;
                let owner = core_keys::contact(&account, &contact);
                let (source, id) = core_keys::read_voided(key, &owner)?;
                same(key, &core_keys::voided(&owner, &source, &id))
            }
            table::REVISION | table::MACHINE | keys::META => Ok(()),
            _ => Err(Problem::Wrong("is of no table")),
        }
    }

    fn check_filed(&self, key: &[u8], filed: Option<Timestamp>) -> Result<(), Problem> {
        let Some(filed) = filed else { return Ok(()) };
        match self.stored(&core_keys::timer(filed, key))? {
            Some(_) => Ok(()),
            None => Err(Problem::Wrong("has filed a timer that is not there")),
        }
    }

    fn check_timer(&self, key: &[u8]) -> Result<(), Problem> {
        let (filed, record_key) = core_keys::read_timer(key)?;
        same(key, &core_keys::timer(filed, &record_key))?;
        let record = self.stored(&record_key)?.ok_or(Problem::Wrong("is a timer of a record that is not there"))?;
        let files = match key.first() {
            Some(&table::TIMER) => Contact::decode(&record)?.filed(),
            _ => Account::decode(&record)?.filed(),
        };
        if files == Some(filed) { Ok(()) } else { Err(Problem::Wrong("is a timer that its record has not filed")) }
    }
}

enum Problem {
    Wrong(&'static str),
    Corrupt(Corrupt),
    Store(StoreError),
}

impl From<Corrupt> for Problem {
    fn from(corrupt: Corrupt) -> Problem {
        Problem::Corrupt(corrupt)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::Store(error)
    }
}

impl Verification {
    fn add(&mut self, key: &[u8], what: &str) {
        self.problems_total += 1;
        if self.problems.len() < LISTED {
            self.problems.push(format!("{} {what}", keys::show(key)));
        }
    }
}

fn same(key: &[u8], written: &[u8]) -> Result<(), Problem> {
    if key == written { Ok(()) } else { Err(Problem::Wrong("is not how its key is written")) }
}

/// Both begin with their form: a record in an earlier one is written in the newest when it changes.
fn same_record(value: &[u8], written: &[u8]) -> Result<(), Problem> {
    if value == written || value.first() != written.first() {
        Ok(())
    } else {
        Err(Problem::Wrong("is not how its record is written"))
    }
}
