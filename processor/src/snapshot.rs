//! Snapshots: states of a partition in a store from which any machine can go on.
//!
//! A worker's thread makes a [`Checkpoint`] between two commits, which takes the flush of a memtable and some links. The
//! [`Uploader`]'s thread makes a snapshot of it: files that the store has not got, and then a manifest. [`Snapshots::restore`]
//! makes a store's directory of the furthest whole snapshot.
//!
//! # Layout
//!
//! ```text
//! <url>/<events topic>/<partition>/manifests/<generation>-<offset>-<created>-<hash>.json
//!                                 /files/<offset of its first snapshot>-<random>-<name in RocksDB>
//! ```
//!
//! - *A name is written once.* Each upload has a random number, so it writes no object that another has written, whatever
//!   numbers RocksDB gives: a restored directory goes on with the numbers (and the DB identity) of the one it comes from, and
//!   a zombie with the same. Which object a table is already, only its directory says ([`checkpoint`]).
//! - *A manifest is written last*, so one that is there is whole, unless somebody has lost a file since. The name ends in a
//!   hash of the content, and the content has the hash of each file: nothing torn is believed.
//! - *The furthest is the one with the greatest generation, then offset*, not the one that was written last: a zombie's are
//!   behind.
//!
//! # What is kept
//!
//! The two furthest whole snapshots, and everything that anybody may still be about to need. Two processes may work on one
//! partition for a while after a rebalance, and nothing locks them out. So, by the store's own clock:
//!
//! - A manifest goes when two further whole ones have been there for a day. A file goes when it is a day old and no manifest
//!   names it.
//! - An upload counts on no other objects than those of the two furthest whole manifests and those younger than half a day;
//!   and it gives up if it has not written its manifest within half a day after it looked.
//!
//! Say that an upload looks at *t* and counts on a file of manifest B, one of the two furthest. For B to go, two further
//! whole ones have to have been there for a day; at *t* there was one at the most; so B goes after *t* + 24 h, and the upload's
//! own manifest has been there since *t* + 12 h. The same sum holds for a young file that no manifest names. An upload that is
//! stopped between its last look at the clock and its manifest for half a day would end in a manifest of which files may be
//! missing: far behind, not whole, and so neither counted nor restored.
//!
//! In a bucket, let a rule abort multipart uploads that are incomplete for some days: a process that is killed leaves parts.

mod backoff;
mod checkpoint;
mod error;
mod fault;
mod folder;
mod location;
mod manifest;
mod remote;
mod restore;
mod upload;
mod uploader;

use std::ops::{ControlFlow, Range};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

pub use self::checkpoint::Checkpoint;
pub(crate) use self::checkpoint::Uploaded;
pub use self::error::SnapshotError;
#[cfg(test)]
pub(crate) use self::fault::{arm_disk, arm_store};
use self::folder::{Folder, clear_leftovers};
use self::location::Location;
pub use self::manifest::Listed;
use self::remote::Remote;
pub use self::restore::{RestoreProgress, Restored};
use self::upload::Origin;
pub use self::upload::Saved;
pub use self::uploader::{Event, Uploader};
use crate::store::random;

/// Whole snapshots that are kept: if one is damaged, there is another.
pub(crate) const KEPT: usize = 2;
/// What is superseded or unreferenced for this long goes.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// An upload may take this long: see the module's documentation.
pub(crate) const HALF_DAY: Duration = Duration::from_secs(DAY.as_secs() / 2);
/// Files on their way at once: enough to hide the latency of a store; each has a part in memory.
pub(crate) const TRANSFERS: usize = 4;

/// From a byte of an object up to another.
type Part = Range<u64>;

/// What a worker knows of the state that it makes a checkpoint of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The partition.
    pub partition: u32,
    /// How often its state has been built from nothing.
    pub generation: u64,
    /// The offset of the record that the log goes on with.
    pub offset: u64,
    /// The last tick, for those who look.
    pub last_tick: Option<Timestamp>,
}

/// The snapshots of a topic's partitions. Every call opens connections of its own and blocks until it is done.
#[derive(Clone, Debug)]
pub struct Snapshots {
    location: Arc<Location>,
    origin: Origin,
}

