//! One path → its records, in bounded memory, from the beginning or from where an earlier run stopped.

use std::fs::File;
use std::io;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use touchline_core::event::Reject;

use crate::formats::csv::{Header, HeaderError};
use crate::formats::{Fault, Format};
use crate::lines::{Framed, Lines, Place};
use crate::open::{self, Foreign, STDIN, Shape};
use crate::position::{FilePosition, Fingerprint, HEAD_BYTES};

/// Why a command cannot read one of its files: errors of the command, not of a record.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Missing, or not readable.
    #[error("{} cannot be opened", path.display())]
    Open {
        /// As it was given.
        path: PathBuf,
        /// The system's own.
        source: io::Error,
    },
    /// A directory.
    #[error("{} is a directory; name the files in it", path.display())]
    Directory {
        /// As it was given.
        path: PathBuf,
    },
    /// No text.
    #[error("{} is {what}", shown(path))]
    Foreign {
        /// As it was given.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The name does not tell.
    #[error("the name of {} does not tell its format (.jsonl, .ndjson, .json and .csv do, also before .gz or .zst); say --format jsonl or --format csv", path.display())]
    Format {
        /// As it was given.
        path: PathBuf,
    },
    /// Named twice.
    #[error("{} is given twice; name it once", path.display())]
    Twice {
        /// As it was given.
        path: PathBuf,
    },
    /// More files than a position holds.
    #[error(
        "{given} files are given, and at most {} are taken at once; run the command again for the others",
        crate::position::FILES
    )]
    TooMany {
        /// How many.
        given: usize,
    },
    /// A CSV file without a header.
    #[error("{}: {mistake}", shown(path))]
    Header {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with its first line.
        mistake: HeaderError,
    },
    /// The disk, or what stands in its place.
    #[error(
        "{} cannot be read on after {offset} bytes; what was read is kept, and the same command goes on there",
        shown(path)
    )]
    Read {
        /// As it was given.
        path: PathBuf,
        /// How far it was read.
        offset: u64,
        /// The system's own.
        source: io::Error,
    },
    /// A file that is followed has become shorter than what was read of it.
    #[error("{} was cut to {bytes} bytes while it was followed, after {offset} had been read; what it held is kept: append to the file or write a new one under another name, and run the command again", path.display())]
    Truncated {
        /// As it was given.
        path: PathBuf,
        /// How long it is now.
        bytes: u64,
        /// How far it was read.
        offset: u64,
    },
    /// A file that is followed has been moved, deleted or replaced.
    #[error("{} was moved, deleted or replaced while it was followed, after {offset} bytes had been read; run the command again to read the file that is there now", path.display())]
    Replaced {
        /// As it was given.
        path: PathBuf,
        /// How far it was read.
        offset: u64,
    },
}

/// What people call a path.
pub fn shown(path: &Path) -> String {
    if path.as_os_str() == STDIN { "standard input".to_owned() } else { path.display().to_string() }
}

/// The next thing in an input.
#[derive(Debug)]
pub enum Found {
    /// [`Input::bytes`] holds a line or row.
    Record(Place),
    /// [`Input::bytes`] holds the beginning of something wrong that has so many bytes.
    Wrong(Place, Fault, u64),
    /// No more for now.
    Pending,
    /// No more.
    End,
}

/// One open path.
pub struct Input {
    given: PathBuf,
    path: PathBuf,
    format: Format,
    file: File,
    shape: Shape,
    lines: Lines<Box<dyn Read + Send>>,
    header: Option<Header>,
    fingerprint: Option<Fingerprint>,
    read: Arc<AtomicU64>,
    /// What was looked at to find out where to go on; it is found next.
    seen: Option<Framed>,
    /// The rest cannot be read.
    damaged: bool,
    /// What was found last are the bytes behind the last record.
    shows_rest: bool,
    /// Something was found, now or by an earlier run.
    holds_records: bool,
    ended: bool,
}

impl Input {
    /// Opens a path, `-` for standard input. Without a `format` its name tells, and a stream is canonical unless it has
    /// one that tells. With `follow`, a file of text and a stream do not end.
    ///
    /// # Errors
    /// It cannot be read, is no text, or the format is not known.
    pub fn open(path: &Path, format: Option<Format>, follow: bool) -> Result<Input, InputError> {
        let opened = open::open(path, follow)?;
        let is_file = !matches!(opened.shape, Shape::Stream | Shape::LiveStream);
        let told = Format::of_path(path).or((!is_file).then_some(Format::Canonical));
        let format = format.or(told).ok_or_else(|| InputError::Format { path: path.to_owned() })?;
        let canonical = canonical(path, is_file)?;
        Ok(Input {
            given: path.to_owned(),
            format,
            shape: opened.shape,
            lines: Lines::new(opened.reader, format.framing(), 0, 1),
            header: None,
            fingerprint: is_file.then(|| Fingerprint::new(canonical.clone(), &opened.head)),
            path: canonical,
            file: opened.file,
            read: opened.read,
            seen: None,
            damaged: false,
            shows_rest: false,
            holds_records: false,
            ended: false,
        })
    }

