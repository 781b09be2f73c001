//! The files of one command, in their order, as one stream of records and dead letters.
//!
//! Files are opened one after the other; those that are followed stay open, and are then looked at in turn. A file that
//! cannot be read at all is an error before anything is read. What is wrong inside a file is a dead letter, and reading
//! goes on behind it.
//!
//! What is followed is a path (`tail -F`). Of the file that had it before, everything is read, then the file that has it now
//! from its beginning; one that was cut is read from its beginning again, once what is left of it has been read in a copy
//! beside it, if there is one; one that is missing is waited for. Nothing is read twice, also by a later run: it finds
//! the files again that were moved or copied meanwhile.

mod beside;
mod rotation;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use touchline_core::record::Record;

use crate::counts::Counts;
use crate::dead_letter::{DeadLetter, RAW_BYTES, STAGE};
use crate::formats::canonical::{Decoded, Decoder};
use crate::formats::csv::Cells;
use crate::formats::{Fault, Format};
use crate::input::{Found, Input, InputError, shown};
use crate::lines::Place;
use crate::open::STDIN;
use crate::position::{FILES, FilePosition, FilesPosition};
use beside::known_as;
use watch::{Open, There, Watch, is_passing};

/// How long to wait after [`Item::Idle`]: short beside a person's patience, long beside a look at a file.
pub const POLL: Duration = Duration::from_millis(100);

/// How long a file is read on that has lost its name: those who write it are told to open the new one at once, and those
/// who write seldom are not waited for any longer. A line without its end holds the clock so long.
const LEFT_FOR: Duration = Duration::from_secs(300);
/// How often it is looked which files have the names, while there is much to read: before a name can have gone to two.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Records between two looks at the clock for that.
const CLOCK_EVERY: u32 = 256;
/// How many sentences of warning are kept for the summary: all are logged.
const WARNINGS: usize = 100;

/// How files are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The format of all files; without it, each one's name tells.
    pub format: Option<Format>,
    /// Wait for more where a file of text or a stream ends.
    pub follow: bool,
    /// What turns bytes into records.
    pub decoder: Decoder,
    /// How long a file that has lost its name is read on, once it grows no more.
    pub left_for: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { format: None, follow: false, decoder: Decoder::default(), left_for: LEFT_FOR }
    }
}

/// The next thing in the files.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record of the log.
    Record(Taken<'a>),
    /// An event of our own people, already counted.
    Internal,
    /// Something that is no record.
    Dead(DeadLetter),
    /// Nothing more for now in any file that is followed.
    Idle,
    /// All files have been read to their ends.
    End,
}

/// A record and where it stands.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The record; an event has its account.
    pub record: Record<'a>,
    /// Its canonical JSON as it was read, before identity: a row of CSV too.
    pub json: &'a [u8],
    /// The canonical path of its file.
    pub path: &'a Path,
    /// Where in the file.
    pub place: Place,
}

/// The ends of the files that are followed, by the number of each, sampled at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends(Vec<(u64, u64)>);

/// The files of a command.
pub struct Files {
    options: Options,
    unopened: VecDeque<PathBuf>,
    open: Vec<Open>,
    /// How many have been opened.
    opened: u64,
    /// The paths that are followed.
    watches: Vec<Watch>,
    /// When it was last looked at them, if it was since there was nothing to read.
    looked_at: Option<Instant>,
    /// Records until the next look at the clock.
    patience: u32,
    /// The one of `open` that is being read.
    current: usize,
    /// How many of `open` in a row had nothing more.
    idle: usize,
    position: FilesPosition,
    counts: Counts,
    warnings: Vec<String>,
    /// Compressed bytes of the files that have been closed.
    closed_bytes: u64,
    total_bytes: Option<u64>,
    json: Vec<u8>,
    cells: Cells,
}

