//! What a snapshot consists of: a manifest, whose name ranks it, and the files that it names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::remote::hex;

/// What the manifest itself looks like.
pub(crate) const FORMAT: u32 = 1;

/// A manifest has no more bytes than this: 10 TB of state are 160,000 files, of 250 bytes each.
pub(crate) const MANIFEST_BYTES: u64 = 64 << 20;

/// Bytes of the hash that stand in the name.
const HASH: usize = 16;

/// A snapshot as its manifest tells of it, JSON in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// [`crate::SCHEMA`].
    pub(crate) schema: u32,
    pub(crate) topic: String,
    /// How many the topic has.
    pub(crate) partitions: u32,
    pub(crate) partition: u32,
    pub(crate) generation: u64,
    pub(crate) offset: u64,
    /// The journal's own bytes, as hex.
    pub(crate) position: String,
    pub(crate) last_tick: Option<Timestamp>,
    pub(crate) created: Timestamp,
    pub(crate) files: Vec<Stored>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// What the database calls it.
    pub(crate) name: String,
    /// What it is called in the store. Written once, and never again.
    pub(crate) object: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Enough of any format to tell which it is.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Why the bytes of a manifest are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Of another format, by its number.
    Format(u32),
    /// Not what was written.
    Torn,
    /// Not there any more.
    Gone,
}

impl Manifest {
    /// Its bytes, and the name that they have in the store.
    pub(crate) fn encode(&self) -> Result<(String, Vec<u8>), serde_json::Error> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let Manifest { generation, offset, .. } = self;
        let created = self.created.as_millisecond();
        Ok((format!("{generation:010}-{offset:020}-{created:013}-{}.json", hash(&bytes)), bytes))
    }

    /// Reads what stands under a name.
    pub(crate) fn decode(listed: &Listed, bytes: &[u8]) -> Result<Manifest, Unreadable> {
        if listed.hash != hash(bytes) {
            return Err(Unreadable::Torn);
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| Unreadable::Torn)?;
        if head.format != FORMAT {
            return Err(Unreadable::Format(head.format));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|_| Unreadable::Torn)?;
        // What is made of a name is a path.
        let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        let is_sound = manifest.files.iter().all(|file| is_plain(&file.name) && is_plain(&file.object));
        if is_sound { Ok(manifest) } else { Err(Unreadable::Torn) }
    }
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..HASH])
}

/// A snapshot as its name tells of it. Of two, the greater is the further: first by generation, then by offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// How often the state has been built from nothing.
    pub generation: u64,
    /// The next record of the partition's log.
    pub offset: u64,
    /// When it was made, by the clock of the machine that made it.
    pub created: Timestamp,
    pub(crate) hash: String,
    /// Of its manifest.
    pub name: String,
    /// When the manifest was written, by the store's clock, in milliseconds.
    pub(crate) modified: i64,
}

impl Listed {
    /// Reads a name; `None` if it is not a manifest's.
    pub(crate) fn parse(name: &str, modified: i64) -> Option<Listed> {
        let mut fields = name.strip_suffix(".json")?.split('-');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (generation, offset, created) = (number()?, number()?, number()?);
        let created = Timestamp::from_millisecond(i64::try_from(created).ok()?).ok()?;
        let hash = fields.next()?.to_owned();
        let is_all = fields.next().is_none();
        is_all.then(|| Listed { generation, offset, created, hash, name: name.to_owned(), modified })
    }
}

/// What is read from the position's hex.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
