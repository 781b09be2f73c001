//! What can go wrong with a store, in sentences.

use std::path::{Path, PathBuf};

use rocksdb::ErrorKind;
use touchline_core::codec::Corrupt;

use crate::keys;
use crate::store::schemas;

/// Why a store could not be opened, read or written. Fatal, all of them: see the crate's documentation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Only one process can write a state.
    #[error("the state in {path} is in use by another process: stop that one, or use another state directory")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error(
        "the state in {path} has schema {found}, this version reads schema {}: use the version that wrote it, or \
         name an empty state directory and replay the input into it",
        schemas()
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// The schema that stands in the directory.
        found: u32,
    },
    /// There is something else in the directory.
    #[error("{path} is not a state of touchline: name a directory that is one, or that is empty")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing to inspect.
    #[error("there is no state in {path}")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Some bytes are not those that were written.
    #[error(
        "the state in {path} is damaged: keep a copy of the directory if you want it looked at, then restore the newest \
         snapshot, or replay the input into an empty state directory"
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What was found.
        source: rocksdb::Error,
    },
    /// No space is left.
    #[error("the disk that holds {path} is full: nothing is lost; free some space and start again")]
    Full {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: rocksdb::Error,
    },
    /// The process may not use the directory.
    #[error("no permission to use the state in {path}: change its owner or mode, or run as the user who owns it")]
    Permission {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: rocksdb::Error,
    },
    /// Any other failure of the storage.
    #[error(
        "the storage under the state in {path} failed: nothing of the batch was kept; check the disk and start again"
    )]
    Storage {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: rocksdb::Error,
    },
    /// A row was read but makes no sense.
    #[error("the row {key} does not read")]
    Row {
        /// Its key, escaped.
        key: String,
        /// What it should have been.
        source: Corrupt,
    },
    /// A test pretends that the process died here.
    #[cfg(test)]
    #[error("the process died at {0:?}")]
    Died(crate::failpoint::Point),
}

impl StoreError {
    /// What RocksDB says, told by what can be done about it.
    pub(crate) fn of(path: &Path, source: rocksdb::Error) -> StoreError {
        let path = path.to_path_buf();
        // RocksDB's kinds don't tell the causes of an I/O error apart; its messages end in the operating system's.
        let says = |text: &str| AsRef::<str>::as_ref(&source).contains(text);
        if says("No space left") || says("Disk quota exceeded") {
            StoreError::Full { path, source }
        } else if says("Permission denied") || says("Read-only file system") {
            StoreError::Permission { path, source }
        } else if says("While lock file") || says("lock hold by current process") {
            StoreError::Locked { path }
        } else if source.kind() == ErrorKind::Corruption || says("No such file or directory") {
            // A file is gone, or the one that names the others names one that never was.
            StoreError::Damaged { path, source }
        } else {
            StoreError::Storage { path, source }
        }
    }

    pub(crate) fn row(key: &[u8], source: Corrupt) -> StoreError {
        StoreError::Row { key: keys::show(key), source }
    }
}
