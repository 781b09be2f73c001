//! How far each file of a command has been read: what is committed with the state, so that a later run goes on there.
//!
//! A file is known again by its path and its first bytes. If they are still what they were, the file is the same one,
//! perhaps longer; else it is a new file under an old name, and is read from its beginning. Of a path that is followed there
//! may be several: the file that has the name, and those that had it and are not done with. What tells these apart is
//! their identity on the disk, which alone would not do: it is given to others once a file is deleted.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How many first bytes tell a file from another: one page, a dozen events.
pub const HEAD_BYTES: usize = 4096;
/// How many files a position holds, and so how many a command takes: a file a day for eleven years. Of those that earlier
/// commands read to their ends, the oldest are dropped beyond it; their events are known if they are read again.
pub const FILES: usize = 4096;
/// The version of the encoding.
const VERSION: u8 = 2;
/// The one before, which had no [`FileId`] and no [`FilePosition::modified`].
const WITHOUT_ID: u8 = 1;
const HASH_BYTES: usize = 32;

/// Which file it is, as long as it exists, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system's.
    pub device: u64,
    /// Its own there.
    pub inode: u64,
}

impl FileId {
    /// Of a file that somebody asked.
    pub fn of(metadata: &Metadata) -> FileId {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What a file is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its canonical path.
    pub path: PathBuf,
    /// Which file of that path; `None` if a version of touchline stored it that did not know.
    pub id: Option<FileId>,
    head: [u8; HASH_BYTES],
    head_bytes: u16,
}

impl Fingerprint {
    /// Of a file that begins with `head`, of which the first [`HEAD_BYTES`] are taken.
    pub fn new(path: PathBuf, id: FileId, head: &[u8]) -> Fingerprint {
        let head = &head[..head.len().min(HEAD_BYTES)];
        Fingerprint { path, id: Some(id), head: Sha256::digest(head).into(), head_bytes: head.len() as u16 }
    }

    /// Whether a file that begins with `head` may be this one, or have grown from it.
    pub fn begins(&self, head: &[u8]) -> bool {
        let first = head.get(..usize::from(self.head_bytes));
        first.is_some_and(|first| Sha256::digest(first)[..] == self.head)
    }

    /// How many first bytes it knows.
    pub fn head_bytes(&self) -> usize {
        usize::from(self.head_bytes)
    }
}

/// How far one file has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// Which file.
    pub fingerprint: Fingerprint,
    /// When it had been written to last.
    pub modified: Option<SystemTime>,
    /// Where the next record starts, after decompression.
    pub offset: u64,
    /// On which line.
    pub line: u64,
    /// Offset and line of the record that only the end of the file ended: should the file grow, it may become longer.
    pub unterminated: Option<(u64, u64)>,
    /// How many bytes the file had, before decompression, when its end was reached; `None` if it was not.
    pub finished: Option<u64>,
}

/// How far the files of this and earlier commands have been read, the one opened last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesPosition {
    files: Vec<FilePosition>,
}

/// Bytes that are no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored position of the files cannot be read ({what}); run with another --state, which reads them from their beginnings"
)]
pub struct CorruptPosition {
    what: &'static str,
}

impl FilesPosition {
    /// The files, the one opened last at the end.
    pub fn files(&self) -> &[FilePosition] {
        &self.files
    }

    /// How far the file at `path` that begins with `head` has been read; `None` for a file that is new.
    pub fn find(&self, path: &Path, id: FileId, head: &[u8]) -> Option<&FilePosition> {
        let known = |file: &&FilePosition| file.fingerprint.path == path && file.fingerprint.begins(head);
        let same = self.files.iter().filter(known).find(|file| file.fingerprint.id == Some(id));
        same.or_else(|| self.files.iter().find(known))
    }

