//! What is asked of a store: whole objects in bounded parts, and lists.

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::location::Location;
use super::{Part, SnapshotError, fault};

/// What is in memory of a file that is on its way: S3 wants parts of at least 5 MiB and takes 10,000 of them.
pub(crate) const PART: usize = 8 << 20;

/// A store, as one runtime sees it.
#[derive(Clone)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    location: Arc<Location>,
}

/// What was read off a file while it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Remote {
    pub(crate) fn connect(location: &Arc<Location>) -> Result<Remote, SnapshotError> {
        Ok(Remote { store: location.connect()?, location: location.clone() })
    }

    pub(crate) fn show(&self, path: &Path) -> String {
        self.location.show(path)
    }

    /// The objects right below a folder.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, SnapshotError> {
        self.begin(folder)?;
        match self.store.list_with_delimiter(Some(folder)).await {
            Ok(listed) => Ok(listed.objects),
            Err(error) => Err(self.failed(folder, error)),
        }
    }

    /// A whole object, or nothing of it if it has more than `limit` bytes; `None` if there is none.
    pub(crate) async fn get(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        self.begin(path)?;
        match self.store.get(path).await {
            Ok(found) if found.meta.size > limit => Ok(Some(Vec::new())),
            Ok(found) => match found.bytes().await {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) => Err(self.failed(path, error)),
            },
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Some of an object; `None` if it is not there, or has not that much.
    pub(crate) async fn get_part(&self, path: &Path, part: Part) -> Result<Option<Vec<u8>>, SnapshotError> {
        self.begin(path)?;
        match self.store.get_range(path, part.clone()).await {
            Ok(bytes) if bytes.len() as u64 == part.end - part.start => Ok(Some(bytes.into())),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Writes an object whole, or not at all.
    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), SnapshotError> {
        self.begin(path)?;
        match self.store.put(path, bytes.into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Writes a file as an object, whole or not at all.
    pub(crate) async fn put_file(&self, path: &Path, from: &FilePath) -> Result<Sent, SnapshotError> {
        let mut file = Hashed::open(from)?;
        let first = file.part()?;
        if first.len() < PART {
            self.put(path, first).await?;
            return Ok(file.sent());
        }
        self.begin(path)?;
        let mut upload = self.store.put_multipart(path).await.map_err(|error| self.failed(path, error))?;
        let mut part = first;
        let sent = async {
            while !part.is_empty() {
                self.begin(path)?;
                let put = upload.put_part(std::mem::take(&mut part).into());
                put.await.map_err(|error| self.failed(path, error))?;
                part = file.part()?;
            }
            self.begin(path)?;
            upload.complete().await.map_err(|error| self.failed(path, error))
        }
        .await;
        if let Err(error) = sent {
            // The parts would stay, and cost. If this fails too, the bucket's rule for incomplete uploads is left.
            let _ = upload.abort().await;
            return Err(error);
        }
        Ok(file.sent())
    }

    /// Deletes an object, if it is there.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), SnapshotError> {
        self.begin(path)?;
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// A folder that is gone is a file system that is not mounted: nothing of it is missing, and nothing may be written in
    /// its place.
    fn begin(&self, path: &Path) -> Result<(), SnapshotError> {
        fault::operation(|| self.show(path))?;
        match self.location.folder().map(std::fs::metadata) {
            Some(Err(source)) => Err(SnapshotError::Away { place: self.show(path), source: source.into() }),
            _ => Ok(()),
        }
    }

    fn failed(&self, path: &Path, error: object_store::Error) -> SnapshotError {
        SnapshotError::of(self.show(path), error)
    }
}

/// A file that is read once, in parts.
struct Hashed<'a> {
    path: &'a FilePath,
    file: File,
    bytes: u64,
    hash: Sha256,
}

impl Hashed<'_> {
    fn open(path: &FilePath) -> Result<Hashed<'_>, SnapshotError> {
        let file = File::open(path).map_err(|error| SnapshotError::disk(path, error))?;
        Ok(Hashed { path, file, bytes: 0, hash: Sha256::new() })
    }

    /// The next part; all but the last are [`PART`] long, and behind the last it is empty.
    fn part(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let mut part = Vec::new();
        let read = self.file.by_ref().take(PART as u64).read_to_end(&mut part);
        read.map_err(|error| SnapshotError::disk(self.path, error))?;
        self.bytes += part.len() as u64;
        self.hash.update(&part);
        Ok(part)
    }

    fn sent(self) -> Sent {
        Sent { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

/// Bytes as people write them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