impl Files {
    /// Looks at all files without reading them. Those that `position` knows are read from where it says. A file that is to be
    /// followed may be missing, if its directory is there.
    ///
    /// # Errors
    /// All that is wrong with the files as such.
    pub fn open(paths: &[PathBuf], options: Options, position: FilesPosition) -> Result<Files, Vec<InputError>> {
        if paths.len() > FILES {
            return Err(vec![InputError::TooMany { given: paths.len() }]);
        }
        let (mut errors, mut known, mut total_bytes) = (Vec::new(), BTreeSet::new(), Some(0));
        for path in paths {
            match look(path, &options) {
                Ok((canonical, size)) => {
                    total_bytes = total_bytes.zip(size).map(|(sum, size)| sum + size);
                    if !known.insert(canonical) {
                        errors.push(InputError::Twice { path: path.clone() });
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Files {
            options,
            unopened: paths.iter().cloned().collect(),
            open: Vec::new(),
            opened: 0,
            watches: Vec::new(),
            looked_at: None,
            patience: CLOCK_EVERY,
            current: 0,
            idle: 0,
            position,
            counts: Counts::default(),
            warnings: Vec::new(),
            closed_bytes: 0,
            total_bytes,
            json: Vec::new(),
            cells: Cells::default(),
        })
    }

    /// The next record or dead letter. `arrived` is the time at which it arrives: no event may lie further ahead of it
    /// than clocks differ.
    ///
    /// # Errors
    /// A file cannot be read on, or is not what it was. What was read before counts.
    pub fn next(&mut self, arrived: Timestamp) -> Result<Item<'_>, InputError> {
        let place = loop {
            self.look_if_time()?;
            let is_idle = self.idle >= self.open.len();
            if is_idle && !self.unopened.is_empty() {
                self.open_next()?;
                continue;
            }
            if self.open.is_empty() && self.watches.is_empty() {
                return Ok(Item::End);
            }
            if is_idle {
                self.idle = 0;
                // Whoever comes again has waited.
                (self.patience, self.looked_at) = (0, None);
                return Ok(Item::Idle);
            }
            let open = &mut self.open[self.current];
            match open.input.next(&mut self.counts.blank)? {
                Found::Record(place) => break place,
                Found::Wrong(place, fault, bytes) => {
                    self.idle = 0;
                    self.counts.read += u64::from(!matches!(fault, Fault::Damaged { .. }));
                    return Ok(Item::Dead(dead_letter(&open.input, place, &fault, bytes, &mut self.counts)));
                }
                Found::Pending => {
                    self.close_if_done();
                    self.idle += 1;
                    self.current = (self.current + 1) % self.open.len();
                }
                Found::Cut => self.cut()?,
                Found::End => self.close_current()?,
            }
        };
        self.idle = 0;
        self.counts.read += 1;
        self.decode(place, arrived)
    }

    /// How far everything that [`Files::next`] has given was read.
    pub fn position(&mut self) -> &FilesPosition {
        for open in &mut self.open {
            if let Some(position) = open.input.position() {
                self.position.set(position);
            }
        }
        &self.position
    }

    /// Reads no further than it must: what has been written into pipes up to now is given before [`Item::End`], since
    /// nobody can read it again. `false` if there is nothing of the kind.
    pub fn drain(&mut self) -> bool {
        self.position();
        self.unopened.clear();
        self.watches.clear();
        self.open.retain(|open| open.input.is_stream());
        self.open.iter_mut().for_each(|open| open.input.close());
        (self.current, self.idle) = (0, 0);
        !self.open.is_empty()
    }

    /// Samples the true ends of all files. There is none while the end is not in sight: before every file has been opened,
    /// and while one is cut or rotated, which is dealt with first.
    ///
    /// # Errors
    /// A file cannot be asked.
    pub fn sample_ends(&self) -> Result<Option<Ends>, InputError> {
        if !self.unopened.is_empty() || self.open.iter().any(|open| !open.input.is_live()) {
            return Ok(None);
        }
        for watch in &self.watches {
            if watch.look()? == There::Other {
                return Ok(None);
            }
        }
        let ends = self.open.iter().map(|open| Ok(open.input.sample_end()?.map(|end| (open.number, end))));
        ends.collect::<Result<Option<_>, _>>().map(|ends| ends.map(Ends))
    }

    /// Whether all that was in the files when `ends` were sampled has been given.
    pub fn has_passed(&self, ends: &Ends) -> bool {
        // A file that is open no more was read to its end.
        let open = |number: u64| self.open.iter().find(|open| open.number == number);
        ends.0.iter().all(|(number, end)| open(*number).is_none_or(|open| open.input.offset() >= *end))
    }

    /// Sums over all files so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the summary of the run should mention: a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes read so far and in all, before decompression; the latter is not known of a stream, and may grow.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let open: u64 = self.open.iter().map(|open| open.input.read()).sum();
        (self.closed_bytes + open, self.total_bytes)
    }

    fn open_next(&mut self) -> Result<(), InputError> {
        let Some(path) = self.unopened.pop_front() else { return Ok(()) };
        let open = || Input::open(&path, self.options.format, self.options.follow);
        let input = match open() {
            Err(InputError::Open { source, .. }) if self.options.follow && is_passing(source.kind()) => None,
            opened => Some(opened?),
        };
        let mut input = match input {
            Some(input) if !input.is_watched() => input,
            // A pipe must not be opened twice: what is written meanwhile would be lost.
            here => return self.follow(path, here),
        };
        let known = input.find(&self.position).cloned();
        if let Some(known) = known {
            if input.is_finished(&known) {
                self.position.take(input.path());
                self.position.set(known);
                self.closed_bytes += input.size().unwrap_or(0);
                return Ok(());
            }
            if !input.skip_to(&known)? {
                input = open()?;
                self.warn(shorter(&path, &known));
            }
        }
        self.position.take(input.path());
        self.push(input, None);
        Ok(())
    }

    /// Reads an input next.
    fn push(&mut self, input: Input, left: Option<(Instant, u64)>) {
        (self.current, self.idle) = (self.open.len(), 0);
        self.opened += 1;
        self.open.push(Open { input, number: self.opened, left });
    }

    fn close_current(&mut self) -> Result<(), InputError> {
        let Open { mut input, left, .. } = self.open.remove(self.current);
        (self.current, self.idle) = (0, 0);
        self.closed_bytes += input.size().unwrap_or_else(|| input.read());
        if left.is_some() {
            // No path leads to it: a later run has nothing to look for.
            self.position.forget(input.path(), input.id());
        } else if let Some(cut) = input.cut() {
            self.tell_cut(&input, cut);
            return self.begin_again(&input);
        } else if let Some(position) = input.position() {
            self.position.set(position);
        }
        if input.is_empty() && !input.is_closing() {
            self.warn(format!("{} holds no records", shown(input.given())));
        }
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        // Whoever runs this says so in the end, which may be far.
        match self.options.follow {
            true => tracing::warn!("{warning}"),
            false => tracing::info!("{warning}"),
        }
        if self.warnings.len() < WARNINGS {
            self.warnings.push(warning);
        }
    }

    fn decode(&mut self, place: Place, arrived: Timestamp) -> Result<Item<'_>, InputError> {
        let Files { options, open, current, counts, json, cells, .. } = self;
        let input = &open[*current].input;
        let bytes = match input.header() {
            None => Ok(input.bytes()),
            Some(header) => {
                json.clear();
                header.write_json(input.bytes(), cells, json).map(|()| &**json)
            }
        };
        let decoded = bytes.and_then(|json| Ok((options.decoder.decode(json, arrived)?, json)));
        Ok(match decoded {
            Ok((Decoded::Record(record), json)) => {
                *match record {
                    Record::Event(_) => &mut counts.events,
                    Record::Tick { .. } => &mut counts.ticks,
                    Record::Rules { .. } => &mut counts.rules,
                } += 1;
                Item::Record(Taken { record, json, path: input.path(), place })
            }
            Ok((Decoded::Internal, _)) => {
                counts.internal += 1;
                Item::Internal
            }
            Err(fault) => Item::Dead(dead_letter(input, place, &fault, input.bytes().len() as u64, counts)),
        })
    }
}

