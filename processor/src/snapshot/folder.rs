//! The folder of one partition: what is in it, and what a state can be restored from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::time::Duration;
use std::{fs, io};

use object_store::path::Path;

use super::manifest::{FORMAT, Listed, MANIFEST_BYTES, Manifest, Unreadable};
use super::remote::Remote;
use super::{KEPT, SnapshotError};

/// The folder of a partition.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) remote: Remote,
    pub(crate) path: Path,
}

/// What is in a folder.
pub(crate) struct Contents {
    /// The furthest first.
    pub(crate) manifests: Vec<Listed>,
    /// By name.
    pub(crate) files: BTreeMap<String, Object>,
}

/// A file in a folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) bytes: u64,
    /// By the store's clock, in milliseconds.
    pub(crate) modified: i64,
}

impl Folder {
    pub(crate) fn manifest(&self, name: &str) -> Path {
        self.path.clone().join("manifests").join(name)
    }

    pub(crate) fn file(&self, name: &str) -> Path {
        self.path.clone().join("files").join(name)
    }

    pub(crate) fn show(&self, path: &Path) -> String {
        self.remote.show(path)
    }

    /// The snapshots, the furthest first.
    pub(crate) async fn manifests(&self) -> Result<Vec<Listed>, SnapshotError> {
        let objects = self.remote.list(&self.path.clone().join("manifests")).await?;
        let mut manifests: Vec<_> = objects
            .iter()
            .filter_map(|object| Listed::parse(object.location.filename()?, object.last_modified.timestamp_millis()))
            .collect();
        manifests.sort_by(|a, b| b.cmp(a));
        Ok(manifests)
    }

    /// All that is in the folder. Manifests are listed before files: of each that is listed, all files were there before,
    /// and are missed only if they are gone.
    pub(crate) async fn contents(&self) -> Result<Contents, SnapshotError> {
        let manifests = self.manifests().await?;
        let objects = self.remote.list(&self.path.clone().join("files")).await?;
        let files = objects.iter().filter_map(|object| {
            let modified = object.last_modified.timestamp_millis();
            Some((object.location.filename()?.to_owned(), Object { bytes: object.size, modified }))
        });
        Ok(Contents { manifests, files: files.collect() })
    }

    /// Reads a manifest.
    pub(crate) async fn read(&self, listed: &Listed) -> Result<Result<Manifest, Unreadable>, SnapshotError> {
        let bytes = self.remote.get(&self.manifest(&listed.name), MANIFEST_BYTES).await?;
        Ok(bytes.ok_or(Unreadable::Gone).and_then(|bytes| Manifest::decode(listed, &bytes)))
    }

    /// The objects that the two furthest whole snapshots consist of.
    pub(crate) async fn kept(&self, contents: &Contents) -> Result<BTreeSet<String>, SnapshotError> {
        let (mut kept, mut found) = (BTreeSet::new(), 0);
        for listed in &contents.manifests {
            if let Ok(manifest) = self.read(listed).await?
                && contents.has_all(&manifest)
            {
                kept.extend(manifest.files.into_iter().map(|file| file.object));
                found += 1;
                if found == KEPT {
                    break;
                }
            }
        }
        Ok(kept)
    }

    /// That of another version, as an error.
    pub(crate) fn foreign(&self, listed: &Listed, what: &'static str, found: u32, expected: String) -> SnapshotError {
        SnapshotError::Foreign { place: self.show(&self.manifest(&listed.name)), what, found, expected }
    }

    pub(crate) fn foreign_format(&self, listed: &Listed, found: u32) -> SnapshotError {
        self.foreign(listed, "format", found, FORMAT.to_string())
    }
}

impl Contents {
    /// Whether all files of a snapshot are there, as long as they should be.
    pub(crate) fn has_all(&self, manifest: &Manifest) -> bool {
        manifest.files.iter().all(|file| self.has(&file.object, file.bytes))
    }

    pub(crate) fn has(&self, object: &str, bytes: u64) -> bool {
        self.files.get(object).is_some_and(|found| found.bytes == bytes)
    }
}

/// Whether something is at least this old.
pub(crate) fn is_old(modified: i64, now: i64, age: Duration) -> bool {
    u128::try_from(now.saturating_sub(modified)).is_ok_and(|since| since >= age.as_millis())
}

/// Removes what uploads into a folder of this machine have left half done: the store shows none of it.
pub(crate) fn clear_leftovers(folder: &FilePath, age: Duration) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        match clear_leftover(&entry?, age) {
            // Somebody else's upload has come to its end between the two looks at it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn clear_leftover(entry: &fs::DirEntry, age: Duration) -> io::Result<()> {
    let name = entry.file_name();
    let number = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
    let is_leftover = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    if is_leftover && entry.metadata()?.modified()?.elapsed().is_ok_and(|since| since >= age) {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}