    /// Notes how far a file has been read. A file that is not yet known goes to the end.
    pub fn set(&mut self, position: FilePosition) {
        let Fingerprint { path, id, .. } = &position.fingerprint;
        let known = |file: &&mut FilePosition| file.fingerprint.path == *path && file.fingerprint.id == *id;
        match self.files.iter_mut().find(known) {
            Some(file) => *file = position,
            None => self.files.push(position),
        }
        if self.files.len() > FILES
            && let Some(oldest) = self.files.iter().position(|file| file.finished.is_some())
        {
            self.files.remove(oldest);
        }
    }

    /// Takes out the files of `path`, which is about to be opened.
    pub(crate) fn take(&mut self, path: &Path) -> Vec<FilePosition> {
        self.files.extract_if(.., |file| file.fingerprint.path == path).collect()
    }

    /// Forgets one of the files of `path`.
    pub(crate) fn forget(&mut self, path: &Path, id: FileId) {
        self.files.retain(|file| file.fingerprint.path != path || file.fingerprint.id != Some(id));
    }

    /// Appends the position as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for file in &self.files {
            let path = file.fingerprint.path.as_os_str().as_bytes();
            out.extend_from_slice(&(path.len() as u32).to_be_bytes());
            out.extend_from_slice(path);
            let id = file.fingerprint.id.unwrap_or(FileId { device: 0, inode: 0 });
            out.extend_from_slice(&id.device.to_be_bytes());
            out.extend_from_slice(&id.inode.to_be_bytes());
            let modified = file.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            let nanoseconds = modified.and_then(|since| u64::try_from(since.as_nanos()).ok());
            out.extend_from_slice(&nanoseconds.unwrap_or(0).to_be_bytes());
            out.extend_from_slice(&file.fingerprint.head_bytes.to_be_bytes());
            out.extend_from_slice(&file.fingerprint.head);
            out.extend_from_slice(&file.offset.to_be_bytes());
            out.extend_from_slice(&file.line.to_be_bytes());
            let (start, line) = file.unterminated.unwrap_or((u64::MAX, 0));
            out.extend_from_slice(&start.to_be_bytes());
            out.extend_from_slice(&line.to_be_bytes());
            out.extend_from_slice(&file.finished.unwrap_or(u64::MAX).to_be_bytes());
        }
    }

    /// Reads what [`FilesPosition::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are of another version, or end too early.
    pub fn decode(bytes: &[u8]) -> Result<FilesPosition, CorruptPosition> {
        let (&version, mut rest) = bytes.split_first().ok_or(CorruptPosition { what: "it is empty" })?;
        if ![VERSION, WITHOUT_ID].contains(&version) {
            return Err(CorruptPosition { what: "another version of touchline wrote it" });
        }
        let mut files = Vec::new();
        while !rest.is_empty() {
            let file = file(&mut rest, version != WITHOUT_ID).ok_or(CorruptPosition { what: "it ends too early" })?;
            files.push(file);
        }
        Ok(FilesPosition { files })
    }
}

fn file(rest: &mut &[u8], has_id: bool) -> Option<FilePosition> {
    let path_bytes = u32::from_be_bytes(take(rest)?);
    let (path, after) = rest.split_at_checked(path_bytes as usize)?;
    *rest = after;
    let path = PathBuf::from(OsStr::from_bytes(path));
    let (mut id, mut modified) = (None, None);
    if has_id {
        let [device, inode, nanoseconds] = [take(rest)?, take(rest)?, take(rest)?].map(u64::from_be_bytes);
        modified = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)).filter(|_| nanoseconds > 0);
        // No file has the number 0.
        id = Some(FileId { device, inode }).filter(|_| inode > 0);
    }
    let head_bytes = u16::from_be_bytes(take(rest)?);
    let fingerprint = Fingerprint { path, id, head_bytes, head: take(rest)? };
    let mut number = || take(rest).map(u64::from_be_bytes);
    let (offset, line) = (number()?, number()?);
    let (start, start_line) = (number()?, number()?);
    let finished = number()?;
    Some(FilePosition {
        fingerprint,
        modified,
        offset,
        line,
        unterminated: (start != u64::MAX).then_some((start, start_line)),
        finished: (finished != u64::MAX).then_some(finished),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}
