//! A path → its decompressed bytes.
//!
//! Compression is told by the first bytes, never by the name. Compressed bytes are decompressed on a thread of their
//! own, a few chunks ahead; streams are read on one, so that nobody who has to stop hangs on a writer that is silent. What
//! is followed, and every stream, says [`ErrorKind::WouldBlock`] where there is no more for now. Whoever opened it says
//! with [`Opened::until`] how far it is still to be read: there it ends.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::input::InputError;
use crate::position::HEAD_BYTES;

/// The name of standard input.
pub(crate) const STDIN: &str = "-";
/// What is decompressed at a time: a chunk costs a wake-up, so that many lines should come with it.
const CHUNK_BYTES: usize = 1024 * 1024;
/// How many chunks are decompressed ahead: enough that neither side waits for the other's hiccups.
const CHUNKS_AHEAD: usize = 4;
/// How long a stream may be silent until that is told: long beside a writer's hiccups, short beside a person's patience.
const SILENCE: Duration = Duration::from_millis(100);
/// The longest of the first bytes below.
const MAGIC_BYTES: usize = 4;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// `5x 2a 4d 18`, with which parallel compressors begin.
const ZSTD_SKIPPABLE: &[u8] = b"\x2a\x4d\x18";
/// Files that are no text, whatever their name says.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"PK\x03\x04", "a zip archive (a workbook of a spreadsheet is one); unpack it, or save it as CSV"),
    (b"BZh9", "compressed by bzip2; compress it by gzip or zstd"),
    (b"\xfd7zX", "compressed by xz; compress it by gzip or zstd"),
    (b"PAR1", "a Parquet file; write it as JSON Lines or CSV"),
    (b"\xff\xfe", "UTF-16 text; write it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; write it as UTF-8"),
];

/// An open path.
pub(crate) struct Opened {
    pub reader: Box<dyn Read + Send>,
    /// The same open file, to be asked and moved; reading goes through `reader`.
    pub file: File,
    pub shape: Shape,
    /// Bytes read so far, before decompression.
    pub read: Arc<AtomicU64>,
    /// Where it ends, if it is not to be read any further: before decompression, and of use only where it may not end by
    /// itself.
    pub until: Arc<AtomicU64>,
    /// The first [`HEAD_BYTES`] of a regular file, before decompression.
    pub head: Vec<u8>,
}

/// What can be done with an open path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A regular file of text: can be moved in.
    Plain,
    /// The same, and may grow.
    Growing,
    /// A regular file that is compressed: goes forward only.
    Compressed,
    /// A pipe, a terminal or standard input: goes forward only, once.
    Stream,
    /// The same, looked at without waiting.
    LiveStream,
    /// The same, and of a name by which other writers may come when one has gone: its end is that of a record only.
    NamedPipe,
}

impl Shape {
    /// Whether what was read cannot be read again.
    pub fn is_stream(self) -> bool {
        matches!(self, Shape::Stream | Shape::LiveStream | Shape::NamedPipe)
    }
}

/// Opens a path. With `follow`, a regular file of text and a stream do not end.
pub(crate) fn open(path: &Path, follow: bool) -> Result<Opened, InputError> {
    let fail = |source| InputError::Open { path: path.to_owned(), source };
    let file = if path.as_os_str() == STDIN {
        File::from(io::stdin().as_fd().try_clone_to_owned().map_err(fail)?)
    } else {
        named(path).map_err(fail)?
    };
    let kind = file.metadata().map_err(fail)?.file_type();
    if kind.is_dir() {
        return Err(InputError::Directory { path: path.to_owned() });
    }
    let is_regular = kind.is_file() && path.as_os_str() != STDIN;
    let opened = if is_regular {
        regular(file, follow)
    } else if !follow {
        stream(file)
    } else {
        // The shell's `<(command)` is a pipe too, but none that anybody else could open: no path leads to it.
        let has_name = kind.is_fifo() && path.as_os_str() != STDIN && path.canonicalize().is_ok();
        live(file, if has_name { Shape::NamedPipe } else { Shape::LiveStream })
    };
    opened.map_err(|error| match error.downcast::<Foreign>() {
        Ok(Foreign(what)) => InputError::Foreign { path: path.to_owned(), what },
        Err(source) => fail(source),
    })
}

/// Opens what has a name. A pipe is not waited for: it may have no writer yet, and a stop has to be heard.
fn named(path: &Path) -> io::Result<File> {
    let is_pipe = path.metadata()?.file_type().is_fifo();
    let flags = if is_pipe { OFlags::NONBLOCK.bits().cast_signed() } else { 0 };
    File::options().read(true).custom_flags(flags).open(path)
}

