//! The `file` sink: five files in a directory, for people, spreadsheets and scripts.
//!
//! | file | holds |
//! |---|---|
//! | `alerts.jsonl`, `dead_letters.jsonl` | every change, in order |
//! | `scores.jsonl`, `facts.jsonl` | the latest value of each key, sorted by key |
//! | `lapses.csv` | the lapse episodes among the facts, sorted by account, contact and last engagement |
//!
//! The files are a function of the changes alone: however these were cut into batches, and wherever the process was
//! killed between, another run ends with the same bytes as one that was never disturbed. (Lines of different lanes are
//! appended as they arrive.) `.index` beside them, a small RocksDB, is what makes it so:
//! - One atomic write, synced, stores a batch's rows, its lane's cursor, and how long the appended files are by then.
//!   Their lines were synced before; what a crash left behind the recorded length is cut off when the directory is
//!   opened. The last sequence of the lane in them is recorded as well: a feed that repeats itself adds no line twice.
//! - Alerts of a contact that is erased are overwritten where they stand, and the index is scrubbed when the sorted files
//!   are written.
//! - The sorted files are written from the rows alone, under another name, synced and renamed: readers see a whole
//!   file, the former or the new. They are written when the sink is closed and, while following, now and then.
//!
//! A directory that holds the output of another feed, or whose appended files have lost lines, is written again from
//! the feed's beginning. Nothing of it is touched before the feed has shown that it still has its beginning.

mod append;
mod encode;
mod error;
mod index;
mod scrub;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use touchline_core::output::Topic;
use tracing::warn;

use crate::sink::{Batch, BoxFuture, Delivered, Lane, Sink, SinkError, Start};
use append::AppendFile;
use encode::Rows;
pub use error::FileError;
use error::io_error;
use index::{Index, Place, Recorded, Table};

/// How stale the sorted files may be while following: fresh enough to look at, and cheap for small ones.
const REWRITE_EVERY: Duration = Duration::from_secs(30);
/// Large ones are written less often: at most one part in so many of the time.
const REWRITE_SHARE: u32 = 10;
/// Written to a sorted file at once.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// The directory of the rows behind the files.
const INDEX: &str = ".index";
/// The first line of `lapses.csv`.
const LAPSES_HEADER: &[u8] = b"account,contact,last_engagement_at,lapsed_at,recovered_at\n";
/// The files that are written from the index.
const SORTED: [(&str, Table, &[u8]); 3] = [
    ("scores.jsonl", Table::Scores, b""),
    ("facts.jsonl", Table::Facts, b""),
    ("lapses.csv", Table::Episodes, LAPSES_HEADER),
];
/// The topics of the files that are appended to, in the order of [`Recorded::lengths`].
const APPENDED: [Topic; 2] = [Topic::Alerts, Topic::DeadLetters];

/// What a file sink is made of.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Where the files go; created if it does not exist.
    pub dir: PathBuf,
    /// Names the feed that the output belongs to; another feed's output is written anew.
    pub feed: Vec<u8>,
    /// Whether to write the sorted files now and then, because it may be long until the sink is closed.
    pub following: bool,
    /// Whether each run has a feed of its own, so that nobody need be told that another feed's output is replaced.
    pub replaces: bool,
}

/// The sink; see the module.
pub struct FileSink {
    config: FileConfig,
    index: Index,
    appended: [AppendFile; APPENDED.len()],
    recorded: Recorded,
    /// The directory holds something else than what `recorded` says, and is cleared before anything is written.
    foreign: bool,
    /// The rows may have changed since the sorted files were written.
    stale: bool,
    /// The sorted files are not written before, while following.
    rewrite_at: Instant,
}

impl FileSink {
    /// Opens the directory, puts right what a crash left there, and keeps others out of it until dropped.
    pub fn open(config: FileConfig) -> Result<FileSink, FileError> {
        create_dir(&config.dir)?;
        let [alerts, dead_letters] =
            APPENDED.map(|topic| AppendFile::open(config.dir.join(format!("{}.jsonl", topic.name()))));
        let appended = [alerts?, dead_letters?];
        let index = Index::open(config.dir.join(INDEX))?;
        sync_dir(&config.dir)?;
        let recorded = index.recorded()?;
        let foreign = foreign(&config, recorded.as_ref(), &appended)?;
        let recorded = recorded.filter(|_| !foreign).unwrap_or_else(|| Recorded::nothing(&config.feed));
        // Stale until written once, whatever has happened to the files since the last run.
        let mut sink = FileSink { config, index, appended, recorded, foreign, stale: true, rewrite_at: Instant::now() };
        if !foreign {
            sink.cut()?;
        }
        Ok(sink)
    }

