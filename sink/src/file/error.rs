//! Why the file sink could not go on, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::sink::SinkError;

/// Why an output directory could not be opened or written. None is worth trying again: the sink stops with what it has,
/// and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Something else has the directory's name.
    #[error("{} is not a directory; the output needs one of its own: choose another path", .0.display())]
    NotADirectory(PathBuf),
    /// Two processes would write the same files.
    #[error("{} is in use by another touchline: stop that one, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// The index was opened, and what it says makes no sense.
    #[error("{} cannot be understood, it is damaged or of a newer touchline: remove it, and all files are written again", .0.display())]
    Damaged(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} {}{}", path.display(), advice(source.kind()))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The index refused.
    #[error("cannot {action} the index {}{}", path.display(), advice(kind(source)))]
    Index {
        /// What was attempted.
        action: &'static str,
        /// Its directory.
        path: PathBuf,
        /// Why it failed.
        source: rocksdb::Error,
    },
}

impl From<FileError> for SinkError {
    fn from(error: FileError) -> SinkError {
        SinkError::Fatal(error.into())
    }
}

/// The operating system's error about a path.
pub fn io_error(action: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError::Io { action, path: path.to_owned(), source }
}

/// RocksDB's error about the index at `path`.
pub fn index_error(action: &'static str, path: &Path, source: rocksdb::Error) -> FileError {
    let path = path.to_owned();
    match source.kind() {
        rocksdb::ErrorKind::Corruption => FileError::Damaged(path),
        _ if kind(&source) == ErrorKind::ResourceBusy => {
            FileError::InUse(path.parent().map_or(path.clone(), Path::to_owned))
        }
        _ => FileError::Index { action, path, source },
    }
}

/// RocksDB tells the operating system's errors in words only.
fn kind(error: &rocksdb::Error) -> ErrorKind {
    const WORDS: [(&str, ErrorKind); 6] = [
        ("No space left on device", ErrorKind::StorageFull),
        ("Disk quota exceeded", ErrorKind::QuotaExceeded),
        ("Permission denied", ErrorKind::PermissionDenied),
        ("Read-only file system", ErrorKind::ReadOnlyFilesystem),
        ("lock hold by current process", ErrorKind::ResourceBusy),
        ("While lock file", ErrorKind::ResourceBusy),
    ];
    let message: &str = error.as_ref();
    WORDS.into_iter().find(|(words, _)| message.contains(words)).map_or(ErrorKind::Other, |(_, kind)| kind)
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " (the disk is full: make room and start again, it goes on where it stopped)"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            " (allow touchline to write there, or choose another directory)"
        }
        _ => "",
    }
}
