//! Why a record is not an event, in sentences that a person can act on.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{NESTING, RECORD_BYTES};

/// How much of a bad value an error repeats.
const SHOWN_CHARS: usize = 60;
/// The JSON parser's messages are shorter, unless they repeat a value.
const MESSAGE_CHARS: usize = 160;

/// Why a record is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Larger than [`RECORD_BYTES`].
    #[error("the record has {bytes} bytes; at most {RECORD_BYTES} are taken: send the content by reference")]
    TooLarge {
        /// How many it has, or had when reading stopped.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the record is not UTF-8: byte {at} is no part of a character; write it as UTF-8")]
    NotUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// Not a JSON object.
    #[error("the record is not a JSON object: {0}")]
    NotJson(String),
    /// Nested deeper than [`NESTING`].
    #[error("field `{field}` is nested more than {NESTING} levels deep; flatten it")]
    TooDeep {
        /// Where.
        field: String,
    },
    /// A field is given twice.
    #[error("field `{field}` is given twice; keep one")]
    Twice {
        /// Which.
        field: String,
    },
    /// A required field is absent.
    #[error("field `{field}` is missing; every {of} needs it")]
    Missing {
        /// Which.
        field: &'static str,
        /// In which kind of record.
        of: &'static str,
    },
    /// A value that its field does not take.
    #[error("field `{field}` is {found}; it takes {takes}")]
    Malformed {
        /// Which.
        field: Cow<'static, str>,
        /// What stands there, shortened.
        found: String,
        /// What should.
        takes: Cow<'static, str>,
    },
    /// Longer than its field allows.
    #[error("field `{field}` has {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// Which.
        field: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Further ahead of its arrival than clocks differ.
    #[error(
        "field `occurred_at` is {at}, more than ten minutes after the record arrived at {arrived}; if it is planned, say `status` planned and give the moment as `scheduled_for`"
    )]
    Future {
        /// Event time.
        at: Timestamp,
        /// Arrival.
        arrived: Timestamp,
    },
}

impl Reject {
    /// A record that is no JSON object, by the parser's own message, which may repeat what it found at any length.
    pub fn not_json(message: impl std::fmt::Display) -> Reject {
        // Nearly every record is one line, and is a line of a file that has a number of its own.
        let message = message.to_string().replace(" at line 1 column ", " at column ");
        match message.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => Reject::NotJson(format!("{}…", &message[..end])),
            None => Reject::NotJson(message),
        }
    }
}

/// A value that its field does not take.
pub(super) fn malformed(field: &'static str, raw: &str, takes: impl Into<Cow<'static, str>>) -> Reject {
    Reject::Malformed { field: Cow::Borrowed(field), found: shown(raw), takes: takes.into() }
}

/// A value's beginning, for an error.
pub(super) fn shown(raw: &str) -> String {
    let mut text: String = raw.chars().take(SHOWN_CHARS).collect();
    if text.len() < raw.len() {
        text.push('…');
    }
    text
}