impl Snapshots {
    /// Where snapshots are kept: `file:///folder`, which is made if it is not there, or `s3://bucket/prefix`. For the latter
    /// credentials, region and endpoint are taken from the environment, by the names that the AWS tools use (`AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …; files in `~/.aws` are not read). HTTP without TLS is used if the endpoint
    /// says `http://`. Nothing is connected yet.
    pub fn open(url: &str, topic: &str, partitions: u32) -> Result<Snapshots, SnapshotError> {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Snapshots::with(url, topic, partitions, env)
    }

    pub(crate) fn with(
        url: &str,
        topic: &str,
        partitions: u32,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Snapshots, SnapshotError> {
        let location = Arc::new(Location::parse(url, env)?);
        location.connect()?;
        Ok(Snapshots { location, origin: Origin { topic: topic.to_owned(), partitions } })
    }

    /// Writes, lists, reads and deletes a small object, to see that all of that can be done.
    pub fn probe(&self) -> Result<(), SnapshotError> {
        self.block_on(async |remote| {
            let folder = self.location.prefix().clone().join("probe");
            let path = folder.clone().join(format!("{:016x}", random()));
            let written = path.to_string().into_bytes();
            remote.put(&path, written.clone()).await?;
            let is_listed = remote.list(&folder).await?.iter().any(|object| object.location == path);
            let read = remote.get(&path, written.len() as u64).await?;
            remote.delete(&path).await?;
            if is_listed && read == Some(written) {
                return Ok(());
            }
            let source = "an object was written, and is not found again".into();
            Err(SnapshotError::Refused { place: remote.show(&path), source })
        })
    }

    /// The snapshots of a partition, the furthest first. Those that have been superseded within a day are among them, and
    /// nothing has been read of any but its name.
    pub fn list(&self, partition: u32) -> Result<Vec<Listed>, SnapshotError> {
        self.block_on(async |remote| self.folder(remote, partition).manifests().await)
    }

    /// Makes a snapshot of a checkpoint, and waits for it. Nothing that another snapshot needs is ever overwritten or deleted:
    /// after an error, the older ones are what they were.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<Saved, SnapshotError> {
        self.block_on(async |remote| {
            upload::upload(&self.folder(remote, checkpoint.stamp.partition), checkpoint, &self.origin).await
        })
    }

    /// Makes `directory`, which must not exist, the state of the furthest good snapshot among those that `choose` takes;
    /// `None` if it takes none. One with a file that is missing or is not what was written is passed over.
    ///
    /// A store that is out of reach is waited for. `progress` is told several times a second, and stops it.
    pub fn restore(
        &self,
        partition: u32,
        directory: &FilePath,
        mut choose: impl FnMut(&Listed) -> bool,
        mut progress: impl FnMut(&RestoreProgress) -> ControlFlow<()>,
    ) -> Result<Option<Restored>, SnapshotError> {
        self.block_on(async |remote| {
            let folder = self.folder(remote, partition);
            restore::restore(&folder, &self.origin, partition, directory, &mut choose, &mut progress).await
        })
    }

    /// Deletes what nobody needs any more. `newest` is the snapshot that was just made.
    pub fn sweep(&self, partition: u32, newest: &Saved) -> Result<(), SnapshotError> {
        self.block_on(async |remote| self.sweep_folder(&self.folder(remote, partition), newest).await)
    }

    pub(crate) async fn sweep_folder(&self, folder: &Folder, newest: &Saved) -> Result<(), SnapshotError> {
        upload::sweep(folder, &newest.name).await?;
        if let Some(root) = self.location.folder() {
            for path in [folder.path.clone().join("files"), folder.path.clone().join("manifests")] {
                let path = root.join(path.as_ref());
                clear_leftovers(&path, DAY).map_err(|error| SnapshotError::disk(&path, error))?;
            }
        }
        Ok(())
    }

    pub(crate) fn folder(&self, remote: Remote, partition: u32) -> Folder {
        let path = self.location.prefix().clone().join(self.origin.topic.as_str()).join(partition.to_string());
        Folder { remote, path }
    }

    fn block_on<T>(&self, work: impl AsyncFnOnce(Remote) -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
        let runtime = self.runtime()?;
        let done = runtime.block_on(async { work(Remote::connect(&self.location)?).await });
        // What it has begun on other threads ends by itself, and nobody waits for it.
        runtime.shutdown_background();
        done
    }

    fn runtime(&self) -> Result<Runtime, SnapshotError> {
        let built = Builder::new_current_thread().enable_all().build();
        built.map_err(|source| SnapshotError::Away { place: self.location.url().to_owned(), source: source.into() })
    }
}
