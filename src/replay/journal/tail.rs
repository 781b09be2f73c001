//! `journal.jsonl`: what cannot be read again, one record a line.
//!
//! Lines are appended and synced before the batch that they belong to is committed. What lies behind the committed length
//! when the file is opened was read by a run that was killed: it is processed first. A line that was not written whole is
//! cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use memchr::{memchr, memrchr};

use super::ReplayError;

/// The journal of a state.
pub struct JournalFile {
    path: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    pending: Vec<u8>,
    /// Lines of an earlier run: at most a batch's.
    tail: Vec<u8>,
    /// How much of `tail` has been taken.
    taken: usize,
    /// How much of the file has been processed, without what has been taken of the tail.
    read: u64,
}

impl JournalFile {
    /// Opens the journal, of which the first `read` bytes have been processed. Where it has been taken away, another is
    /// begun: the state has all that was in it.
    pub fn open(path: PathBuf, read: u64) -> Result<JournalFile, ReplayError> {
        let read = if path.exists() { read } else { 0 };
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let opened = opened.and_then(|mut file| {
            let bytes = file.metadata()?.len();
            if bytes < read {
                return Err(io::Error::other(format!(
                    "it has {bytes} bytes, and the state has processed {read}; put it back as it was, or move it away to begin another"
                )));
            }
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(read))?;
            file.read_to_end(&mut tail)?;
            tail.truncate(memrchr(b'\n', &tail).map_or(0, |end| end + 1));
            file.set_len(read + tail.len() as u64)?;
            file.seek(SeekFrom::End(0))?;
            Ok((file, tail))
        });
        match opened {
            Ok((file, tail)) => Ok(JournalFile { path, file, pending: Vec::new(), tail, taken: 0, read }),
            Err(source) => Err(ReplayError::Journal { path, source }),
        }
    }

    /// Whether an earlier run left something.
    pub fn has_tail(&self) -> bool {
        self.taken < self.tail.len()
    }

    /// Takes the next line that an earlier run left.
    pub fn next_of_tail(&mut self, line: &mut Vec<u8>) -> bool {
        line.clear();
        let rest = &self.tail[self.taken..];
        let Some(end) = memchr(b'\n', rest) else { return false };
        line.extend_from_slice(&rest[..end]);
        self.taken += end + 1;
        true
    }

    /// How much of the file is processed once what was taken or pushed is.
    pub fn read(&self) -> u64 {
        self.read + self.taken as u64 + self.pending.len() as u64
    }

    /// Appends a record with the next [`JournalFile::sync`]; returns what it takes there.
    pub fn push(&mut self, record: &[u8]) -> u64 {
        self.pending.extend_from_slice(record);
        self.pending.push(b'\n');
        record.len() as u64 + 1
    }

    /// Brings what was pushed onto the disk.
    pub fn sync(&mut self) -> Result<(), ReplayError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.pending).and_then(|()| self.file.sync_data());
        written.map_err(|source| ReplayError::Journal { path: self.path.clone(), source })?;
        self.read += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}
