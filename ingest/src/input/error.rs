//! Why files cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::formats::csv::HeaderError;
use crate::open::STDIN;

/// Why a command cannot read one of its files: errors of the command, not of a record.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Missing, or not readable.
    #[error("{} cannot be opened", path.display())]
    Open {
        /// As it was given.
        path: PathBuf,
        /// The system's own.
        source: io::Error,
    },
    /// A directory.
    #[error("{} is a directory; name the files in it", path.display())]
    Directory {
        /// As it was given.
        path: PathBuf,
    },
    /// No text.
    #[error("{} is {what}", shown(path))]
    Foreign {
        /// As it was given.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The name does not tell.
    #[error("the name of {} does not tell its format (.jsonl, .ndjson, .json and .csv do, also before .gz or .zst); say --format jsonl or --format csv", path.display())]
    Format {
        /// As it was given.
        path: PathBuf,
    },
    /// Named twice.
    #[error("{} is given twice; name it once", path.display())]
    Twice {
        /// As it was given.
        path: PathBuf,
    },
    /// More files than a position holds.
    #[error(
        "{given} files are given, and at most {} are taken at once; run the command again for the others",
        crate::position::FILES
    )]
    TooMany {
        /// How many.
        given: usize,
    },
    /// A CSV file without a header.
    #[error("{}: {mistake}", shown(path))]
    Header {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with its first line.
        mistake: HeaderError,
    },
    /// The disk, or what stands in its place.
    #[error(
        "{} cannot be read on after {offset} bytes; what was read is kept, and the same command goes on there",
        shown(path)
    )]
    Read {
        /// As it was given.
        path: PathBuf,
        /// How far it was read.
        offset: u64,
        /// The system's own.
        source: io::Error,
    },
}

/// What people call a path.
pub fn shown(path: &Path) -> String {
    if path.as_os_str() == STDIN { "standard input".to_owned() } else { path.display().to_string() }
}
