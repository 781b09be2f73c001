//! Cuts a stream of bytes into lines or CSV rows, in bounded memory.
//!
//! Invariants, whatever the sizes in which the stream comes:
//! - Every byte belongs to exactly one record, one fault, one blank line, the byte order mark, or the rest that
//!   [`Lines::rest`] tells of. Offsets are those of the stream; lines are counted from 1.
//! - A record has at most [`LONGEST_BYTES`]. Of a longer one its beginning is kept, and the rest is only counted.
//! - A stream that is not at its end yet says so with [`std::io::ErrorKind::WouldBlock`], which becomes
//!   [`Framed::Pending`]: what stands behind the last line end waits for the rest of its line.
//!
//! Records are slices of the buffer; nothing is copied but a part of a line from the buffer's end to its beginning.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2};
use touchline_core::event::RECORD_BYTES;

/// The longest record that can be valid, without its line end.
pub const LONGEST_BYTES: usize = RECORD_BYTES;
/// The most that one read brings: large enough that calls cost nothing, small enough to stay in a core's cache until it
/// has been parsed.
const READ_BYTES: usize = 256 * 1024;
/// The longest record, the two bytes of its line end, and room to read.
const BUFFER_BYTES: usize = LONGEST_BYTES + 2 + READ_BYTES;
/// What some editors write before UTF-8 text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What ends a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Every line end.
    Lines,
    /// A line end outside of quotes.
    Rows,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first line, from 1.
    pub line: u64,
    /// Its first byte.
    pub start: u64,
    /// The byte after it and its line end.
    pub end: u64,
}

/// The next thing in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// [`Lines::bytes`] holds a record.
    Record(Place),
    /// [`Lines::bytes`] holds the beginning of a record of so many bytes.
    TooLong(Place, u64),
    /// [`Lines::bytes`] holds the first line of a row whose quotes do not end.
    Unclosed(Place),
    /// No more for now.
    Pending,
    /// No more.
    End,
}

impl Framed {
    /// Where it stands, if it is anything.
    pub fn place(self) -> Option<Place> {
        match self {
            Framed::Record(place) | Framed::TooLong(place, _) | Framed::Unclosed(place) => Some(place),
            Framed::Pending | Framed::End => None,
        }
    }
}

/// Where the scan for the end of a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    /// At the start of a cell.
    Start,
    /// In a cell without quotes, or behind one with.
    Plain,
    /// Between quotes.
    Inside,
    /// At a quote between quotes: the last one, or the first of two.
    Closing,
}

/// What reading more has brought.
enum Fill {
    More,
    Pending,
    End,
}

/// The records of a stream.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    framing: Framing,
    buffer: Box<[u8]>,
    /// `buffer[start..filled]` is read and not yet given.
    start: usize,
    filled: usize,
    /// How much of it has been searched for an end.
    scanned: usize,
    quote: Quote,
    /// The offset of `buffer[start]`, and its line.
    offset: u64,
    line: u64,
    /// Rows are lines before this offset: a quote that is open there has been given up.
    plain_until: u64,
    /// How many bytes of a record that is too long have been left out after the kept ones, and the last of them.
    left_out: Option<(u64, u8)>,
    given: Range<usize>,
    /// The place of the first record that the end of the stream ended.
    unterminated: Option<Place>,
    begun: bool,
}

impl<R: Read> Lines<R> {
    /// The records of a stream from its beginning, or from the beginning of the line at `offset`.
    pub fn new(source: R, framing: Framing, offset: u64, line: u64) -> Lines<R> {
        Lines {
            source,
            framing,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            filled: 0,
            scanned: 0,
            quote: Quote::Start,
            offset,
            line,
            plain_until: 0,
            left_out: None,
            given: 0..0,
            unterminated: None,
            begun: offset > 0,
        }
    }

