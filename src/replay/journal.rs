//! The log of an embedded run: files with the ticks that belong between their records.
//!
//! - A *history* gets `tick{t}` before each event whose `occurred_at` t is a new greatest, and `tick{as-of}` at its end.
//! - A *log* has ticks or rules of its own: they are obeyed and none is added, but that a new state begins with the rules of
//!   the configuration, which hold until the log has others. A pipe is one if it begins with one.
//! - Files that are *followed* get ticks by the clock: `tick{t₀}` once the ends that were sampled after t₀ are passed.
//!
//! What cannot be read again (standard input, pipes, ticks by the clock) is first appended to `journal.jsonl` in the state
//! directory and synced: that is the log, and replaying it gives the same alerts. What has come through a pipe when the run is
//! to stop is taken before it does.

mod look;
mod tail;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use touchline_core::event::RECORD_BYTES;
use touchline_core::record::{Record, tick_record};
use touchline_core::rules::Rules;
use touchline_ingest::files::POLL;
use touchline_ingest::formats::canonical::Decoded;
use touchline_ingest::input::shown;
use touchline_ingest::lines;
use touchline_ingest::position::CorruptPosition;
use touchline_ingest::{Counts, Decoder, Ends, Files, FilesPosition, Identity, InputError, Item};
use touchline_processor::{Commit, Durability, HeldEvents, Input, Journal, Place, StoreError};

pub use look::{as_usage, look};
use look::{is_stream, looked_at, usage};
use tail::JournalFile;

/// How often the clock ticks for followed files.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Records between two looks at the clock while there is much to read.
const CLOCK_EVERY: u32 = 64;
/// The form of the stored position.
const VERSION: u8 = 1;

/// What a run reads, and how.
pub struct Plan {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// How they are read.
    pub reading: touchline_ingest::Options,
    /// Whether they have ticks or rules of their own.
    pub is_log: bool,
    /// Events after it are held.
    pub as_of: Option<Timestamp>,
    /// A followed source is complete only so long ago.
    pub max_delay: Duration,
    /// What a commit survives.
    pub durability: Durability,
    /// Where to keep what cannot be read again, if the state is kept.
    pub journal: Option<PathBuf>,
    /// Rules to begin with.
    pub rules: Option<Rules>,
    /// The last tick of the state.
    pub tick: Option<Timestamp>,
    /// No progress bar.
    pub is_quiet: bool,
}

/// Why the log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal of the state directory.
    #[error("the journal {} cannot be used", path.display())]
    Journal {
        /// Which.
        path: PathBuf,
        /// The system's own.
        source: std::io::Error,
    },
    /// Something that was put off cannot be read again.
    #[error(
        "an event that this state holds for later cannot be read: {0}; replay the input into a new state directory"
    )]
    Held(String),
    /// A tick where none was expected.
    #[error(
        "{} has a tick or rules on line {line}, but none in {}, so it was not taken for a log: put \
         {{\"kind\":\"tick\",\"through\":\"1970-01-01T00:00:00Z\"}} on its first line, and run the command with another --state",
        shown(path),
        looked_at(path)
    )]
    LateTick {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: u64,
    },
    /// A log that comes while other ticks are given.
    #[error("{} has ticks of its own, which say up to when to look: leave out {flag}", shown(path))]
    TwoClocks {
        /// The file.
        path: PathBuf,
        /// Where the other ticks come from.
        flag: &'static str,
    },
}

/// Where ticks come from.
enum Ticks {
    History { as_of: Option<Timestamp> },
    Log,
    Clock(Clock),
}

/// Ticks by the clock.
struct Clock {
    max_delay: SignedDuration,
    /// t₀ and the ends that were sampled after it.
    waiting: Option<(Timestamp, Ends)>,
    looked_at: Option<Instant>,
    patience: u32,
}

impl Ticks {
    /// Obeys the ticks of the files.
    fn become_log(&mut self, path: &Path) -> Result<(), ReplayError> {
        let flag = match self {
            Ticks::Log | Ticks::History { as_of: None } => {
                *self = Ticks::Log;
                return Ok(());
            }
            Ticks::History { as_of: Some(_) } => "--as-of",
            Ticks::Clock(_) => "--follow",
        };
        Err(ReplayError::TwoClocks { path: path.to_owned(), flag })
    }
}

