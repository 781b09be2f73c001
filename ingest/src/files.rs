//! The files of one command, in their order, as one stream of records and dead letters.
//!
//! Files are opened one after the other; those that are followed stay open, and are then looked at in turn. A file that
//! cannot be read at all is an error before anything is read. What is wrong inside a file is a dead letter, and reading
//! goes on behind it.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
use crate::position::{FILES, FilesPosition};

/// How long to wait after [`Item::Idle`]: short beside a person's patience, long beside a look at a file.
pub const POLL: Duration = Duration::from_millis(100);

/// How files are read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format of all files; without it, each one's name tells.
    pub format: Option<Format>,
    /// Wait for more where a file of text or a stream ends.
    pub follow: bool,
    /// What turns bytes into records.
    pub decoder: Decoder,
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

/// The ends of the files that are followed, sampled at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends(Vec<(PathBuf, u64)>);

/// The files of a command.
pub struct Files {
    options: Options,
    unopened: VecDeque<PathBuf>,
    open: Vec<Input>,
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
    /// Looks at all files without reading them. Those that `position` knows are read from where it says.
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
            if self.open.is_empty() || (self.idle >= self.open.len() && !self.unopened.is_empty()) {
                if !self.open_next()? {
                    return Ok(Item::End);
                }
                continue;
            }
            if self.idle >= self.open.len() {
                self.idle = 0;
                return Ok(Item::Idle);
            }
            let input = &mut self.open[self.current];
            match input.next(&mut self.counts.blank)? {
                Found::Record(place) => break place,
                Found::Wrong(place, fault, bytes) => {
                    self.idle = 0;
                    self.counts.read += u64::from(!matches!(fault, Fault::Damaged { .. }));
                    return Ok(Item::Dead(dead_letter(input, place, &fault, bytes, &mut self.counts)));
                }
                Found::Pending => {
                    self.idle += 1;
                    self.current = (self.current + 1) % self.open.len();
                }
                Found::End => self.close_current(),
            }
        };
        self.idle = 0;
        self.counts.read += 1;
        self.decode(place, arrived)
    }

    /// How far everything that [`Files::next`] has given was read.
    pub fn position(&mut self) -> &FilesPosition {
        for input in &mut self.open {
            if let Some(position) = input.position() {
                self.position.set(position);
            }
        }
        &self.position
    }

    /// Samples the true ends of all files. Before every file has been opened there is none: the end is not in sight.
    ///
    /// # Errors
    /// A file that is followed has been cut, moved, deleted or replaced.
    pub fn sample_ends(&self) -> Result<Option<Ends>, InputError> {
        if !self.unopened.is_empty() || self.open.iter().any(|input| !input.is_live()) {
            return Ok(None);
        }
        let ends = self.open.iter().map(|input| Ok((input.path().to_owned(), input.sample_end()?)));
        ends.collect::<Result<_, _>>().map(|ends| Some(Ends(ends)))
    }

    /// Whether all that was in the files when `ends` were sampled has been given.
    pub fn has_passed(&self, ends: &Ends) -> bool {
        // A file that is open no more was read to its end.
        let open = |path: &Path| self.open.iter().find(|input| input.path() == path);
        ends.0.iter().all(|(path, end)| open(path).is_none_or(|input| input.offset() >= *end))
    }

    /// Sums over all files so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the summary of the run should mention, at most one sentence a file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes read so far and in all, before decompression; the latter is not known of a stream, and may grow.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let open: u64 = self.open.iter().map(Input::read).sum();
        (self.closed_bytes + open, self.total_bytes)
    }

    fn open_next(&mut self) -> Result<bool, InputError> {
        let Some(path) = self.unopened.pop_front() else { return Ok(false) };
        let open = || Input::open(&path, self.options.format, self.options.follow);
        let mut input = open()?;
        let known = input.find(&self.position).cloned();
        if let Some(known) = known {
            if input.is_finished(&known) {
                self.position.remove(input.path());
                self.position.set(known);
                self.closed_bytes += input.size().unwrap_or(0);
                return Ok(true);
            }
            if !input.skip_to(&known)? {
                input = open()?;
                self.warn(format!(
                    "{} is shorter than what an earlier run had read of it ({} bytes): it was read from its beginning, as a new file",
                    path.display(),
                    known.offset,
                ));
            }
        }
        self.position.remove(input.path());
        (self.current, self.idle) = (self.open.len(), 0);
        self.open.push(input);
        Ok(true)
    }

    fn close_current(&mut self) {
        let mut input = self.open.remove(self.current);
        (self.current, self.idle) = (0, 0);
        self.closed_bytes += input.size().unwrap_or_else(|| input.read());
        if let Some(position) = input.position() {
            self.position.set(position);
        }
        if input.is_empty() {
            self.warn(format!("{} holds no records", shown(input.given())));
        }
    }

    fn warn(&mut self, warning: String) {
        // Whoever runs this says so in the end.
        tracing::info!("{warning}");
        self.warnings.push(warning);
    }

    fn decode(&mut self, place: Place, arrived: Timestamp) -> Result<Item<'_>, InputError> {
        let Files { options, open, current, counts, json, cells, .. } = self;
        let input = &open[*current];
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
    let mut input = Input::open(path, options.format, options.follow)?;
    input.check_header()?;
    Ok((input.path().to_owned(), input.size()))
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
