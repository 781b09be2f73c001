//! One path → its records, in bounded memory, from the beginning or from where an earlier run stopped.
//!
//! A file that grows is one that is appended to. That it has been cut instead (emptied, and perhaps filled again) shows by
//! its length or by its first bytes, at which it is looked before more of it is read after there was none.

mod error;

use std::fs::{File, Metadata};
use std::io;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use touchline_core::event::Reject;

pub use error::{InputError, shown};

use crate::formats::csv::{Header, HeaderError};
use crate::formats::{Fault, Format};
use crate::lines::{Framed, Lines, Place};
use crate::open::{self, Foreign, Shape};
use crate::position::{FileId, FilePosition, FilesPosition, Fingerprint, HEAD_BYTES};

/// The next thing in an input.
#[derive(Debug)]
pub enum Found {
    /// [`Input::bytes`] holds a line or row.
    Record(Place),
    /// [`Input::bytes`] holds the beginning of something wrong that has so many bytes.
    Wrong(Place, Fault, u64),
    /// No more for now.
    Pending,
    /// It has been cut behind what was found before. It is to be closed: what is left is a line without its end.
    Cut,
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
    id: FileId,
    /// The first bytes of a file, as far as they are known.
    head: Vec<u8>,
    fingerprint: Option<Fingerprint>,
    read: Arc<AtomicU64>,
    until: Arc<AtomicU64>,
    /// Nothing more was there at the last look.
    is_pending: bool,
    /// How long it was when it was seen to have been cut.
    cut_to: Option<u64>,
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
        let is_file = !opened.shape.is_stream();
        let told = Format::of_path(path).or((!is_file).then_some(Format::Canonical));
        let format = format.or(told).ok_or_else(|| InputError::Format { path: path.to_owned() })?;
        let canonical = canonical(path, is_file)?;
        let id = opened.file.metadata().map(|metadata| FileId::of(&metadata));
        let id = id.map_err(|source| InputError::Open { path: path.to_owned(), source })?;
        Ok(Input {
            given: path.to_owned(),
            format,
            shape: opened.shape,
            lines: Lines::new(opened.reader, format.framing(), 0, 1),
            header: None,
            id,
            fingerprint: is_file.then(|| Fingerprint::new(canonical.clone(), id, &opened.head)),
            head: opened.head,
            path: canonical,
            file: opened.file,
            read: opened.read,
            until: opened.until,
            is_pending: false,
            cut_to: None,
            seen: None,
            damaged: false,
            shows_rest: false,
            holds_records: false,
            ended: false,
        })
    }

    /// Opens, under the name `path`, the file that had it before it was `moved` beside it.
    pub(crate) fn open_as(
        moved: &Path,
        path: &Path,
        format: Option<Format>,
        follow: bool,
    ) -> Result<Input, InputError> {
        let mut input = Input::open(moved, format.or(Format::of_path(path)), follow)?;
        path.clone_into(&mut input.path);
        input.fingerprint = Some(Fingerprint::new(path.to_owned(), input.id, &input.head));
        Ok(input)
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
        if std::mem::take(&mut self.is_pending) && self.shape == Shape::Growing && self.is_cut()? {
            return Ok(Found::Cut);
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
            Framed::Pending => self.pending(),
            Framed::End => self.end(),
        })
    }

    fn pending(&mut self) -> Found {
        self.is_pending = true;
        Found::Pending
    }

    /// The end of what is there, or but of one writer.
    fn end(&mut self) -> Found {
        if self.shape == Shape::NamedPipe && !self.is_closing() {
            return self.pending();
        }
        self.ended = true;
        Found::End
    }

    /// Lets something that may get more end with what is there now: what has been written into a pipe, and what was read of
    /// a file. A line without its end is one then.
    pub(crate) fn close(&mut self) {
        let until = match self.shape {
            Shape::LiveStream | Shape::NamedPipe => self.waiting(),
            _ => 0,
        };
        self.until.store(until, Ordering::Relaxed);
    }

    /// Whether it ends with what is there now.
    pub(crate) fn is_closing(&self) -> bool {
        self.until.load(Ordering::Relaxed) != u64::MAX
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

    /// How long it was when it was seen to have been cut, and how far it had been read.
    pub(crate) fn cut(&self) -> Option<(u64, u64)> {
        self.cut_to.map(|bytes| (bytes, self.lines.rest().0.end))
    }

    /// Which file it is, whatever its name.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether other writers or another file may come under its name.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.shape, Shape::Growing | Shape::NamedPipe)
    }

    /// Whether it is a file that is not compressed.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.shape, Shape::Plain | Shape::Growing)
    }

    /// Whether what was read cannot be read again.
    pub(crate) fn is_stream(&self) -> bool {
        self.shape.is_stream()
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
        (self.is_watched() || self.shape == Shape::LiveStream) && !self.ended
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
    /// `None` of a file that has been cut, which is still to be dealt with.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn sample_end(&self) -> Result<Option<u64>, InputError> {
        if self.shape.is_stream() {
            return Ok(Some(self.waiting()));
        }
        Ok(Some(self.metadata()?.len()).filter(|bytes| self.cut_to.is_none() && !self.is_shorter_or_other(*bytes)))
    }

    /// Where a stream would end if nobody wrote any more.
    fn waiting(&self) -> u64 {
        // What cannot be asked (a device) has nothing waiting.
        self.read() + rustix::io::ioctl_fionread(&self.file).unwrap_or(0)
    }

    /// How far the file has been read; `None` of a stream, which nobody can go back in.
    pub fn position(&mut self) -> Option<FilePosition> {
        self.fingerprint.as_ref()?;
        if self.shape == Shape::Growing {
            self.learn_head();
        }
        Some(FilePosition {
            fingerprint: self.fingerprint.clone()?,
            modified: self.file.metadata().and_then(|metadata| metadata.modified()).ok(),
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

    /// How far an earlier run has read this file.
    pub(crate) fn find<'a>(&self, position: &'a FilesPosition) -> Option<&'a FilePosition> {
        let fingerprint = self.fingerprint.as_ref()?;
        position.find(&fingerprint.path, self.id, &self.first_bytes().ok()?)
    }

    /// Whether the file begins like one that was read to `position`, and reaches so far.
    pub(crate) fn continues(&self, position: &FilePosition) -> bool {
        let head = self.first_bytes().unwrap_or_default();
        let reaches = self.size().is_some_and(|bytes| bytes >= position.offset);
        reaches && position.fingerprint.begins(&head)
    }

    fn first_bytes(&self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; HEAD_BYTES];
        let bytes = self.file.read_at(&mut head, 0)?;
        head.truncate(bytes);
        Ok(head)
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
            Framed::Pending => return Ok(self.pending()),
            Framed::End => return Ok(self.end()),
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

    /// Looks whether a file that grows has been cut, before more of it is read.
    fn is_cut(&mut self) -> Result<bool, InputError> {
        if self.cut_to.is_none() && !self.is_closing() {
            let bytes = self.metadata()?.len();
            self.cut_to = Some(bytes).filter(|bytes| self.is_shorter_or_other(*bytes));
            self.learn_head();
        }
        Ok(self.cut_to.is_some() && !self.is_closing())
    }

    /// Whether a file that has so many bytes now cannot be what was read of it, or begins otherwise.
    fn is_shorter_or_other(&self, bytes: u64) -> bool {
        let read = self.lines.rest().0.end;
        // What cannot be read has not changed.
        let begins = || self.first_bytes().map_or(true, |head| head.starts_with(&self.head));
        bytes < read || (self.shape == Shape::Growing && !begins())
    }

    /// Knows the file by more of its first bytes, if it has more now.
    fn learn_head(&mut self) {
        if self.head.len() < HEAD_BYTES
            && self.cut_to.is_none()
            && let Ok(head) = self.first_bytes()
            && head.len() > self.head.len()
            && head.starts_with(&self.head)
            && let Some(fingerprint) = &mut self.fingerprint
        {
            *fingerprint = Fingerprint::new(std::mem::take(&mut fingerprint.path), self.id, &head);
            self.head = head;
        }
    }

    fn metadata(&self) -> Result<Metadata, InputError> {
        self.file.metadata().map_err(|source| self.read_error(source))
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