impl Clock {
    /// Up to when a source is complete that is complete up to now, but for what is late.
    fn through(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.max_delay).unwrap_or(Timestamp::MIN)
    }
}

/// The log of a run.
pub struct Replay {
    files: Files,
    /// For what was decoded before: that it is tracked is settled.
    again: Decoder,
    ticks: Ticks,
    rules: Option<Rules>,
    /// The last tick of the log so far.
    tick: Option<Timestamp>,
    /// Whether what was held has been looked through.
    has_held: bool,
    /// All files have been read to their ends.
    is_read: bool,
    /// The last tick has been given.
    is_finished: bool,
    /// Only what cannot be read again is still read.
    is_draining: bool,
    started: Timestamp,
    durability: Durability,
    journal: Option<JournalFile>,
    /// Something was read that is no dead letter.
    has_events: bool,
    /// Where the record given last stands, if it is a file's, and in which file.
    place: Option<lines::Place>,
    path: PathBuf,
    /// What that record takes at the end of the journal.
    journaled: u64,
    /// Text of a record that is not a file's.
    text: Vec<u8>,
    bar: ProgressBar,
}

impl Replay {
    /// Opens the files where `position` says.
    pub fn open(plan: Plan, position: Option<&[u8]>) -> Result<Replay> {
        let (read, known) = position.map(decode).transpose()?.unwrap_or_default();
        let follow = plan.reading.follow;
        let again = Decoder { zones: plan.reading.decoder.zones.clone(), identity: Identity::default() };
        let is_stream = plan.files.iter().any(|path| is_stream(path));
        let files = Files::open(&plan.files, plan.reading, known).map_err(usage)?;
        let journal = plan.journal.filter(|path| follow || is_stream || path.exists());
        let journal = journal.map(|path| JournalFile::open(path, read)).transpose()?;
        let ticks = if plan.is_log {
            Ticks::Log
        } else if follow {
            let max_delay = SignedDuration::try_from(plan.max_delay).unwrap_or(SignedDuration::MAX);
            Ticks::Clock(Clock { max_delay, waiting: None, looked_at: None, patience: 0 })
        } else {
            Ticks::History { as_of: plan.as_of }
        };
        let total = files.progress().1.filter(|_| !follow);
        Ok(Replay {
            files,
            again,
            rules: plan.rules.filter(|_| !plan.is_log || position.is_none()),
            ticks,
            tick: plan.tick,
            has_held: true,
            is_read: false,
            is_finished: false,
            is_draining: false,
            started: Timestamp::now(),
            durability: plan.durability,
            journal,
            has_events: false,
            place: None,
            path: PathBuf::new(),
            journaled: 0,
            text: Vec::new(),
            bar: super::bar(total, plan.is_quiet),
        })
    }

    /// Shows how much of the input has been read.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// What was read.
    pub fn counts(&self) -> &Counts {
        self.files.counts()
    }

    /// What the summary should mention.
    pub fn warnings(&self) -> &[String] {
        self.files.warnings()
    }

    fn control(&mut self, text: Vec<u8>, record: Record<'static>) -> Input<'static> {
        if let Some(journal) = &mut self.journal {
            journal.push(&text);
        }
        if let Record::Tick { through, .. } = &record {
            self.tick = self.tick.max(Some(*through));
        }
        self.place = None;
        Input::Record { record, tick: None, bytes: 0, held: None }
    }

    /// The tick before an event of a history, if its time is a new greatest.
    fn tick_before(&mut self, at: Timestamp) -> Option<Timestamp> {
        let is_new = matches!(self.ticks, Ticks::History { .. }) && self.tick.is_none_or(|tick| tick < at);
        is_new.then(|| *self.tick.insert(at))
    }

    fn end(&mut self) -> Input<'static> {
        let through = match &self.ticks {
            Ticks::History { as_of } => as_of.or(self.tick),
            // What was followed has ended: it is complete now.
            Ticks::Clock(clock) => self.not_back(clock.through(Timestamp::now())),
            Ticks::Log => None,
        };
        match through.filter(|_| !std::mem::replace(&mut self.is_finished, true)) {
            Some(through) => self.control(tick_record(through, None), Record::tick(through)),
            None => Input::End,
        }
    }

