//! Keys of the store's own tables, all behind [`table::STORE`]. What the core's `keys` says of its own holds here: the
//! first byte is the table, keys compare as bytes in the order of scans, and what has been assigned is never changed.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use touchline_core::codec::Corrupt;
use touchline_core::keys::table;
use touchline_core::output::Topic;

/// Rows that exist once.
pub(crate) const META: u8 = table::STORE;
/// [`held`] → the raw bytes of an event that waits for its time.
pub(crate) const HELD: u8 = table::STORE + 1;
/// [`row`] or [`entry`] → a published record.
pub(crate) const ROW: u8 = table::STORE + 2;
/// [`pointer`] → the [`row`] or [`entry`] that was written.
pub(crate) const POINTER: u8 = table::STORE + 3;

/// Which schema the directory has, and which state it is.
pub(crate) const IDENTITY: [u8; 2] = [META, b'i'];
/// Where the journal stands.
pub(crate) const POSITION: [u8; 2] = [META, b'p'];
/// The next sequence of the outbox.
pub(crate) const END: [u8; 2] = [META, b'e'];
/// The first sequence of the outbox whose pointer is still there.
pub(crate) const FLOOR: [u8; 2] = [META, b'f'];
/// The next number of a held event.
pub(crate) const HELD_NEXT: [u8; 2] = [META, b'h'];
/// Everything was brought onto the disk, and nothing has happened since.
pub(crate) const CLEAN: [u8; 2] = [META, b'c'];
/// What has been deleted for good is still in files.
pub(crate) const SCRUB: [u8; 2] = [META, b's'];
/// [`once`] → nothing.
const ONCE: [u8; 2] = [META, b'o'];
/// [`reader`] → its cursor.
const READER: [u8; 2] = [META, b'r'];

/// What a [`row`]'s key holds of the record's at most, so that a cursor can name any row. Longer keys (names of the greatest
/// length, full of what must be escaped) are cut there and end in a hash of the whole.
const KEY_BYTES: usize = 1024;

/// The row of a compacted topic's key.
pub(crate) fn row(topic: Topic, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[ROW, topic as u8]);
    if is_long(key) {
        out.extend_from_slice(&key[..KEY_BYTES]);
        out.extend_from_slice(&Sha256::digest(key));
    } else {
        out.extend_from_slice(key);
    }
}

/// Whether the [`row`] of this key does not name all of it.
pub(crate) fn is_long(key: &[u8]) -> bool {
    key.len() > KEY_BYTES
}

/// The row of one record of a topic that is not compacted.
pub(crate) fn entry(topic: Topic, sequence: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[ROW, topic as u8]);
    out.extend_from_slice(&sequence.to_be_bytes());
}

/// A place in the outbox's log.
pub(crate) fn pointer(sequence: u64) -> [u8; 9] {
    let mut key = [POINTER; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// From and to: the rows of a topic that can have a sequence from `since` on.
pub(crate) fn rows_since(topic: Topic, since: u64) -> (Vec<u8>, Vec<u8>) {
    let mut from = vec![ROW, topic as u8];
    if !topic.is_compacted() {
        entry(topic, since, &mut from);
    }
    (from, vec![ROW, topic as u8 + 1])
}

/// The topic of a [`row`] or [`entry`].
pub(crate) fn read_topic(row: &[u8]) -> Result<Topic, Corrupt> {
    let topic = row.get(1).and_then(|number| Topic::ALL.get(usize::from(*number)));
    topic.copied().ok_or(Corrupt { what: "outbox key" })
}

/// Says that the record of this name was added.
pub(crate) fn once(name: &[u8]) -> Vec<u8> {
    [&ONCE, name].concat()
}

/// How far the sink of this name has come, if it does not keep that itself.
pub(crate) fn reader(name: &str) -> Vec<u8> {
    [&READER, name.as_bytes()].concat()
}

/// The sequence of a [`pointer`] (one byte before it) or of an [`entry`] (two).
pub(crate) fn read_sequence(key: &[u8], skip: usize) -> Result<u64, Corrupt> {
    let corrupt = Corrupt { what: "outbox key" };
    let bytes = key.get(skip..).and_then(|rest| rest.try_into().ok()).ok_or(corrupt)?;
    Ok(u64::from_be_bytes(bytes))
}

const TIME_BYTES: usize = size_of::<i128>();

/// An event held until its time has come; `sequence` tells those of one moment apart.
pub(crate) fn held(at: Timestamp, sequence: u64) -> Vec<u8> {
    [&[HELD][..], &ordered(at), &sequence.to_be_bytes()].concat()
}

/// From and to: all events held at or before `through`.
pub(crate) fn held_through(through: Timestamp) -> (Vec<u8>, Vec<u8>) {
    (vec![HELD], [&[HELD][..], &ordered(through), &[0xff; 9]].concat())
}

/// When an event that is [`held`] occurred.
pub(crate) fn read_held(key: &[u8]) -> Result<(Timestamp, u64), Corrupt> {
    let corrupt = Corrupt { what: "key of a held event" };
    let (time, _) = key.get(1..).and_then(|rest| rest.split_first_chunk::<TIME_BYTES>()).ok_or(corrupt)?;
    let nanoseconds = (u128::from_be_bytes(*time) ^ SIGN) as i128;
    let at = Timestamp::from_nanosecond(nanoseconds).map_err(|_| corrupt)?;
    Ok((at, read_sequence(key, 1 + TIME_BYTES)?))
}

const SIGN: u128 = 1 << (u128::BITS - 1);

fn ordered(at: Timestamp) -> [u8; TIME_BYTES] {
    (at.as_nanosecond() as u128 ^ SIGN).to_be_bytes()
}

/// A key as people can read it and tell it to others.
pub(crate) fn show(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