/// A kind of file that cannot be read here.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}")]
pub(crate) struct Foreign(pub &'static str);

fn regular(mut file: File, follow: bool) -> io::Result<Opened> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    file.rewind()?;
    let (counted, read, until) = counted(&file)?;
    let (reader, shape) = match decoder(&head, counted)? {
        Ok(decoder) => {
            let reader = Readahead::new(decoder, Patience::Whole, Arc::clone(&until));
            (Box::new(reader) as Box<dyn Read + Send>, Shape::Compressed)
        }
        Err(plain) if follow => {
            (Box::new(Growing { counted: plain, until: Arc::clone(&until) }) as Box<dyn Read + Send>, Shape::Growing)
        }
        Err(plain) => (Box::new(plain) as Box<dyn Read + Send>, Shape::Plain),
    };
    Ok(Opened { reader, file, shape, read, until, head })
}

fn stream(file: File) -> io::Result<Opened> {
    let (counted, read, until) = counted(&file)?;
    let patient = Sniffed::Unread(Patient(counted));
    let reader = Box::new(Readahead::new(patient, Patience::Stream, Arc::clone(&until)));
    Ok(Opened { reader, file, shape: Shape::Stream, read, until, head: Vec::new() })
}

fn live(file: File, shape: Shape) -> io::Result<Opened> {
    let (counted, read, until) = counted(&file)?;
    let reader = Box::new(Live { counted, until: Arc::clone(&until), begun: false });
    Ok(Opened { reader, file, shape, read, until, head: Vec::new() })
}

/// A reader of the same open file, what it has read, and how far it is to be read.
fn counted(file: &File) -> io::Result<(Counted, Arc<AtomicU64>, Arc<AtomicU64>)> {
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { file: file.try_clone()?, read: Arc::clone(&read) };
    Ok((counted, read, Arc::new(AtomicU64::new(u64::MAX))))
}

/// The decompressed bytes; or the reader as it was, if `first` bytes are no compressor's.
fn decoder<R: Read + Send + 'static>(first: &[u8], reader: R) -> io::Result<Result<Box<dyn Read + Send>, R>> {
    if let Some((_, what)) = FOREIGN.into_iter().find(|(magic, _)| first.starts_with(magic)) {
        return Err(io::Error::other(Foreign(what)));
    }
    Ok(if first.starts_with(GZIP) {
        Ok(Box::new(flate2::read::MultiGzDecoder::new(reader)))
    } else if is_zstd(first) {
        Ok(Box::new(zstd::stream::read::Decoder::new(reader)?))
    } else {
        Err(reader)
    })
}

fn is_zstd(first: &[u8]) -> bool {
    let skippable = first.split_first().filter(|(byte, _)| (0x50..0x60).contains(*byte));
    first.starts_with(ZSTD) || skippable.is_some_and(|(_, rest)| rest.starts_with(ZSTD_SKIPPABLE))
}

/// Counts what is read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Counted {
    /// How much may still be read.
    fn room(&self, until: &AtomicU64) -> usize {
        let room = until.load(Ordering::Relaxed).saturating_sub(self.read.load(Ordering::Relaxed));
        usize::try_from(room).unwrap_or(usize::MAX)
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// A stream whose first bytes tell how the rest is read. Nothing is read of it before somebody reads.
enum Sniffed {
    Unread(Patient),
    Told(Box<dyn Read + Send>),
    Failed,
}

impl Read for Sniffed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Sniffed::Unread(_) = self
            && let Sniffed::Unread(mut counted) = std::mem::replace(self, Sniffed::Failed)
        {
            let mut first = Vec::with_capacity(MAGIC_BYTES);
            counted.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut first)?;
            let whole = io::Cursor::new(first.clone()).chain(counted);
            *self = Sniffed::Told(decoder(&first, whole)?.unwrap_or_else(|plain| Box::new(plain)));
        }
        match self {
            Sniffed::Told(reader) => reader.read(buffer),
            Sniffed::Unread(_) | Sniffed::Failed => Ok(0),
        }
    }
}

/// Waits for a writer, then for what it writes, as long as it takes: for a thread of its own. A pipe that was opened
/// before its first writer came would else be at its end.
struct Patient(Counted);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            poll(&mut [PollFd::new(&self.0.file, PollFlags::IN)], None)?;
            match self.0.read(buffer) {
                // Another reader of the pipe was faster.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// A regular file that may grow: its end is no end.
struct Growing {
    counted: Counted,
    until: Arc<AtomicU64>,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.counted.room(&self.until).min(buffer.len());
        match self.counted.read(&mut buffer[..room])? {
            0 if room > 0 => Err(ErrorKind::WouldBlock.into()),
            bytes => Ok(bytes),
        }
    }
}

/// A stream that is not waited for longer than [`SILENCE`]. It ends when its last writer closes it; a pipe that none has
/// opened yet is silent.
struct Live {
    counted: Counted,
    until: Arc<AtomicU64>,
    begun: bool,
}