    /// Finds the next line or row. `blanks` counts the empty ones before it.
    ///
    /// # Errors
    /// A CSV file has no header, or the file cannot be read on.
    pub fn next(&mut self, blanks: &mut u64) -> Result<Found, InputError> {
        self.shows_rest = false;
        if self.ended {
            return Ok(Found::End);
        }
        let framed = match self.seen.take().map_or_else(|| self.lines.next(blanks), Ok) {
            Ok(framed) => framed,
            Err(source) if self.is_damage(&source) => return Ok(self.broken(&source)),
            Err(source) => return Err(self.read_error(source)),
        };
        if self.format == Format::Csv && self.header.is_none() {
            return self.read_header(framed, blanks);
        }
        self.holds_records |= !matches!(framed, Framed::Pending | Framed::End);
        Ok(match framed {
            Framed::Record(place) => Found::Record(place),
            Framed::TooLong(place, bytes) => {
                let error = Reject::TooLarge { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) };
                Found::Wrong(place, Fault::Reject(error), bytes)
            }
            Framed::Unclosed(place) => Found::Wrong(place, Fault::Unclosed, self.bytes().len() as u64),
            Framed::Pending => {
                self.check_growing()?;
                Found::Pending
            }
            Framed::End => {
                self.ended = true;
                Found::End
            }
        })
    }

    /// The bytes of what [`Input::next`] has just found, without their line end.
    pub fn bytes(&self) -> &[u8] {
        if self.shows_rest { self.lines.rest().1 } else { self.lines.bytes() }
    }

    /// The header of a CSV file, once its first row has been found.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Whether it has come to its end without anything in it.
    pub fn is_empty(&self) -> bool {
        self.ended && !self.holds_records
    }

    /// Reads a little of a CSV file, to know whether its header is one.
    pub(crate) fn check_header(&mut self) -> Result<(), InputError> {
        match self.format {
            Format::Canonical => Ok(()),
            Format::Csv => self.next(&mut 0).map(|_| ()),
        }
    }

    /// What the file is called in dead letters: its canonical path, or as it was given if it is no file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as it was given.
    pub fn given(&self) -> &Path {
        &self.given
    }

    /// Where the next record starts, after decompression.
    pub fn offset(&self) -> u64 {
        self.seen.and_then(Framed::place).map_or(self.lines.offset(), |place| place.start)
    }

    /// Whether more may come where there is none.
    pub fn is_live(&self) -> bool {
        matches!(self.shape, Shape::Growing | Shape::LiveStream) && !self.ended
    }

    /// Bytes read so far, before decompression.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The file's size before decompression; `None` of a stream.
    pub fn size(&self) -> Option<u64> {
        let metadata = self.fingerprint.as_ref().and_then(|_| self.file.metadata().ok());
        metadata.map(|metadata| metadata.len())
    }

    /// Samples the true end: where a file, or what has been written into a stream, ends at this moment. All that has been
    /// written before is read once [`Input::offset`] has reached it; a line whose end is still to come holds it back.
    ///
    /// # Errors
    /// The file has been cut, moved, deleted or replaced.
    pub fn sample_end(&self) -> Result<u64, InputError> {
        if self.shape == Shape::LiveStream {
            // What cannot be asked (a device) has nothing waiting.
            return Ok(self.read() + rustix::io::ioctl_fionread(&self.file).unwrap_or(0));
        }
        self.check_growing()?;
        self.file.metadata().map(|metadata| metadata.len()).map_err(|source| self.read_error(source))
    }

    /// How far the file has been read; `None` of a stream, which nobody can go back in.
    pub fn position(&mut self) -> Option<FilePosition> {
        let size = self.size()?;
        let fingerprint = self.fingerprint.as_mut()?;
        if self.shape == Shape::Growing
            && fingerprint.head_bytes() < HEAD_BYTES
            && size > fingerprint.head_bytes() as u64
        {
            let mut head = vec![0; HEAD_BYTES];
            if let Ok(bytes) = self.file.read_at(&mut head, 0) {
                *fingerprint = Fingerprint::new(std::mem::take(&mut fingerprint.path), &head[..bytes]);
            }
        }
        Some(FilePosition {
            fingerprint: fingerprint.clone(),
            offset: self.offset(),
            line: self.seen.and_then(Framed::place).map_or(self.lines.line(), |place| place.line),
            unterminated: self.lines.unterminated().map(|place| (place.start, place.line)),
            // What was there then, not what is there now.
            finished: (self.ended && !self.damaged).then(|| self.read()),
        })
    }

    /// Whether an earlier run has read this file to its end, and nothing has come since.
    pub(crate) fn is_finished(&self, position: &FilePosition) -> bool {
        !self.is_live() && position.finished.is_some() && position.finished == self.size()
    }

    /// The fingerprint of a file that is to be found in a position.
    pub(crate) fn find<'a>(&self, position: &'a crate::position::FilesPosition) -> Option<&'a FilePosition> {
        let mut head = vec![0; HEAD_BYTES];
        let known = self.fingerprint.as_ref()?;
        let bytes = self.file.read_at(&mut head, 0).ok()?;
        position.find(&known.path, &head[..bytes])
    }

    /// Goes on where an earlier run stopped; `false` if the file does not reach so far, and then it has to be opened
    /// anew. Seeks in a file of text; a compressed one is decompressed up to there.
    ///
    /// # Errors
    /// As [`Input::next`].
    pub fn skip_to(&mut self, position: &FilePosition) -> Result<bool, InputError> {
        if position.offset == 0 {
            return Ok(true);
        }
        // Rows have no meaning without their header.
        if self.format == Format::Csv
            && matches!(self.next(&mut 0)?, Found::End | Found::Pending)
            && self.header.is_none()
        {
            return Ok(false);
        }
        (self.holds_records, self.ended) = (true, false);
        match self.move_to(position) {
            Ok(reached) => Ok(reached),
            // Before the place that was reached once: this is another file.
            Err(source) if self.is_damage(&source) => Ok(false),
            Err(source) => Err(self.read_error(source)),
        }
    }

    fn move_to(&mut self, position: &FilePosition) -> io::Result<bool> {
        let (offset, line) = position.unterminated.unwrap_or((position.offset, position.line));
        if self.shape == Shape::Compressed {
            if !self.lines.skip_to(offset, line)? {
                return Ok(false);
            }
        } else {
            if self.file.metadata()?.len() < position.offset {
                return Ok(false);
            }
            self.file.seek(SeekFrom::Start(offset))?;
            self.lines.move_to(offset, line);
            self.read.store(offset, Ordering::Relaxed);
        }
        if position.unterminated.is_some() {
            // Once more the record that nothing but the end of the file had ended: has it become longer?
            let framed = self.lines.next(&mut 0)?;
            let end = match framed {
                Framed::Record(place) | Framed::Unclosed(place) => Some(place.start + self.lines.bytes().len() as u64),
                Framed::TooLong(place, bytes) => Some(place.start + bytes),
                Framed::Pending | Framed::End => None,
            };
            // A return at the end was part of it until the line end came.
            let is_known = end.is_some_and(|end| end == position.offset || end + 1 == position.offset);
            self.seen = (!is_known).then_some(framed);
        }
        Ok(true)
    }

    fn read_header(&mut self, framed: Framed, blanks: &mut u64) -> Result<Found, InputError> {
        let parsed = match framed {
            Framed::Record(_) => Header::parse(self.lines.bytes()),
            Framed::TooLong(..) | Framed::Unclosed(_) => Err(HeaderError::TooLong),
            Framed::Pending => return Ok(Found::Pending),
            Framed::End => {
                self.ended = true;
                return Ok(Found::End);
            }
        };
        let given = || self.given.clone();
        self.header = Some(parsed.map_err(|mistake| InputError::Header { path: given(), mistake })?);
        self.next(blanks)
    }

    /// A compressed file whose rest cannot be read: what is left of its last record goes into the dead letter.
    fn broken(&mut self, source: &io::Error) -> Found {
        let (place, _) = self.lines.rest();
        (self.ended, self.damaged, self.shows_rest, self.holds_records) = (true, true, true, true);
        let what = match source.kind() {
            ErrorKind::UnexpectedEof => "it ends where its compressed data goes on".to_owned(),
            _ => format!("its compressed data is wrong ({source})"),
        };
        Found::Wrong(place, Fault::Damaged { offset: place.end, what }, place.end - place.start)
    }

    /// Whether a file that is followed is still the one that it was.
    fn check_growing(&self) -> Result<(), InputError> {
        if self.shape != Shape::Growing {
            return Ok(());
        }
        let own = self.file.metadata().map_err(|source| self.read_error(source))?;
        let (path, offset) = (self.given.clone(), self.lines.rest().0.end);
        if own.len() < offset {
            return Err(InputError::Truncated { path, bytes: own.len(), offset });
        }
        match std::fs::metadata(&self.given) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(()),
            Ok(_) => Err(InputError::Replaced { path, offset }),
            Err(source) if source.kind() == ErrorKind::NotFound => Err(InputError::Replaced { path, offset }),
            Err(source) => Err(self.read_error(source)),
        }
    }

    /// Whether an error is the decompressor's: the system's have numbers.
    fn is_damage(&self, error: &io::Error) -> bool {
        let is_foreign = error.get_ref().is_some_and(|error| error.is::<Foreign>());
        error.raw_os_error().is_none() && !is_foreign && matches!(self.shape, Shape::Compressed | Shape::Stream)
    }

    fn read_error(&self, source: io::Error) -> InputError {
        let path = self.given.clone();
        match source.downcast::<Foreign>() {
            Ok(Foreign(what)) => InputError::Foreign { path, what },
            Err(source) => InputError::Read { path, offset: self.lines.offset(), source },
        }
    }
}

/// The name under which a file is known: the same in every working directory.
fn canonical(path: &Path, is_file: bool) -> Result<PathBuf, InputError> {
    if !is_file {
        return Ok(path.to_owned());
    }
    path.canonicalize().map_err(|source| InputError::Open { path: path.to_owned(), source })
}
