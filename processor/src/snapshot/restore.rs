//! A snapshot becomes a store's directory again.
//!
//! All is downloaded into a directory beside the target, checked against the manifest, opened and synced; then it is renamed.
//! So the target is a whole state or is not there, and what a restore that died has left is removed by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rocksdb::{DB, Options};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::checkpoint::Uploaded;
use super::folder::{Contents, Folder};
use super::manifest::{Listed, Manifest, Stored, Unreadable, unhex};
use super::remote::{PART, hex};
use super::upload::Origin;
use super::{SnapshotError, TRANSFERS, fault};
use crate::keys;
use crate::store::{SCHEMAS, schemas};

/// The caller hears of a restore this often: a bar moves, and a stop is soon.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// How far a restore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes of the whole snapshot; 0 until one is chosen.
    pub total: u64,
    /// If the store is waited for, what it said last.
    pub waits_for: Option<String>,
}

/// A state that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot.
    pub listed: Listed,
    /// The journal's position, as the store has it.
    pub position: Vec<u8>,
    /// The last tick that it had seen.
    pub last_tick: Option<Timestamp>,
    /// Bytes downloaded and checked.
    pub bytes: u64,
    /// Further snapshots that were no good, and why.
    pub passed_over: Vec<String>,
}

/// Restores the furthest good snapshot among those that `choose` takes.
pub(crate) async fn restore(
    folder: &Folder,
    origin: &Origin,
    partition: u32,
    target: &Path,
    choose: &mut dyn FnMut(&Listed) -> bool,
    progress: &mut dyn FnMut(&RestoreProgress) -> ControlFlow<()>,
) -> Result<Option<Restored>, SnapshotError> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(SnapshotError::Occupied { path: target.to_path_buf() });
    }
    let state = Arc::new(State::default());
    let contents = watched(&state, progress, state.patiently(|| folder.contents())).await?;
    let chosen: Vec<_> = contents.manifests.iter().filter(|listed| choose(listed)).collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let staging = Staging::begin(target)?;
    let mut passed_over = Vec::new();
    for listed in &chosen {
        let read = watched(&state, progress, state.patiently(|| folder.read(listed))).await?;
        let manifest = match read.map_err(Bad::from).and_then(|manifest| check(manifest, &contents, origin, partition))
        {
            Ok(manifest) => manifest,
            Err(Bad::Format(found)) => return Err(folder.foreign_format(listed, found)),
            Err(Bad::Schema(found)) => return Err(folder.foreign(listed, "schema", found, schemas())),
            Err(Bad::Partitions(found)) => {
                let place = folder.show(&folder.manifest(&listed.name));
                return Err(SnapshotError::Partitions { place, found, expected: origin.partitions });
            }
            Err(Bad::Damaged(what)) => {
                passed_over.push(format!("{}: {what}", listed.name));
                continue;
            }
        };
        state.begin(&manifest);
        let downloaded = download(folder, &manifest, &staging, &state);
        match watched(&state, progress, downloaded).await?.and_then(|()| open(&staging.path, &manifest)) {
            Ok(position) => {
                staging.finish(&manifest, target)?;
                let (last_tick, bytes) = (manifest.last_tick, state.total.load(Ordering::Relaxed));
                return Ok(Some(Restored { listed: (*listed).clone(), position, last_tick, bytes, passed_over }));
            }
            Err(what) => passed_over.push(format!("{}: {what}", listed.name)),
        }
    }
    Err(SnapshotError::Damaged { place: folder.show(&folder.path), problems: passed_over })
}

/// Why a manifest is of no use.
enum Bad {
    Format(u32),
    Schema(u32),
    Partitions(u32),
    Damaged(String),
}

impl From<Unreadable> for Bad {
    fn from(unreadable: Unreadable) -> Bad {
        match unreadable {
            Unreadable::Format(found) => Bad::Format(found),
            Unreadable::Torn => Bad::Damaged("the manifest is not what was written".to_owned()),
            Unreadable::Gone => Bad::Damaged("the manifest is gone".to_owned()),
        }
    }
}

fn check(manifest: Manifest, contents: &Contents, origin: &Origin, partition: u32) -> Result<Manifest, Bad> {
    if !SCHEMAS.contains(&manifest.schema) {
        return Err(Bad::Schema(manifest.schema));
    }
    if (&manifest.topic, manifest.partition) != (&origin.topic, partition) {
        return Err(Bad::Damaged(format!("it is of partition {} of {}", manifest.partition, manifest.topic)));
    }
    if manifest.partitions != origin.partitions {
        return Err(Bad::Partitions(manifest.partitions));
    }
    match manifest.files.iter().find(|file| !contents.has(&file.object, file.bytes)) {
        Some(file) if contents.files.contains_key(&file.object) => {
            Err(Bad::Damaged(format!("{} has not the size that it should", file.object)))
        }
        Some(file) => Err(Bad::Damaged(format!("{} is not there", file.object))),
        None => Ok(manifest),
    }
}

/// What tells of a restore, and what it waits for.
#[derive(Default)]
struct State {
    bytes: AtomicU64,
    total: AtomicU64,
    /// How many transfers wait for the store.
    waiting: AtomicUsize,
    /// What it said last.
    said: Mutex<String>,
}

impl State {
    fn begin(&self, manifest: &Manifest) {
        self.bytes.store(0, Ordering::Relaxed);
        self.total.store(manifest.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
    }

    fn progress(&self) -> RestoreProgress {
        let said = || self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RestoreProgress {
            bytes: self.bytes.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            waits_for: (self.waiting.load(Ordering::Relaxed) > 0).then(said),
        }
    }

    /// Does something until it succeeds, or fails for good.
    async fn patiently<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, SnapshotError>
    where
        F: Future<Output = Result<T, SnapshotError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            match attempt().await {
                Err(error) if error.is_transient() => {
                    *self.said.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(backoff.next()).await;
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                done => return done,
            }
        }
    }
}