    /// A tick by the clock, if one is due.
    fn clock(&mut self) -> Result<Option<Timestamp>, ReplayError> {
        let Ticks::Clock(clock) = &mut self.ticks else { return Ok(None) };
        if clock.patience > 0 {
            clock.patience -= 1;
            return Ok(None);
        }
        clock.patience = CLOCK_EVERY;
        if clock.waiting.is_none() && clock.looked_at.is_none_or(|looked| looked.elapsed() >= TICK_EVERY) {
            let now = Timestamp::now();
            clock.waiting = self.files.sample_ends()?.map(|ends| (now, ends));
            clock.looked_at = clock.waiting.as_ref().map(|_| Instant::now());
        }
        let Some((now, _)) = clock.waiting.take_if(|(_, ends)| self.files.has_passed(ends)) else { return Ok(None) };
        let through = clock.through(now);
        Ok(self.not_back(through))
    }

    /// The clock of a machine can be set back; time in a log cannot.
    fn not_back(&self, through: Timestamp) -> Option<Timestamp> {
        Some(through).filter(|through| self.tick.is_none_or(|tick| tick <= *through))
    }

    /// The next event that was held, whose time has come.
    fn held(&mut self, held: &mut HeldEvents<'_>) -> Result<Option<Input<'_>>, ReplayError> {
        let through = match &self.ticks {
            Ticks::History { as_of: Some(as_of) } => *as_of,
            _ => Timestamp::MAX,
        };
        let Some(found) = held.first(through)? else {
            self.has_held = false;
            return Ok(None);
        };
        self.text = found.raw;
        let at = found.at;
        let tick = self.tick_before(at);
        if let Some(journal) = &mut self.journal {
            if let Some(tick) = tick {
                journal.push(&tick_record(tick, None));
            }
            journal.push(&self.text);
        }
        self.place = None;
        let record = decode_again(&self.again, &self.text)?;
        Ok(Some(Input::Record { record, tick, bytes: 0, held: Some(found.key) }))
    }

    /// The next of the files.
    fn read(&mut self) -> Result<Input<'_>, ReplayError> {
        let arrived = if matches!(self.ticks, Ticks::Clock(_)) { Timestamp::now() } else { self.started };
        let item = self.files.next(arrived)?;
        let (record, json, path, place) = match item {
            Item::Record(taken) => (taken.record, taken.json, taken.path, taken.place),
            Item::Dead(letter) => {
                self.place = None;
                let value = letter.to_json().to_string().into_bytes();
                return Ok(Input::DeadLetter { key: letter.key().into_bytes(), value });
            }
            Item::Internal => return Ok(Input::Idle),
            Item::Idle => {
                if let Ticks::Clock(clock) = &mut self.ticks {
                    clock.patience = 0;
                }
                std::thread::sleep(POLL);
                return Ok(Input::Idle);
            }
            Item::End => {
                self.is_read = true;
                return Ok(Input::Idle);
            }
        };
        if self.path != path {
            path.clone_into(&mut self.path);
        }
        self.place = Some(place);
        if !matches!(record, Record::Event(_)) && !self.has_events {
            // Nothing has been given a tick of ours yet: a pipe that begins so is a log.
            self.ticks.become_log(path)?;
        }
        self.has_events = true;
        let mut tick = None;
        match (&record, &self.ticks) {
            (Record::Event(event), Ticks::History { as_of: Some(as_of) }) if event.occurred_at > *as_of => {
                let mut raw = Vec::new();
                event.write_canonical(&mut raw);
                // The canonical form can be a little longer than what came, and then too long to be read again.
                let raw = if raw.len() > RECORD_BYTES { json.to_vec() } else { raw };
                return Ok(Input::Hold { at: event.occurred_at, raw });
            }
            (Record::Event(event), Ticks::History { .. }) => {
                let is_new = self.tick.is_none_or(|last| last < event.occurred_at);
                tick = is_new.then(|| *self.tick.insert(event.occurred_at));
            }
            (Record::Event(_), _) | (_, Ticks::Log) => {}
            _ => return Err(ReplayError::LateTick { path: path.to_owned(), line: place.line }),
        }
        if let Some(journal) = &mut self.journal {
            if let Some(tick) = tick {
                journal.push(&tick_record(tick, None));
            }
            self.journaled = journal.push(json);
        }
        Ok(Input::Record { record, tick, bytes: json.len(), held: None })
    }
}

