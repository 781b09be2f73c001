//! Contacts who have been forgotten: what is kept of them, so that nothing brings them back.
//!
//! That is a keyed hash of the name and some moments. Who has the key can tell whether a name that he knows was
//! forgotten; nobody can read a name from it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::codec::{Corrupt, Reader, put_bytes, put_time, put_time_option, put_uint};
use crate::publish::{Who, id_of};

/// Bytes of a key's fingerprint in the state: enough to know another key by, too few to be one.
const FINGERPRINT_BYTES: usize = 8;

/// What names are hashed with: HMAC-SHA-256, cut to 128 bits.
///
/// Without a key of its own, a deployment has the empty one: then whoever has the state or an id can try names.
#[derive(Clone, Default)]
pub struct ErasureKey(Vec<u8>);

impl ErasureKey {
    /// The empty one.
    pub const NONE: ErasureKey = ErasureKey(Vec::new());

    /// The key of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> ErasureKey {
        ErasureKey(bytes.into())
    }

    /// What a contact is known by once it is forgotten: 32 hexadecimal digits.
    pub fn name(&self, account: &str, contact: &str) -> String {
        id_of(&self.hash(&[account.as_bytes(), contact.as_bytes()]))
    }

    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = self.hash(&[]);
        hash.truncate(FINGERPRINT_BYTES);
        hash
    }

    fn hash(&self, parts: &[&[u8]]) -> Vec<u8> {
        // A key of any length is one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Vec::new() };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasureKey(…)")
    }
}

/// Contacts were forgotten with another key: they would not be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "contacts have been erased with another key than [erasure] key is now, and would not be known again: give it the key that it had"
)]
pub struct OtherErasureKey;

/// How many contacts have been forgotten, and with which key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Erasures {
    key: ErasureKey,
    count: u64,
    /// Of the key that they were forgotten with; empty while there are none.
    fingerprint: Vec<u8>,
}

impl Erasures {
    pub fn set_key(&mut self, key: ErasureKey) -> Result<(), OtherErasureKey> {
        if self.count > 0 && self.fingerprint != key.fingerprint() {
            return Err(OtherErasureKey);
        }
        self.key = key;
        Ok(())
    }

    pub fn name(&self, who: Who<'_>) -> String {
        self.key.name(who.account, who.contact)
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn add(&mut self) {
        if self.count == 0 {
            self.fingerprint = self.key.fingerprint();
        }
        self.count += 1;
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uint(out, self.count);
        put_bytes(out, &self.fingerprint);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Erasures, Corrupt> {
        Ok(Erasures { key: ErasureKey::default(), count: reader.uint()?, fingerprint: reader.bytes()?.to_vec() })
    }
}

/// Whether what is stored of a forgotten contact reads.
pub fn check(value: &[u8]) -> Result<(), Corrupt> {
    Erased::decode(value).map(drop)
}

/// What is kept of a contact that was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Erased {
    /// By the newest request to forget it: when that was made.
    pub at: Timestamp,
    /// Since when it is a contact again; what occurred before stays forgotten.
    pub returned_at: Option<Timestamp>,
    /// How often it was forgotten.
    pub sequence: u64,
    /// What its version had come to, and its account's if that went with it: versions never go back.
    pub versions: (u64, u64),
}

impl Erased {
    /// Whether a request to forget the contact is one that has been met.
    pub fn covers(&self, at: Timestamp) -> bool {
        at <= self.at || self.returned_at.is_some_and(|returned| at < returned)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_time(&mut out, self.at);
        put_time_option(&mut out, self.returned_at);
        put_uint(&mut out, self.sequence);
        put_uint(&mut out, self.versions.0);
        put_uint(&mut out, self.versions.1);
        out
    }

    pub fn decode(value: &[u8]) -> Result<Erased, Corrupt> {
        let mut reader = Reader::new(value, "erasure");
        Ok(Erased {
            at: reader.time()?,
            returned_at: reader.time_option()?,
            sequence: reader.uint()?,
            versions: (reader.uint()?, reader.uint()?),
        })
    }
}
