//! Why a snapshot could not be made, found or restored, in sentences.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// What failed, and by [`SnapshotError::is_transient`] whether trying again can help.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The URL names no store.
    #[error("snapshots cannot be kept at {url:?}: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The store does not answer, or says that it cannot now.
    #[error("the snapshots at {place} are out of reach: check that it is up and that the network leads to it")]
    Away {
        /// The object or folder, as a URL.
        place: String,
        /// What was said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A folder for snapshots is full.
    #[error("the disk that holds {place} is full: no snapshot is lost; free some space or move the folder")]
    StoreFull {
        /// The file.
        place: String,
        /// What was said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store answers, and refuses.
    #[error(
        "the store refuses {place}: check that the bucket or folder exists, and that the credentials may list, read, write \
         and delete there"
    )]
    Refused {
        /// The object or folder, as a URL.
        place: String,
        /// What was said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another version made the newest snapshot.
    #[error(
        "the snapshot {place} has {what} {found}, this version reads {expected}: start the version that made it; or read \
         the log from its start (`process --from-log-start`), which ends in new snapshots"
    )]
    Foreign {
        /// The manifest, as a URL.
        place: String,
        /// Of what there is another version.
        what: &'static str,
        /// What the manifest says.
        found: u32,
        /// What this version reads: a number, or the first and the last.
        expected: String,
    },
    /// The topic had another number of partitions, so accounts were on others.
    #[error(
        "the snapshot {place} is of a topic with {found} partitions, and it has {expected} now: accounts are on other \
         partitions than they were; read the log from its start (`process --from-log-start`), or go back to a topic with \
         {found}"
    )]
    Partitions {
        /// The manifest, as a URL.
        place: String,
        /// The number in the manifest.
        found: u32,
        /// The number that the topic has.
        expected: u32,
    },
    /// There are snapshots, but of none is everything there.
    #[error(
        "none of the snapshots at {place} is whole ({}): bring the files back. Without them `touchline process` makes the \
         state again from a log that has its beginning, and with `--from-log-start` from what is left of one",
        problems.join("; ")
    )]
    Damaged {
        /// The partition's folder, as a URL.
        place: String,
        /// What is wrong with each, the newest first.
        problems: Vec<String>,
    },
    /// The directory to restore into is in use.
    #[error("{path} is already there: put it aside before a snapshot is restored in its place")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The disk of the state is full.
    #[error("the disk that holds {path} is full: nothing was left there; free some space and try again")]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another failure of a file of ours.
    #[error("{path} cannot be read or written: check the disk, and the owner and mode of the directory")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store could not be looked at, or no checkpoint of it made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An upload took so long that files it counts on may have been deleted.
    #[error("the snapshot took over {} hours to upload and was given up: the link to {place} is too slow", super::HALF_DAY.as_secs() / 3600)]
    TooSlow {
        /// The partition's folder, as a URL.
        place: String,
    },
    /// The caller wanted no more of it.
    #[error("stopped before the snapshot was restored: nothing was left there")]
    Stopped,
}

impl SnapshotError {
    /// Whether the same may succeed later without anybody's doing anything about it here.
    pub fn is_transient(&self) -> bool {
        matches!(self, SnapshotError::Away { .. } | SnapshotError::StoreFull { .. })
    }

    /// What the store says, told by what can be done about it.
    pub(crate) fn of(place: String, source: object_store::Error) -> SnapshotError {
        use object_store::Error as E;
        let is_refused = matches!(
            &source,
            E::NotFound { .. }
                | E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::NotSupported { .. }
                | E::NotImplemented { .. }
                | E::InvalidPath { .. }
                | E::UnknownConfigurationKey { .. }
        );
        let (kind, source) = (io_kind(&source), Box::new(source));
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => SnapshotError::StoreFull { place, source },
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                SnapshotError::Refused { place, source }
            }
            _ if is_refused => SnapshotError::Refused { place, source },
            _ => SnapshotError::Away { place, source },
        }
    }

    /// What the system says of a file of ours.
    pub(crate) fn disk(path: &Path, source: io::Error) -> SnapshotError {
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => SnapshotError::Full { path, source },
            _ => SnapshotError::Disk { path, source },
        }
    }
}

/// What the system said, if an error comes from there.
fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}
