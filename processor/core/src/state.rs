//! Where the state machine keeps what it knows: ordered rows, and the two records that every event touches.
//!
//! Keys come from [`crate::keys`]; the implementation need not know what they mean. Contacts and accounts are handed over
//! decoded: *take* it, change it, *put* it back. What has been taken and not put back is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;

use hashbrown::HashMap;

use crate::account::Account;
use crate::contact::Contact;

/// A row.
pub type Row = (Vec<u8>, Vec<u8>);

/// Ordered rows, with decoded contacts and accounts.
pub trait State {
    /// Why a row could not be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes the contact out of the state. `key` is [`crate::keys::contact`].
    fn take_contact(&mut self, key: &[u8]) -> Result<Option<Box<Contact>>, Self::Error>;
    /// Puts a contact in, changed or new.
    fn put_contact(&mut self, key: &[u8], contact: Box<Contact>);
    /// Puts a contact back as it was taken.
    fn keep_contact(&mut self, key: &[u8], contact: Box<Contact>);
    /// Up to `limit` keys of contacts, in order, from `from` (inclusive) to `to` (exclusive).
    fn contact_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Takes the account out of the state. `key` is [`crate::keys::account`].
    fn take_account(&mut self, key: &[u8]) -> Result<Option<Box<Account>>, Self::Error>;
    /// Puts an account in, changed or new.
    fn put_account(&mut self, key: &[u8], account: Box<Account>);
    /// Puts an account back as it was taken.
    fn keep_account(&mut self, key: &[u8], account: Box<Account>);
    /// The same as [`State::contact_keys`], of accounts.
    fn account_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// The value of any other row.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;
    /// Writes any other row.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    /// Removes any other row.
    fn delete(&mut self, key: Vec<u8>);
    /// The first of the other rows from `from` (inclusive) to `to` (exclusive).
    fn first(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, Self::Error>;
    /// The last of the other rows from `from` (inclusive) to `to` (exclusive).
    fn last(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, Self::Error>;
}

/// A state in memory: for tests, and as the ceiling that a store is measured against.
#[derive(Debug, Default)]
pub struct Memory {
    contacts: Records<Contact>,
    accounts: Records<Account>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Records that are found by hash and listed in order.
#[derive(Debug)]
struct Records<T> {
    /// `None`: taken, or gone.
    by_key: HashMap<Vec<u8>, Option<Box<T>>>,
    keys: BTreeSet<Vec<u8>>,
}

impl<T> Default for Records<T> {
    fn default() -> Records<T> {
        Records { by_key: HashMap::new(), keys: BTreeSet::new() }
    }
}

impl<T> Records<T> {
    fn take(&mut self, key: &[u8]) -> Option<Box<T>> {
        self.by_key.get_mut(key)?.take()
    }

    fn put(&mut self, key: &[u8], record: Box<T>) {
        match self.by_key.get_mut(key) {
            Some(place) => *place = Some(record),
            None => {
                self.by_key.insert(key.to_vec(), Some(record));
                self.keys.insert(key.to_vec());
            }
        }
    }

    fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let is_here = |key: &&Vec<u8>| self.by_key.get(*key).is_some_and(Option::is_some);
        self.keys.range::<[u8], _>(bounds(from, to)).filter(is_here).take(limit).cloned().collect()
    }
}

impl State for Memory {
    type Error = Infallible;

    fn take_contact(&mut self, key: &[u8]) -> Result<Option<Box<Contact>>, Infallible> {
        Ok(self.contacts.take(key))
    }

    fn put_contact(&mut self, key: &[u8], contact: Box<Contact>) {
        self.contacts.put(key, contact);
    }

    fn keep_contact(&mut self, key: &[u8], contact: Box<Contact>) {
        self.contacts.put(key, contact);
    }

    fn contact_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.contacts.keys(from, to, limit))
    }

    fn take_account(&mut self, key: &[u8]) -> Result<Option<Box<Account>>, Infallible> {
        Ok(self.accounts.take(key))
    }

    fn put_account(&mut self, key: &[u8], account: Box<Account>) {
        self.accounts.put(key, account);
    }

    fn keep_account(&mut self, key: &[u8], account: Box<Account>) {
        self.accounts.put(key, account);
    }

    fn account_keys(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.accounts.keys(from, to, limit))
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.rows.get(key).cloned())
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, value);
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.rows.remove(&key);
    }

    fn first(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, Infallible> {
        Ok(self.rows.range::<[u8], _>(bounds(from, to)).next().map(|(key, value)| (key.clone(), value.clone())))
    }

    fn last(&mut self, from: &[u8], to: &[u8]) -> Result<Option<Row>, Infallible> {
        Ok(self.rows.range::<[u8], _>(bounds(from, to)).next_back().map(|(key, value)| (key.clone(), value.clone())))
    }
}

fn bounds<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(from), Bound::Excluded(to.max(from)))
}
