//! One checkpoint becomes a snapshot; and what no snapshot needs any more goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tracing::debug;

use super::checkpoint::Checkpoint;
use super::folder::{Contents, Folder, is_old};
use super::manifest::{FORMAT, Listed, Manifest, Stored, Unreadable};
use super::remote::hex;
use super::{DAY, HALF_DAY, KEPT, SnapshotError, TRANSFERS};
use crate::SCHEMA;
use crate::store::random;

/// A snapshot that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Of its manifest.
    pub name: String,
    /// When its checkpoint was made.
    pub created: Timestamp,
    /// All files that it consists of.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of the files, those that were not there before.
    pub uploaded_files: usize,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// How long the upload took.
    pub took: Duration,
}

/// The topic that the partition is of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) topic: String,
    pub(crate) partitions: u32,
}

/// Uploads what the folder has not got, and then the manifest.
pub(crate) async fn upload(folder: &Folder, checkpoint: &Checkpoint, origin: &Origin) -> Result<Saved, SnapshotError> {
    let began = Instant::now();
    let (tables, others) = checkpoint.files()?;
    // Names that nobody has used, wherever the directory comes from and whoever else uploads.
    let id = format!("{:020}-{:016x}", checkpoint.stamp.offset, random());
    // These first: they are new, so they tell what time it is there.
    let mut files = put_all(folder, checkpoint, &id, others).await?;
    let contents = folder.contents().await?;
    let usable = usable(folder, &contents, &files).await?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in tables {
        match checkpoint.uploaded.get(&name) {
            Some(file) if contents.has(&file.object, file.bytes) && usable.contains(&file.object) => found.push(file),
            _ => missing.push(name),
        }
    }
    files.extend(put_all(folder, checkpoint, &id, missing).await?);
    let (uploaded_files, uploaded_bytes) = (files.len(), total(&files));
    files.extend(found);
    if began.elapsed() > HALF_DAY {
        return Err(SnapshotError::TooSlow { place: folder.show(&folder.path) });
    }
    let (all_files, bytes) = (files.len(), total(&files));
    let name = put_manifest(folder, checkpoint, origin, files).await?;
    let (created, took) = (checkpoint.created, began.elapsed());
    Ok(Saved { name, created, files: all_files, bytes, uploaded_files, uploaded_bytes, took })
}

fn total(files: &[Stored]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// The objects that will be there for half a day more whatever others do: see the module's documentation.
async fn usable(folder: &Folder, contents: &Contents, new: &[Stored]) -> Result<BTreeSet<String>, SnapshotError> {
    let mut usable = folder.kept(contents).await?;
    let now = new.iter().filter_map(|file| contents.files.get(&file.object)).map(|object| object.modified).max();
    let is_young = |modified| now.is_some_and(|now| !is_old(modified, now, HALF_DAY));
    let young = contents.files.iter().filter(|(_, object)| is_young(object.modified));
    usable.extend(young.map(|(name, _)| name.clone()));
    Ok(usable)
}

/// Uploads these files of a checkpoint, a few at a time.
async fn put_all(
    folder: &Folder,
    checkpoint: &Checkpoint,
    id: &str,
    names: Vec<String>,
) -> Result<Vec<Stored>, SnapshotError> {
    let (mut stored, mut failed) = (Vec::with_capacity(names.len()), None);
    let (mut names, mut running) = (names.into_iter(), JoinSet::new());
    loop {
        // After an error, those that are under way come to their end: whoever is torn away leaves parts behind.
        while failed.is_none()
            && running.len() < TRANSFERS
            && let Some(name) = names.next()
        {
            running.spawn(put(folder.clone(), checkpoint.path(&name), format!("{id}-{name}"), name));
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(file))) => {
                if file.name.ends_with(".sst") {
                    checkpoint.uploaded.insert(file.clone());
                }
                stored.push(file);
            }
            Some(Ok(Err(error))) => failed = failed.or(Some(error)),
            Some(Err(error)) => {
                let place = folder.show(&folder.path);
                failed = failed.or(Some(SnapshotError::Away { place, source: error.into() }));
            }
        }
    }
    failed.map_or(Ok(stored), Err)
}

async fn put(folder: Folder, from: std::path::PathBuf, object: String, name: String) -> Result<Stored, SnapshotError> {
    let sent = folder.remote.put_file(&folder.file(&object), &from).await?;
    Ok(Stored { name, object, bytes: sent.bytes, sha256: sent.sha256 })
}

async fn put_manifest(
    folder: &Folder,
    checkpoint: &Checkpoint,
    origin: &Origin,
    mut files: Vec<Stored>,
) -> Result<String, SnapshotError> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let stamp = &checkpoint.stamp;
    let manifest = Manifest {
        format: FORMAT,
        schema: SCHEMA,
        topic: origin.topic.clone(),
        partitions: origin.partitions,
        partition: stamp.partition,
        generation: stamp.generation,
        offset: stamp.offset,
        position: hex(&checkpoint.position),
        last_tick: stamp.last_tick,
        created: checkpoint.created,
        files,
    };
    let encoded = manifest.encode().map_err(|error| SnapshotError::disk(&checkpoint.path("manifest"), error.into()));
    let (name, bytes) = encoded?;
    folder.remote.put(&folder.manifest(&name), bytes).await?;
    Ok(name)
}

/// Deletes what nothing has needed for a day, by the store's clock, which the snapshot `newest` was just written by.
pub(crate) async fn sweep(folder: &Folder, newest: &str) -> Result<(), SnapshotError> {
    let contents = folder.contents().await?;
    let Some(now) = contents.manifests.iter().find(|listed| listed.name == newest).map(|listed| listed.modified) else {
        return Ok(());
    };
    let Needed { objects, superseded, is_certain } = needed(folder, &contents, now).await?;
    for listed in &superseded {
        folder.remote.delete(&folder.manifest(&listed.name)).await?;
    }
    let is_garbage = |name: &str, modified| !objects.contains(name) && is_old(modified, now, DAY);
    let garbage = contents.files.iter().filter(|(name, object)| is_certain && is_garbage(name, object.modified));
    let mut deleted = 0;
    for (name, _) in garbage {
        folder.remote.delete(&folder.file(name)).await?;
        deleted += 1;
    }
    debug!(manifests = superseded.len(), files = deleted, folder = folder.show(&folder.path), "swept");
    Ok(())
}

/// What a folder's manifests need.
struct Needed<'a> {
    objects: BTreeSet<String>,
    /// Those that two others have superseded for a day.
    superseded: Vec<&'a Listed>,
    /// Whether all other manifests could be read.
    is_certain: bool,
}

async fn needed<'a>(folder: &Folder, contents: &'a Contents, now: i64) -> Result<Needed<'a>, SnapshotError> {
    let mut needed = Needed { objects: BTreeSet::new(), superseded: Vec::new(), is_certain: true };
    let mut established = 0;
    for listed in &contents.manifests {
        if established >= KEPT {
            needed.superseded.push(listed);
            continue;
        }
        match folder.read(listed).await? {
            Ok(manifest) => {
                established += usize::from(contents.has_all(&manifest) && is_old(listed.modified, now, DAY));
                needed.objects.extend(manifest.files.into_iter().map(|file| file.object));
            }
            Err(Unreadable::Gone) => {}
            Err(Unreadable::Format(_) | Unreadable::Torn) => needed.is_certain = false,
        }
    }
    Ok(needed)
}
