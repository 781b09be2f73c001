//! Bytes → record, one file a format. Pure: no format reads a clock, a file or a network.

pub mod canonical;
pub mod csv;

use std::path::Path;

use touchline_core::event::Reject;

use crate::lines::{Framing, LONGEST_BYTES};

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One canonical JSON object a line.
    Canonical,
    /// A header of canonical field names, then one record a row.
    Csv,
}

/// Endings of file names, by format.
const ENDINGS: [(&str, Format); 4] =
    [("jsonl", Format::Canonical), ("ndjson", Format::Canonical), ("json", Format::Canonical), ("csv", Format::Csv)];
/// Endings that say nothing of the format: the file's first bytes say whether and how it is compressed.
const COMPRESSED: [&str; 2] = ["gz", "zst"];

impl Format {
    /// The names that [`Format::from_name`] knows.
    pub const NAMES: [&'static str; 3] = ["canonical", "jsonl", "csv"];

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "canonical" | "jsonl" => Some(Format::Canonical),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    /// The format that a file's name tells, in any case and with or without `.gz` or `.zst` behind.
    pub fn of_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (mut rest, mut ending) = name.rsplit_once('.')?;
        if COMPRESSED.contains(&ending) {
            (rest, ending) = rest.rsplit_once('.')?;
        }
        let known = ENDINGS.into_iter().find(|(known, _)| *known == ending);
        known.filter(|_| !rest.is_empty()).map(|(_, format)| format)
    }

    pub(crate) fn framing(self) -> Framing {
        match self {
            Format::Canonical => Framing::Lines,
            Format::Csv => Framing::Rows,
        }
    }
}

/// Everything that can be wrong with one part of an input.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No valid record.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// A row that does not fit its header.
    #[error(
        "the row has {found} cells where the header has {columns} columns; a cell that holds a comma, a quote or a line end stands in quotes"
    )]
    Cells {
        /// Cells of the row.
        found: usize,
        /// Columns of the header.
        columns: usize,
    },
    /// A row whose end cannot be told.
    #[error(
        "the row opens a quote and does not close it within {LONGEST_BYTES} bytes or before the file ends; close it, and double the quotes inside it"
    )]
    Unclosed,
    /// The rest of the file cannot be read.
    #[error(
        "the file is damaged after {offset} decompressed bytes: {what}. What stands before was read; get the file again and run the same command, which goes on there"
    )]
    Damaged {
        /// The end of what could be read, after decompression.
        offset: u64,
        /// What the decompressor found.
        what: String,
    },
}

impl Fault {
    /// A short name for counting, from a closed list.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Reject(reject) => match reject {
                Reject::TooLarge { .. } => "too_large",
                Reject::NotUtf8 { .. } => "not_utf8",
                Reject::NotJson(_) => "not_json",
                Reject::TooDeep { .. } => "too_deep",
                Reject::Twice { .. } => "twice",
                Reject::Missing { .. } => "missing",
                Reject::Malformed { .. } => "malformed",
                Reject::TooLong { .. } => "too_long",
                Reject::Future { .. } => "future",
            },
            Fault::Cells { .. } => "cells",
            Fault::Unclosed => "unclosed",
            Fault::Damaged { .. } => "damaged",
        }
    }
}
