//! A file that lines are appended to, at a place that somebody else remembers.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::error::{FileError, io_error};

/// Read at once when all of it is.
const READ_BYTES: usize = 256 << 10;

/// The file, and its path for errors.
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens or creates it.
    pub fn open(path: PathBuf) -> Result<AppendFile, FileError> {
        match OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path) {
            Ok(file) => Ok(AppendFile { path, file }),
            Err(error) => Err(io_error("open", &path, error)),
        }
    }

    /// Its length in bytes.
    pub fn length(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(|error| io_error("read the length of", &self.path, error))?.len())
    }

    /// Drops what stands behind `length`.
    pub fn cut(&mut self, length: u64) -> Result<(), FileError> {
        if self.length()? == length {
            return Ok(());
        }
        let cut = self.file.set_len(length).and_then(|()| self.file.sync_all());
        cut.map_err(|error| io_error("shorten", &self.path, error))
    }

    /// Shows every line before `length` to `change`, which may overwrite it and says whether it has; then syncs.
    pub fn overwrite(&mut self, length: u64, mut change: impl FnMut(&mut [u8]) -> bool) -> Result<(), FileError> {
        let mut overwrite = || {
            self.file.rewind()?;
            let mut lines = BufReader::with_capacity(READ_BYTES, &self.file).take(length);
            let (mut line, mut at) = (Vec::new(), 0);
            while lines.read_until(b'\n', &mut line)? > 0 {
                let end = line.len() - usize::from(line.ends_with(b"\n"));
                if change(&mut line[..end]) {
                    self.file.write_all_at(&line[..end], at)?;
                }
                at += line.len() as u64;
                line.clear();
            }
            self.file.sync_data()
        };
        overwrite().map_err(|error| io_error("overwrite", &self.path, error))
    }

    /// Writes lines at `length` and syncs them; returns the length behind them. Doing it again changes nothing.
    pub fn append(&mut self, length: u64, lines: &[u8]) -> Result<u64, FileError> {
        if lines.is_empty() {
            return Ok(length);
        }
        let seek = self.file.seek(SeekFrom::Start(length));
        let write = seek.and_then(|_| self.file.write_all(lines)).and_then(|()| self.file.sync_data());
        write.map_err(|error| io_error("write", &self.path, error))?;
        Ok(length + lines.len() as u64)
    }
}
