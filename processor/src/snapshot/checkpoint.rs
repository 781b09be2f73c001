//! A store as it stood between two commits, in a directory of its own until it is uploaded; and which of its files are in
//! the store of snapshots already.
//!
//! RocksDB gives no number to two tables of one directory, but a directory that was restored or copied goes on with the same
//! numbers (and the same DB identity, which the manifest of a checkpoint carries along). So numbers mean something in one
//! directory alone, and what links them to objects lies in that directory, written by whoever holds its lock. Lost, it costs
//! uploads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::warn;

use super::manifest::Stored;
use super::{SnapshotError, Stamp};
use crate::{Store, StoreError};

/// Where a state's directory keeps which of its tables are uploaded, and as what.
pub(crate) const UPLOADED: &str = "uploaded.json";

/// A checkpoint: the tables are links to those of the store, the rest are copies. Gone when it is dropped.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    pub(crate) stamp: Stamp,
    pub(crate) position: Vec<u8>,
    pub(crate) created: Timestamp,
    pub(crate) uploaded: Uploaded,
}

impl Store {
    /// Makes a checkpoint in `directory`, which must not exist, and be on the file system of the state. What is in memtables
    /// is flushed; what has not been committed is not part of it.
    pub fn checkpoint(&self, directory: &Path, stamp: Stamp) -> Result<Checkpoint, SnapshotError> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(|error| SnapshotError::disk(parent, error))?;
        }
        let position = self.position()?.unwrap_or_default();
        let made = rocksdb::checkpoint::Checkpoint::new(self.db()).and_then(|maker| maker.create_checkpoint(directory));
        made.map_err(|error| StoreError::of(directory, error))?;
        let checkpoint = Checkpoint {
            directory: directory.to_path_buf(),
            stamp,
            position,
            created: Timestamp::now(),
            uploaded: self.uploaded().clone(),
        };
        let (tables, _) = checkpoint.files()?;
        if let Err(error) = self.uploaded().save(self.db().path(), &tables) {
            warn!(%error, "which files are uploaded was not noted: after a start they are uploaded again");
        }
        Ok(checkpoint)
    }
}

impl Checkpoint {
    /// Its tables, which never change, and its other files.
    pub(crate) fn files(&self) -> Result<(Vec<String>, Vec<String>), SnapshotError> {
        let failed = |error| SnapshotError::disk(&self.directory, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            // RocksDB names no file in anything but ASCII.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names.into_iter().partition(|name| name.ends_with(".sst")))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            warn!(%error, directory = %self.directory.display(), "a checkpoint was not removed: remove it, it holds disk space");
        }
    }
}

/// Which tables of one directory are in the store, by their names in the directory. Shared by the store and its checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploaded(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<String, Stored>,
    is_saved: bool,
}

impl Uploaded {
    /// What is known of a directory.
    pub(crate) fn load(directory: &Path) -> Uploaded {
        let read = fs::read(directory.join(UPLOADED)).unwrap_or_default();
        let files: Vec<Stored> = serde_json::from_slice(&read).unwrap_or_default();
        let files = files.into_iter().map(|file| (file.name.clone(), file)).collect();
        Uploaded(Arc::new(Mutex::new(Known { files, is_saved: true })))
    }

    /// Writes `files` as what is known of a directory that is being made.
    pub(crate) fn write<'a>(directory: &Path, files: impl Iterator<Item = &'a Stored>) -> std::io::Result<()> {
        let (path, next) = (directory.join(UPLOADED), directory.join(UPLOADED.to_owned() + ".next"));
        fs::write(&next, serde_json::to_vec(&files.collect::<Vec<_>>())?)?;
        fs::rename(next, path)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Stored> {
        self.lock().files.get(name).cloned()
    }

    pub(crate) fn insert(&self, file: Stored) {
        let mut known = self.lock();
        known.files.insert(file.name.clone(), file);
        known.is_saved = false;
    }

    /// Forgets all but `tables`, and writes the rest down if it has changed.
    fn save(&self, directory: &Path, tables: &[String]) -> std::io::Result<()> {
        let mut known = self.lock();
        known.files.retain(|name, _| tables.binary_search(name).is_ok());
        if !known.is_saved {
            Uploaded::write(directory, known.files.values())?;
            known.is_saved = true;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one call: a panic elsewhere leaves none by halves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
