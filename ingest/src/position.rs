//! How far each file of a command has been read: what is committed with the state, so that a later run goes on there.
//!
//! A file is known again by its path and its first bytes. If they are still what they were, the file is the same one,
//! perhaps longer; else it is a new file under an old name, and is read from its beginning.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// How many first bytes tell a file from another: one page, a dozen events.
pub const HEAD_BYTES: usize = 4096;
/// How many files a position holds, and so how many a command takes: a file a day for eleven years. Of those that earlier
/// commands read to their ends, the oldest are dropped beyond it; their events are known if they are read again.
pub const FILES: usize = 4096;
/// The version of the encoding.
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;

/// What a file is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its canonical path.
    pub path: PathBuf,
    head: [u8; HASH_BYTES],
    head_bytes: u16,
}

impl Fingerprint {
    /// Of a file that begins with `head`, of which the first [`HEAD_BYTES`] are taken.
    pub fn new(path: PathBuf, head: &[u8]) -> Fingerprint {
        let head = &head[..head.len().min(HEAD_BYTES)];
        Fingerprint { path, head: Sha256::digest(head).into(), head_bytes: head.len() as u16 }
    }

    /// Whether a file at `path` that begins with `head` is this one, or has grown from it.
    pub fn matches(&self, path: &Path, head: &[u8]) -> bool {
        let first = head.get(..usize::from(self.head_bytes));
        self.path == path && first.is_some_and(|first| Sha256::digest(first)[..] == self.head)
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
    pub fn find(&self, path: &Path, head: &[u8]) -> Option<&FilePosition> {
        self.files.iter().find(|file| file.fingerprint.matches(path, head))
    }

    /// Notes how far a file has been read. A file that is not yet known goes to the end.
    pub fn set(&mut self, position: FilePosition) {
        let path = &position.fingerprint.path;
        match self.files.iter_mut().find(|file| file.fingerprint.path == *path) {
            Some(file) => *file = position,
            None => self.files.push(position),
        }
        if self.files.len() > FILES
            && let Some(oldest) = self.files.iter().position(|file| file.finished.is_some())
        {
            self.files.remove(oldest);
        }
    }

    /// Forgets the file at `path`, which is about to be opened.
    pub(crate) fn remove(&mut self, path: &Path) {
        self.files.retain(|file| file.fingerprint.path != path);
    }

    /// Appends the position as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for file in &self.files {
            let path = file.fingerprint.path.as_os_str().as_bytes();
            out.extend_from_slice(&(path.len() as u32).to_be_bytes());
            out.extend_from_slice(path);
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
        if version != VERSION {
            return Err(CorruptPosition { what: "another version of touchline wrote it" });
        }
        let mut files = Vec::new();
        while !rest.is_empty() {
            let file = file(&mut rest).ok_or(CorruptPosition { what: "it ends too early" })?;
            files.push(file);
        }
        Ok(FilesPosition { files })
    }
}

fn file(rest: &mut &[u8]) -> Option<FilePosition> {
    let path_bytes = u32::from_be_bytes(take(rest)?);
    let (path, after) = rest.split_at_checked(path_bytes as usize)?;
    *rest = after;
    let path = PathBuf::from(OsStr::from_bytes(path));
    let head_bytes = u16::from_be_bytes(take(rest)?);
    let fingerprint = Fingerprint { path, head_bytes, head: take(rest)? };
    let mut number = || take(rest).map(u64::from_be_bytes);
    let (offset, line) = (number()?, number()?);
    let (start, start_line) = (number()?, number()?);
    let finished = number()?;
    Some(FilePosition {
        fingerprint,
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