/// Tells of the progress until something is done, or nobody wants it any more.
async fn watched<T>(
    state: &State,
    progress: &mut dyn FnMut(&RestoreProgress) -> ControlFlow<()>,
    work: impl Future<Output = Result<T, SnapshotError>>,
) -> Result<T, SnapshotError> {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    loop {
        tokio::select! {
            done = &mut work => {
                return if progress(&state.progress()).is_break() { Err(SnapshotError::Stopped) } else { done };
            }
            _ = ticks.tick() => {
                if progress(&state.progress()).is_break() {
                    return Err(SnapshotError::Stopped);
                }
            }
        }
    }
}

/// Fetches all files, a few at a time. What is wrong with the snapshot is the inner error.
async fn download(
    folder: &Folder,
    manifest: &Manifest,
    staging: &Staging,
    state: &Arc<State>,
) -> Result<Result<(), String>, SnapshotError> {
    let (mut running, mut bad) = (JoinSet::new(), None);
    let here = staging.keep(manifest)?;
    let mut files = manifest.files.iter().filter(|file| !here.contains(&file.name)).cloned();
    state.bytes.fetch_add(
        manifest.files.iter().filter(|file| here.contains(&file.name)).map(|file| file.bytes).sum(),
        Ordering::Relaxed,
    );
    loop {
        while bad.is_none()
            && running.len() < TRANSFERS
            && let Some(file) = files.next()
        {
            running.spawn(fetch(folder.clone(), file, staging.path.clone(), state.clone()));
        }
        match running.join_next().await {
            None => return Ok(bad.map_or(Ok(()), Err)),
            Some(Ok(Ok(Ok(file)))) => staging.verified(file),
            Some(Ok(Ok(Err(what)))) => bad = bad.or(Some(what)),
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(error)) => return Err(SnapshotError::disk(&staging.path, std::io::Error::other(error))),
        }
    }
}

/// Fetches a file, part by part.
async fn fetch(
    folder: Folder,
    file: Stored,
    into: PathBuf,
    state: Arc<State>,
) -> Result<Result<Stored, String>, SnapshotError> {
    let (from, path) = (folder.file(&file.object), into.join(&file.name));
    let failed = |error| SnapshotError::disk(&path, error);
    let mut out = File::create(&path).map_err(failed)?;
    let (mut at, mut hash) = (0, Sha256::new());
    while at < file.bytes {
        let end = file.bytes.min(at + PART as u64);
        let part = state.patiently(|| folder.remote.get_part(&from, at..end)).await?;
        let Some(part) = part else { return Ok(Err(format!("{} is gone", file.object))) };
        hash.update(&part);
        fault::write().and_then(|()| out.write_all(&part)).map_err(failed)?;
        state.bytes.fetch_add(end - at, Ordering::Relaxed);
        at = end;
    }
    if hex(&hash.finalize()) != file.sha256 {
        return Ok(Err(format!("{} is not what was written", file.object)));
    }
    Ok(Ok(file))
}

/// Opens what was restored, to see that it is a state and the one that the manifest tells of. Returns its position.
fn open(path: &Path, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let db = DB::open_for_read_only(&Options::default(), path, false).map_err(|error| error.to_string())?;
    let get = |key| db.get(key).map_err(|error| error.to_string()).map(Option::unwrap_or_default);
    let (schema, position) = (get(keys::IDENTITY)?, get(keys::POSITION)?);
    if !schema.starts_with(&manifest.schema.to_be_bytes()) || Some(&position) != unhex(&manifest.position).as_ref() {
        return Err("it holds another state than its manifest says".to_owned());
    }
    Ok(position)
}

/// The directory in which a state is put together. Gone when it is dropped.
struct Staging {
    path: PathBuf,
    /// What is here and was checked, by name.
    verified: Mutex<BTreeMap<String, Stored>>,
}

impl Staging {
    fn begin(target: &Path) -> Result<Staging, SnapshotError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".restoring");
        let staging = Staging { path: target.with_file_name(name), verified: Mutex::default() };
        let path = &staging.path;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(SnapshotError::disk(path, error)),
            _ => fs::create_dir_all(path).map_err(|error| SnapshotError::disk(path, error))?,
        }
        Ok(staging)
    }

    /// Removes all but what another snapshot needs just as it is here, of which it returns the names.
    fn keep(&self, manifest: &Manifest) -> Result<BTreeSet<String>, SnapshotError> {
        let failed = |error| SnapshotError::disk(&self.path, error);
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|_, file| manifest.files.contains(file));
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_str().is_some_and(|name| verified.contains_key(name)) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(verified.keys().cloned().collect())
    }

    fn verified(&self, file: Stored) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(file.name.clone(), file);
    }

    /// Makes it durable, and the target.
    fn finish(self, manifest: &Manifest, target: &Path) -> Result<(), SnapshotError> {
        let failed = |error| SnapshotError::disk(&self.path, error);
        let tables = manifest.files.iter().filter(|file| file.name.ends_with(".sst"));
        fault::write().and_then(|()| Uploaded::write(&self.path, tables)).map_err(failed)?;
        for file in &manifest.files {
            let path = self.path.join(&file.name);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| SnapshotError::disk(&path, error))?;
        }
        let sync = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
        sync(&self.path).map_err(failed)?;
        fs::rename(&self.path, target).map_err(failed)?;
        target.parent().map_or(Ok(()), sync).map_err(failed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next restore.
        let _ = fs::remove_dir_all(&self.path);
    }
}
