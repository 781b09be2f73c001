//! A path that is followed, whatever file has its name.
//!
//! A file that loses its name (moved, deleted, or another put in its place) has been *left*: it is read on by its open
//! handle, since whoever writes it may not know yet, and the next file of that name is opened beside it. It is
//! done with when it has not grown for as long as [`super::Options::left_for`].

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::input::{Input, InputError};
use crate::position::FileId;

/// How many files that have been left are waited for: nobody writes to more. Each holds a buffer of a record's size.
pub(super) const LEFT: usize = 16;

/// A path.
pub(super) struct Watch {
    /// As it was given.
    pub given: PathBuf,
    /// The file that has its name, if that is open.
    pub current: Option<FileId>,
    /// That it has none was told.
    pub is_told: bool,
    /// While none is open: the one that was.
    pub before: Option<Before>,
}

/// A file that had the name, and those that have had it since, for less than the time between two looks.
#[derive(Clone)]
pub(super) struct Before {
    /// The name, as positions have it.
    pub name: PathBuf,
    /// When it was written to last.
    pub written: SystemTime,
    /// All of these files.
    pub files: Vec<FileId>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// The file that is open.
    Same,
    /// Another one.
    Other,
    /// None, or none that may be opened yet.
    Nothing,
}

impl Watch {
    /// Looks which file has the name now.
    pub(super) fn look(&self) -> Result<There, InputError> {
        match fs::metadata(&self.given) {
            Ok(there) if self.current == Some(FileId::of(&there)) => Ok(There::Same),
            Ok(_) => Ok(There::Other),
            Err(source) if is_passing(source.kind()) => Ok(There::Nothing),
            Err(source) => Err(InputError::Open { path: self.given.clone(), source }),
        }
    }
}

/// Whether the next look may find what this one did not: a file that is being rotated is missing for a moment, or is not
/// yet its reader's.
pub(super) fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// An open input of a command.
pub(super) struct Open {
    pub input: Input,
    /// What it is known by in [`super::Ends`].
    pub number: u64,
    /// If it has been left: when it last grew, and how far it had been read then.
    pub left: Option<(Instant, u64)>,
}
