//! A store of snapshots in a folder, and states beside it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use touchline_core::keys::table;
use touchline_core::state::State;

use super::super::{open, rows};
use crate::{Durability, Listed, RestoreProgress, Restored, Saved, SnapshotError, Snapshots, Stamp, Store};

pub(super) const TOPIC: &str = "touchline.events";
pub(super) const PARTITION: u32 = 3;

pub(super) struct Kit {
    pub(super) directory: TempDir,
    pub(super) snapshots: Snapshots,
    checkpoints: AtomicU64,
}

impl Kit {
    pub(super) fn new() -> Kit {
        let directory = TempDir::new().unwrap();
        let url = format!("file://{}/snapshots", directory.path().display());
        let snapshots = Snapshots::open(&url, TOPIC, 4).unwrap();
        Kit { directory, snapshots, checkpoints: AtomicU64::new(0) }
    }

    pub(super) fn on(snapshots: Snapshots) -> Kit {
        Kit { directory: TempDir::new().unwrap(), snapshots, checkpoints: AtomicU64::new(0) }
    }

    /// Where a state is, or will be.
    pub(super) fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join("state").join(name)
    }

    /// The partition's folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.directory.path().join("snapshots").join(TOPIC).join(PARTITION.to_string())
    }

    pub(super) fn save(&self, store: &Store, offset: u64) -> Result<Saved, SnapshotError> {
        self.save_to(&self.snapshots, store, offset)
    }

    pub(super) fn save_to(&self, snapshots: &Snapshots, store: &Store, offset: u64) -> Result<Saved, SnapshotError> {
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join("checkpoints").join(number.to_string());
        let checkpoint = store.checkpoint(&directory, stamp(offset))?;
        let saved = snapshots.save(&checkpoint);
        drop(checkpoint);
        assert!(!directory.exists());
        saved
    }

    pub(super) fn restore(
        &self,
        name: &str,
        choose: impl FnMut(&Listed) -> bool,
    ) -> Result<Option<Restored>, SnapshotError> {
        self.snapshots.restore(PARTITION, &self.state(name), choose, keep_going)
    }

    /// How many of a snapshot's files are not tables.
    pub(super) fn others(&self, saved: &Saved) -> usize {
        let tables = |name: &str| name.ends_with(".sst");
        match self.folder().exists() {
            true => self.files_of(saved).keys().filter(|name| !tables(name)).count(),
            // CURRENT, MANIFEST, OPTIONS and a log.
            false => 4,
        }
    }

    /// A snapshot's files: what RocksDB calls them, and what the folder does.
    pub(super) fn files_of(&self, saved: &Saved) -> BTreeMap<String, String> {
        let manifest = fs::read(self.folder().join("manifests").join(&saved.name)).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let files = manifest["files"].as_array().unwrap().iter();
        files.map(|file| (text(&file["name"]), text(&file["object"]))).collect()
    }
}

pub(super) fn stamp(offset: u64) -> Stamp {
    Stamp { partition: PARTITION, generation: 0, offset, last_tick: None }
}

pub(super) fn keep_going(_: &RestoreProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Commits some bytes under a key of this number, as a worker on Kafka does.
pub(super) fn grow(store: &mut Store, number: u64, bytes: usize) {
    let key = [&[table::PAGE][..], &number.to_be_bytes()].concat();
    // Nothing that compresses.
    let mut state = number + 1;
    let value = (0..bytes).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let value = value.collect();
    store.put(key, value);
    store.commit(&number.to_be_bytes(), None, Durability::Unlogged).unwrap();
}

/// All rows of a state that is not open.
pub(super) fn rows_in(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows(&open(path))
}

/// Copies a directory of files.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The names in a directory, in order.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