impl Journal for Replay {
    type Error = ReplayError;

    fn next<'a>(&'a mut self, held: &mut HeldEvents<'_>) -> Result<Input<'a>, ReplayError> {
        if self.is_draining {
            // It has been stopped, and is not complete: no tick.
            return if self.is_read { Ok(Input::End) } else { self.read() };
        }
        if self.journal.as_ref().is_some_and(JournalFile::has_tail) {
            return self.recover();
        }
        if let Some(rules) = self.rules.take() {
            return Ok(self.control(rules.to_record(None), Record::rules(rules)));
        }
        if self.has_held {
            return Ok(self.held(held)?.unwrap_or(Input::Idle));
        }
        if let Some(through) = self.clock()? {
            return Ok(self.control(tick_record(through, None), Record::tick(through)));
        }
        if self.is_read { Ok(self.end()) } else { self.read() }
    }

    fn drain(&mut self) -> bool {
        self.is_draining = self.files.drain();
        self.is_draining
    }

    fn position(&mut self, place: Place) -> Vec<u8> {
        let mut files = self.files.position().clone();
        let mut journal = self.journal.as_ref().map_or(0, JournalFile::read);
        if let (Place::Before, Some(at)) = (place, self.place) {
            journal -= self.journaled;
            // A stream has no place among the files: its record is in the journal, and is read from there.
            if let Some(current) = files.files().last().filter(|file| file.fingerprint.path == self.path).cloned() {
                files.set(touchline_ingest::position::FilePosition {
                    offset: at.start,
                    line: at.line,
                    unterminated: None,
                    finished: None,
                    ..current
                });
            }
        }
        let mut out = vec![VERSION];
        out.extend_from_slice(&journal.to_be_bytes());
        files.encode(&mut out);
        out
    }

    fn commit(&mut self, commit: Commit<'_>) -> Result<(), ReplayError> {
        if let Some(journal) = &mut self.journal {
            journal.sync()?;
        }
        commit.store_all(self.durability)?;
        self.bar.set_position(self.files.progress().0);
        Ok(())
    }
}

impl Replay {
    /// What a run that was killed had put into the journal, but not committed.
    fn recover(&mut self) -> Result<Input<'_>, ReplayError> {
        let Some(journal) = &mut self.journal else { return Ok(Input::Idle) };
        self.place = None;
        if !journal.next_of_tail(&mut self.text) {
            return Ok(Input::Idle);
        }
        let record = decode_again(&self.again, &self.text)?;
        if let Record::Tick { through, .. } = &record {
            self.tick = self.tick.max(Some(*through));
        }
        Ok(Input::Record { record, tick: None, bytes: 0, held: None })
    }
}

/// A record that was decoded before.
fn decode_again<'a>(decoder: &Decoder, text: &'a [u8]) -> Result<Record<'a>, ReplayError> {
    match decoder.decode(text, Timestamp::MAX) {
        Ok(Decoded::Record(record)) => Ok(record),
        Ok(Decoded::Internal) => Err(ReplayError::Held("it is of nobody who is tracked".to_owned())),
        Err(reject) => Err(ReplayError::Held(reject.to_string())),
    }
}

/// How much of the journal, and of the files, was processed.
fn decode(position: &[u8]) -> Result<(u64, FilesPosition), CorruptPosition> {
    let other = || FilesPosition::decode(&[]).map(|files| (0, files));
    let Some((&VERSION, rest)) = position.split_first() else { return other() };
    let Some((read, files)) = rest.split_first_chunk() else { return other() };
    Ok((u64::from_be_bytes(*read), FilesPosition::decode(files)?))
}

/// How far a stored position says that files were read.
pub(crate) fn files_of(position: &[u8]) -> Result<FilesPosition, CorruptPosition> {
    decode(position).map(|(_, files)| files)
}