/// What can be said of a file before it is read: its name in positions, and its size.
fn look(path: &Path, options: &Options) -> Result<(PathBuf, Option<u64>), InputError> {
    let is_stream = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if is_stream || path.as_os_str() == STDIN {
        // It can be opened once.
        return Ok((path.to_owned(), None));
    }
    let mut input = match Input::open(path, options.format, options.follow) {
        // It is waited for where it may come.
        Err(InputError::Open { source, .. })
            if options.follow && source.kind() == ErrorKind::NotFound && known_as(path).is_some() =>
        {
            let format = options.format.or(Format::of_path(path));
            format.ok_or_else(|| InputError::Format { path: path.to_owned() })?;
            return Ok((known_as(path).unwrap_or_default(), None));
        }
        opened => opened?,
    };
    input.check_header()?;
    Ok((input.path().to_owned(), input.size()))
}

/// What there is to say of a file that ends before the place that was reached in it.
fn shorter(path: &Path, known: &FilePosition) -> String {
    format!(
        "{} is shorter than what an earlier run had read of it ({} bytes): it was read from its beginning, as a new file",
        path.display(),
        known.offset,
    )
}

fn dead_letter(input: &Input, place: Place, fault: &Fault, bytes: u64, counts: &mut Counts) -> DeadLetter {
    counts.dead += 1;
    *counts.reasons.entry(fault.reason()).or_default() += 1;
    let kept = input.bytes();
    DeadLetter {
        stage: STAGE,
        path: input.path().display().to_string(),
        line: place.line,
        offset: place.start,
        error: fault.to_string(),
        raw: kept[..kept.len().min(RAW_BYTES)].to_vec(),
        raw_bytes: bytes,
    }
}