    /// Finds the next record, skipping blank lines and counting them in `blanks`.
    ///
    /// # Errors
    /// The stream's own; what was read before stays readable with [`Lines::rest`].
    pub fn next(&mut self, blanks: &mut u64) -> io::Result<Framed> {
        loop {
            if let Some(end) = self.find_end() {
                match self.take(end, 1) {
                    Some(framed) => return Ok(framed),
                    None => *blanks += 1,
                }
                continue;
            }
            if self.left_out.is_none() && self.unread() > LONGEST_BYTES + 1 {
                if let Some(framed) = self.overflow() {
                    return Ok(framed);
                }
                continue;
            }
            match self.fill()? {
                Fill::More => {}
                Fill::Pending => return Ok(Framed::Pending),
                Fill::End if !self.begun => self.begun = true,
                Fill::End if self.unread() == 0 => return Ok(Framed::End),
                Fill::End => match self.last() {
                    Some(framed) => return Ok(framed),
                    None => *blanks += 1,
                },
            }
        }
    }

    /// The bytes of what [`Lines::next`] has just found, without their line end.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.given.clone()]
    }

    /// Where the next record starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// On which line the next record starts.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The place of the record that was ended by nothing but the end of the stream, so that it may have been cut. What
    /// may be more of it stands behind it.
    pub fn unterminated(&self) -> Option<Place> {
        self.unterminated
    }

    /// What was read after the last record: its place, its kept bytes.
    pub fn rest(&self) -> (Place, &[u8]) {
        let left_out = self.left_out.map_or(0, |(bytes, _)| bytes);
        let end = self.offset + self.unread() as u64 + left_out;
        let kept = &self.buffer[self.start..self.filled];
        (Place { line: self.line, start: self.offset, end }, &kept[..kept.len().min(LONGEST_BYTES)])
    }

    /// Reads on to `offset`, where the line numbered `line` starts; `false` if the stream ends before.
    ///
    /// # Errors
    /// The stream's own.
    pub fn skip_to(&mut self, offset: u64, line: u64) -> io::Result<bool> {
        self.begun = true;
        while self.offset < offset {
            let step = self.unread().min(usize::try_from(offset - self.offset).unwrap_or(usize::MAX));
            self.consume(step);
            if step == 0 && !matches!(self.fill()?, Fill::More) {
                return Ok(false);
            }
        }
        self.line = line;
        Ok(true)
    }

    /// Goes on at `offset`, where the line numbered `line` starts and to which the source has been moved.
    pub fn move_to(&mut self, offset: u64, line: u64) {
        (self.start, self.filled, self.scanned, self.quote) = (0, 0, 0, Quote::Start);
        (self.offset, self.line, self.begun) = (offset, line, offset > 0);
        (self.plain_until, self.left_out, self.unterminated) = (0, None, None);
    }

    fn unread(&self) -> usize {
        self.filled - self.start
    }

    /// The next end of a record, from `start`. Looks no further than a record may reach, so that what is found does not
    /// depend on how much has been read.
    fn find_end(&mut self) -> Option<usize> {
        if !self.begun && !self.begin() {
            return None;
        }
        let unread = &self.buffer[self.start..self.filled];
        if self.left_out.is_some() {
            return self.find_far_end();
        }
        let searched = unread.len().min(LONGEST_BYTES + 2);
        let fresh = &unread[self.scanned..searched];
        let found = match self.framing {
            Framing::Rows if self.offset >= self.plain_until => end_of_row(&mut self.quote, fresh),
            _ => memchr(b'\n', fresh),
        };
        let end = found.map(|at| self.scanned + at);
        self.scanned = searched;
        end
    }

    /// Skips the byte order mark, once enough is there to tell.
    fn begin(&mut self) -> bool {
        let unread = &self.buffer[self.start..self.filled];
        if unread.len() < MARK.len() && MARK.starts_with(unread) {
            return false;
        }
        let mark = if unread.starts_with(MARK) { MARK.len() } else { 0 };
        self.consume(mark);
        self.begun = true;
        true
    }

    /// The line end behind a record that is too long; what stands before it is counted and dropped.
    fn find_far_end(&mut self) -> Option<usize> {
        let kept = self.start + LONGEST_BYTES;
        let far = &self.buffer[kept..self.filled];
        let found = memchr(b'\n', far);
        if found.is_none()
            && let (Some((bytes, last)), Some(&newest)) = (&mut self.left_out, far.last())
        {
            (*bytes, *last) = (*bytes + far.len() as u64, newest);
            self.filled = kept;
        }
        found.map(|at| LONGEST_BYTES + at)
    }

    /// A record goes on for longer than it may. A row is given up after its first line; a line is read to its end.
    fn overflow(&mut self) -> Option<Framed> {
        let unread = &self.buffer[self.start..self.start + LONGEST_BYTES];
        if self.framing == Framing::Rows
            && self.offset >= self.plain_until
            && let Some(end) = memchr(b'\n', unread)
        {
            self.plain_until = self.offset + LONGEST_BYTES as u64;
            return self.give_up_row(end, 1);
        }
        self.left_out = Some((0, 0));
        None
    }

    /// The first line of a row whose quotes do not end. The lines after it are rows of their own.
    fn give_up_row(&mut self, end: usize, line_end: usize) -> Option<Framed> {
        self.take(end, line_end).and_then(Framed::place).map(Framed::Unclosed)
    }

    /// What stands behind the last line end of a stream that has ended.
    fn last(&mut self) -> Option<Framed> {
        let unread = self.unread();
        let framed = if self.framing == Framing::Rows && self.quote == Quote::Inside {
            self.plain_until = self.offset + unread as u64;
            let end = memchr(b'\n', &self.buffer[self.start..self.filled]);
            self.give_up_row(end.unwrap_or(unread), usize::from(end.is_some()))
        } else {
            self.take(unread, 0)
        };
        if let Some(place) = framed.and_then(Framed::place) {
            self.unterminated.get_or_insert(place);
        }
        framed
    }

    /// Gives `buffer[start..start + end]`, which `line_end` bytes follow; `None` for a blank line.
    fn take(&mut self, end: usize, line_end: usize) -> Option<Framed> {
        let (left_out, last) = self.left_out.take().unwrap_or((0, 0));
        let bytes = &self.buffer[self.start..self.start + end];
        let ends_in_return =
            if left_out > 0 && end == LONGEST_BYTES { last == b'\r' } else { bytes.last() == Some(&b'\r') };
        let returns = usize::from(ends_in_return && line_end > 0);
        let long = end as u64 + left_out - returns as u64;
        let inside = if self.framing == Framing::Rows { memchr_iter(b'\n', bytes).count() } else { 0 };
        let is_blank = bytes.trim_ascii().is_empty();
        let place =
            Place { line: self.line, start: self.offset, end: self.offset + (end + line_end) as u64 + left_out };
        self.given = self.start..self.start + end.min(LONGEST_BYTES).min(usize::try_from(long).unwrap_or(end));
        self.consume(end + line_end);
        (self.offset, self.line) = (place.end, self.line + (inside + line_end) as u64);
        match long > LONGEST_BYTES as u64 {
            true => Some(Framed::TooLong(place, long)),
            false if is_blank => None,
            false => Some(Framed::Record(place)),
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        (self.scanned, self.quote) = (0, Quote::Start);
    }

    fn fill(&mut self) -> io::Result<Fill> {
        // Only a part of a record is left: move it to the front.
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        let room = self.filled..(self.filled + READ_BYTES).min(BUFFER_BYTES);
        match self.source.read(&mut self.buffer[room]) {
            Ok(0) => Ok(Fill::End),
            Ok(bytes) => {
                self.filled += bytes;
                Ok(Fill::More)
            }
            // The caller looks again, finds nothing new and comes back.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Fill::More),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Fill::Pending),
            Err(error) => Err(error),
        }
    }
}

/// The first line end outside of quotes. `quote` goes on where the bytes before left it.
fn end_of_row(quote: &mut Quote, bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match *quote {
            Quote::Start | Quote::Plain => {
                let found = memchr2(b'\n', b'"', rest);
                let before = match found {
                    Some(0) => *quote,
                    _ if rest[found.unwrap_or(rest.len()) - 1] == b',' => Quote::Start,
                    _ => Quote::Plain,
                };
                let Some(found) = found else {
                    *quote = before;
                    return None;
                };
                if rest[found] == b'\n' {
                    return Some(at + found);
                }
                // A quote elsewhere than at the start of a cell is a character like any other.
                *quote = if before == Quote::Start { Quote::Inside } else { Quote::Plain };
                at += found + 1;
            }
            Quote::Inside => {
                at += memchr(b'"', rest)? + 1;
                *quote = Quote::Closing;
            }
            Quote::Closing => {
                *quote = match rest[0] {
                    b'\n' => return Some(at),
                    b'"' => Quote::Inside,
                    b',' => Quote::Start,
                    _ => Quote::Plain,
                };
                at += 1;
            }
        }
    }
    None
}