    fn store(&mut self, lane: &Lane, batch: &Batch) -> Result<(), FileError> {
        self.take_over()?;
        let place = self.recorded.lanes.get(lane).cloned().unwrap_or_default();
        let rows = Rows::of(&batch.changes, place.next);
        // Recorded only once it is stored: what fails is done again from what was.
        let mut recorded = self.recorded.clone();
        if !rows.notices.is_empty() {
            // What stands in the file is before anything in the batch.
            let [alerts, _] = &mut self.appended;
            alerts.overwrite(recorded.lengths[0], |line| scrub::scrub(&rows.notices, line, 0))?;
        }
        for ((file, length), lines) in self.appended.iter_mut().zip(&mut recorded.lengths).zip(&rows.lines) {
            *length = file.append(*length, lines)?;
        }
        let cursor = batch.next.clone().or(place.cursor);
        recorded.lanes.insert(lane.clone(), Place { cursor, next: rows.next });
        self.index.store(&rows.latest, lane, &recorded, rows.is_erasing)?;
        self.recorded = recorded;
        self.stale |= !rows.latest.is_empty() || rows.is_erasing;
        self.rewrite_if_due()
    }

    /// Makes the directory this feed's. Called when the feed has been read from the cursor that was asked for, so that
    /// what is cleared is sure to be written again.
    fn take_over(&mut self) -> Result<(), FileError> {
        if self.foreign {
            self.index.clear(&self.recorded)?;
            self.cut()?;
            self.foreign = false;
        }
        Ok(())
    }

    /// Cuts off what was appended without being recorded.
    fn cut(&mut self) -> Result<(), FileError> {
        self.appended.iter_mut().zip(self.recorded.lengths).try_for_each(|(file, length)| file.cut(length))
    }

    fn rewrite_if_due(&mut self) -> Result<(), FileError> {
        if self.config.following && self.stale && Instant::now() >= self.rewrite_at { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&mut self) -> Result<(), FileError> {
        let start = Instant::now();
        for (name, table, header) in SORTED {
            self.write_sorted(name, table, header)?;
        }
        sync_dir(&self.config.dir)?;
        self.index.scrub()?;
        self.stale = false;
        self.rewrite_at = Instant::now() + REWRITE_EVERY.max(start.elapsed() * REWRITE_SHARE);
        Ok(())
    }

    fn write_sorted(&self, name: &str, table: Table, header: &[u8]) -> Result<(), FileError> {
        let (path, new) = (self.config.dir.join(name), self.config.dir.join(format!(".{name}.new")));
        // On a full disk, half a file would only be in the way.
        self.write_table(&new, table, header).inspect_err(|_| drop(fs::remove_file(&new)))?;
        fs::rename(&new, &path).map_err(|error| io_error("replace", &path, error))
    }

    fn write_table(&self, path: &Path, table: Table, header: &[u8]) -> Result<(), FileError> {
        let cannot_write = |error| io_error("write", path, error);
        let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(path).map_err(cannot_write)?);
        out.write_all(header).map_err(cannot_write)?;
        self.index.each(table, |line| out.write_all(line).and_then(|()| out.write_all(b"\n")).map_err(cannot_write))?;
        let file = out.into_inner().map_err(|error| cannot_write(error.into_error()))?;
        file.sync_all().map_err(cannot_write)
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn claim<'a>(&'a mut self, lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        let cursor = self.recorded.lanes.get(lane).and_then(|place| place.cursor.clone());
        Box::pin(async { Ok(Start::At(cursor)) })
    }

    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async {
            self.store(lane, batch)?;
            Ok(Delivered::Stored)
        })
    }

    fn idle(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.take_over()?;
            Ok(self.rewrite_if_due()?)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.take_over()?;
            if self.stale {
                self.rewrite()?;
            }
            Ok(())
        })
    }
}

/// Whether the directory is to be written from the feed's beginning; says why, if that replaces something.
fn foreign(
    config: &FileConfig,
    recorded: Option<&Recorded>,
    appended: &[AppendFile; APPENDED.len()],
) -> Result<bool, FileError> {
    let mut lengths = [0; APPENDED.len()];
    for (length, file) in lengths.iter_mut().zip(appended) {
        *length = file.length()?;
    }
    let why = match recorded {
        Some(recorded) if config.replaces && recorded.feed != config.feed => return Ok(true),
        None if lengths.iter().all(|length| *length == 0) => return Ok(true),
        None => "its files are not from a touchline that kept an index there",
        Some(recorded) if recorded.feed != config.feed => "it holds the output of another state",
        Some(recorded) if recorded.lengths.iter().zip(lengths).any(|(recorded, length)| length < *recorded) => {
            "lines have been taken out of its alerts or dead letters"
        }
        Some(_) => return Ok(false),
    };
    warn!(sink = config.name, dir = %config.dir.display(), why, "the output directory is written again from the beginning");
    Ok(true)
}

fn create_dir(dir: &Path) -> Result<(), FileError> {
    if fs::metadata(dir).is_ok_and(|found| !found.is_dir()) {
        return Err(FileError::NotADirectory(dir.to_owned()));
    }
    fs::create_dir_all(dir).map_err(|error| io_error("create the directory", dir, error))
}

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error("sync", dir, error))
}