impl Read for Live {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.counted.room(&self.until).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let silence = Timespec { tv_sec: 0, tv_nsec: SILENCE.as_nanos() as i64 };
        if poll(&mut [PollFd::new(&self.counted.file, PollFlags::IN)], Some(&silence))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = self.counted.read(&mut buffer[..room])?;
        let first = &buffer[..bytes];
        if bytes > 0 && !std::mem::replace(&mut self.begun, true) && (first.starts_with(GZIP) || is_zstd(first)) {
            return Err(io::Error::other("a compressed stream cannot be followed; decompress it before it comes here"));
        }
        Ok(bytes)
    }
}

/// A reader on a thread of its own, a few chunks ahead. The thread starts with the first read, and ends when this is
/// dropped or with its reader.
struct Readahead<R> {
    idle: Option<R>,
    patience: Patience,
    until: Arc<AtomicU64>,
    thread: Option<Thread>,
    chunk: Vec<u8>,
    filled: usize,
    given: usize,
}

/// How long to wait for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// For as long as it takes; chunks are whole.
    Whole,
    /// Not longer than [`SILENCE`]; a chunk is whatever has come.
    Stream,
}

struct Thread {
    chunks: Receiver<Chunk>,
    /// Chunks that have been read go back to be filled again.
    spent: SyncSender<Vec<u8>>,
}

enum Chunk {
    Bytes(Vec<u8>, usize),
    Failed(io::Error),
    End,
}

impl<R: Read + Send + 'static> Readahead<R> {
    fn new(reader: R, patience: Patience, until: Arc<AtomicU64>) -> Readahead<R> {
        Readahead { idle: Some(reader), patience, until, thread: None, chunk: Vec::new(), filled: 0, given: 0 }
    }

    fn start(reader: R, patience: Patience) -> io::Result<Thread> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        // Room for all chunks there are: the ones in the channel, the one being filled and the one being read.
        let (spent, receiver) = sync_channel(CHUNKS_AHEAD + 2);
        std::thread::Builder::new()
            .name("touchline-read-ahead".to_owned())
            .spawn(move || read_ahead(reader, patience, &sender, &receiver))?;
        Ok(Thread { chunks, spent })
    }

    /// Waits for the next chunk, as long as its patience lasts; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        // The thread cannot be told where to stop: what it has read already is what is left.
        let is_over = self.until.load(Ordering::Relaxed) != u64::MAX;
        if let Some(reader) = self.idle.take().filter(|_| !is_over) {
            self.thread = Some(Self::start(reader, self.patience)?);
        }
        let Some(thread) = &self.thread else { return Ok(false) };
        let received = match self.patience {
            Patience::Whole => thread.chunks.recv().map_err(RecvTimeoutError::from),
            Patience::Stream => thread.chunks.recv_timeout(SILENCE),
        };
        match received {
            Ok(Chunk::Bytes(chunk, filled)) => {
                let spent = std::mem::replace(&mut self.chunk, chunk);
                (self.filled, self.given) = (filled, 0);
                if !spent.is_empty() {
                    // The thread may have ended.
                    let _ = thread.spent.try_send(spent);
                }
                Ok(true)
            }
            Ok(Chunk::Failed(error)) => Err(error),
            Ok(Chunk::End) => {
                self.thread = None;
                Ok(false)
            }
            Err(RecvTimeoutError::Timeout) if is_over => Ok(false),
            Err(RecvTimeoutError::Timeout) => Err(ErrorKind::WouldBlock.into()),
            // It never leaves without a word: an end that is none would lose the rest.
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that reads ahead has died")),
        }
    }
}

/// Reads to the end or the first error, or until nobody wants it.
fn read_ahead(mut reader: impl Read, patience: Patience, chunks: &SyncSender<Chunk>, spent: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = spent.try_recv().unwrap_or_else(|_| vec![0; CHUNK_BYTES]);
        let (mut filled, mut failed, mut is_last) = (0, None, false);
        while filled < chunk.len() && !is_last {
            match reader.read(&mut chunk[filled..]) {
                Ok(0) => is_last = true,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => (failed, is_last) = (Some(error), true),
            }
            if patience == Patience::Stream && filled > 0 {
                break;
            }
        }
        if filled > 0 && chunks.send(Chunk::Bytes(chunk, filled)).is_err() {
            return;
        }
        if is_last {
            // Nobody wants it if this fails.
            let _ = chunks.send(failed.map_or(Chunk::End, Chunk::Failed));
            return;
        }
    }
}

impl<R: Read + Send + 'static> Read for Readahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled && !self.advance()? {
            return Ok(0);
        }
        let bytes = (&self.chunk[self.given..self.filled]).read(buffer)?;
        self.given += bytes;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decompressor_that_dies_is_no_end() {
        struct Dying;
        impl Read for Dying {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                // As a panic does, without its message in the test's output.
                std::panic::resume_unwind(Box::new("dead"))
            }
        }
        let error =
            Readahead::new(Dying, Patience::Whole, Arc::new(AtomicU64::new(u64::MAX))).read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.to_string(), "the thread that reads ahead has died");
    }
}
