//! How far a sink has read. Opaque to it; it stores the bytes together with what it made of them.

use touchline_core::codec::{Reader, put_bytes, put_uint};

use crate::outputs::Topics;

/// The form of a cursor's bytes.
const VERSION: u8 = 1;

/// Why a cursor cannot be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not bytes that an outbox made.
    #[error("the sink's cursor does not read: let the sink start anew, without a cursor")]
    Malformed,
    /// Of another state's outbox.
    #[error(
        "the sink has read from another state: give it the state directory that it was used with, or let it start anew, \
         with nothing stored"
    )]
    Foreign,
    /// Of this state, but of a time that it does not know of.
    #[error(
        "the sink has read further than the state has come, which was put back to an older copy: let the sink start anew, \
         with nothing stored"
    )]
    Ahead,
}

/// A place in an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The topics that the sink has read so far.
    pub topics: Topics,
    /// The next sequence to read.
    pub log: u64,
    /// What is copied before that.
    pub copy: Option<Copy>,
}

/// A copy of rows under way: those with a sequence from `since` to the cursor's (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The topics to copy.
    pub topics: Topics,
    /// Where the sink stood in the log, if it has followed it before.
    pub since: u64,
    /// The key of the last row read; empty before the first.
    pub after: Vec<u8>,
}

impl Cursor {
    pub(super) fn encode(&self, state: u64) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&state.to_be_bytes());
        out.push(self.topics.bits());
        put_uint(&mut out, self.log);
        if let Some(copy) = &self.copy {
            out.push(copy.topics.bits());
            put_uint(&mut out, copy.since);
            put_bytes(&mut out, &copy.after);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8], state: u64) -> Result<Cursor, CursorError> {
        let Some((&VERSION, rest)) = bytes.split_first() else { return Err(CursorError::Malformed) };
        let (owner, rest) = rest.split_first_chunk().ok_or(CursorError::Malformed)?;
        if u64::from_be_bytes(*owner) != state {
            return Err(CursorError::Foreign);
        }
        let mut reader = Reader::new(rest, "cursor");
        let mut read = || {
            let (topics, log) = (Topics::from_bits(reader.byte()?), reader.uint()?);
            let copy = match reader.is_empty() {
                true => None,
                false => Some(Copy {
                    topics: Topics::from_bits(reader.byte()?),
                    since: reader.uint()?,
                    after: reader.bytes()?.to_vec(),
                }),
            };
            if reader.is_empty() { Ok(Cursor { topics, log, copy }) } else { Err(reader.corrupt()) }
        };
        read().map_err(|_| CursorError::Malformed)
    }
}
