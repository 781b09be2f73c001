//! The stages, each measured by itself.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use touchline::config::Config;
use touchline_core::erasure::ErasureKey;
use touchline_core::event::Reject;
use touchline_core::output::{Outputs, Topic};
use touchline_core::record::Record;
use touchline_core::state::Memory;
use touchline_core::step::{Machine, Step};
use touchline_ingest::lines::{Framed, Framing, Lines};
use touchline_processor::{
    Commit, Durability, HeldEvents, Input, Journal, Place, Settings, StoreError, Topics, Worker,
};

use crate::common::load::each_line;
use crate::common::{Figures, Measured, figures, used};

/// As the processor's default.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// The state is written once for so many commits, if memory does not ask for it before: ten seconds' at the
/// most, as the processor's.
const COMMITS: u64 = 100;
/// Text that is parsed before the core alone is measured on it: so much that the clock's grain does not count.
const CHUNK_BYTES: usize = 64 << 20;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Read,
    Parse,
    Core,
    Store,
    StoreFacts,
    Replay,
}

impl Measured for Stage {
    const ALL: &[Stage] = &[Stage::Read, Stage::Parse, Stage::Core, Stage::Store, Stage::StoreFacts, Stage::Replay];

    fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Parse => "parse",
            Stage::Core => "core",
            Stage::Store => "store",
            Stage::StoreFacts => "store-facts",
            Stage::Replay => "replay",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Stage::Read => "read lines",
            Stage::Parse => "+ parse",
            Stage::Core => "core alone: alerts, scores",
            Stage::Store => "+ parse + RocksDB: alerts, scores",
            Stage::StoreFacts => "+ parse + RocksDB: alerts, scores, facts",
            Stage::Replay => "replay: all of it, outbox and files",
        }
    }

    /// Takes the whole file through the stage.
    fn run(self, file: &Path) -> Result<Figures> {
        let mut meter = Meter::default();
        let (events, alerts) = match self {
            Stage::Read => meter.measure(|| each_line(file, |_| Ok(())).map(|lines| (lines, 0)))?,
            Stage::Parse => meter.measure(|| parse(file).map(|lines| (lines, 0)))?,
            Stage::Core => core_alone(file, &mut meter)?,
            Stage::Store => meter.measure(|| in_store(file, scores()))?,
            Stage::StoreFacts => meter.measure(|| in_store(file, Topics::ALL))?,
            Stage::Replay => return replay(file),
        };
        let (cpu_s, wall_s, max_rss_mb) = (meter.cpu_s, meter.wall.as_secs_f64(), used()?.max_rss_mb);
        Ok(Figures { events, cpu_s, wall_s, max_rss_mb, alerts, note: String::new() })
    }
}

/// What a stage has used so far.
#[derive(Default)]
struct Meter {
    cpu_s: f64,
    wall: Duration,
}

impl Meter {
    fn measure<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (before, started) = (used()?, Instant::now());
        let done = work();
        self.wall += started.elapsed();
        self.cpu_s += used()?.cpu_s - before.cpu_s;
        done
    }
}

/// What other systems publish in the same job.
fn scores() -> Topics {
    [Topic::Alerts, Topic::Scores].into_iter().collect()
}

fn parse(file: &Path) -> Result<u64> {
    each_line(file, |line| {
        std::hint::black_box(Record::parse(line, &TimeZone::UTC)?);
        Ok(())
    })
}

/// Parses a part of the file, measures the core on it, and so on.
fn core_alone(file: &Path, meter: &mut Meter) -> Result<(u64, u64)> {
    let (mut core, mut chunk, mut ends) = (Core::default(), Vec::with_capacity(CHUNK_BYTES), Vec::new());
    let mut work = |chunk: &mut Vec<u8>, ends: &mut Vec<usize>| -> Result<()> {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let lines = starts.zip(ends.iter()).map(|(start, end)| &chunk[start..*end]);
        let records: Vec<_> = lines.map(|line| Record::parse(line, &TimeZone::UTC)).collect::<Result<_, _>>()?;
        meter.measure(|| records.iter().try_for_each(|record| core.take(record)))?;
        drop(records);
        chunk.clear();
        ends.clear();
        Ok(())
    };
    each_line(file, |line| {
        chunk.extend_from_slice(line);
        ends.push(chunk.len());
        if chunk.len() < CHUNK_BYTES { Ok(()) } else { work(&mut chunk, &mut ends) }
    })?;
    work(&mut chunk, &mut ends)?;
    core.finish()
}

/// The state machine on a state in memory.
#[derive(Default)]
struct Core {
    machine: Machine,
    state: Memory,
    ticks: Ticks,
    published: Published,
    records: u64,
}

impl Core {
    fn take(&mut self, record: &Record<'_>) -> Result<()> {
        if let Some(tick) = self.ticks.before(record) {
            self.apply(&Record::tick(tick))?;
        }
        self.apply(record)?;
        self.records += 1;
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<()> {
        let mut step = self.machine.apply(record, &mut self.state, &mut self.published)?;
        while step == Step::More {
            step = self.machine.resume(&mut self.state, &mut self.published)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(u64, u64)> {
        std::hint::black_box(self.published.records);
        // The system takes the memory back at once; going through all of it is no part of the work.
        std::mem::forget(self.state);
        Ok((self.records, self.machine.counts().opened))
    }
}

/// Counts what is published, and drops it.
#[derive(Default)]
struct Published {
    records: u64,
}

impl Outputs for Published {
    fn wants(&self, topic: Topic) -> bool {
        scores().contains(topic)
    }

    fn publish(&mut self, _topic: Topic, key: &[u8], value: Option<&[u8]>) {
        std::hint::black_box((key, value));
        self.records += 1;
    }
}

/// Ticks where `replay` puts them: before each event whose time is a new greatest, unless the log has ticks of its own.
#[derive(Default)]
struct Ticks {
    last: Option<Timestamp>,
    has_own: bool,
}

impl Ticks {
    fn before(&mut self, record: &Record<'_>) -> Option<Timestamp> {
        let Record::Event(event) = record else {
            self.has_own = true;
            return None;
        };
        let is_new = !self.has_own && self.last.is_none_or(|tick| tick < event.occurred_at);
        is_new.then(|| *self.last.insert(event.occurred_at))
    }
}

/// The worker on a store as it runs behind Kafka: nothing is logged, and outputs go elsewhere (here: nowhere).
fn in_store(file: &Path, publish: Topics) -> Result<(u64, u64)> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = touchline::pipeline::open(&dir.path().join("state"), Config::default().state.memory)?;
    let log = Log {
        lines: Lines::new(File::open(file)?, Framing::Lines, 0, 1),
        ticks: Ticks::default(),
        read: 0,
        commits: 0,
    };
    let settings = Settings { commit_interval: COMMIT_INTERVAL, publish, erasures: ErasureKey::NONE };
    let mut worker = Worker::new(log, store, settings)?;
    let (mut events, mut opened) = (0, 0);
    worker.run(&AtomicBool::new(false), |batch| {
        events += batch.events;
        opened += batch.opened;
    })?;
    worker.store().flush()?;
    Ok((events, opened))
}

/// A log that is a file, with a tick before each new greatest time.
struct Log {
    lines: Lines<File>,
    ticks: Ticks,
    read: u64,
    commits: u64,
}

#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Reject(#[from] Reject),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Journal for Log {
    type Error = LogError;

    fn next<'a>(&'a mut self, _held: &mut HeldEvents<'_>) -> Result<Input<'a>, LogError> {
        let Framed::Record(place) = self.lines.next(&mut 0)? else { return Ok(Input::End) };
        self.read = place.end;
        let bytes = self.lines.bytes();
        let record = Record::parse(bytes, &TimeZone::UTC)?;
        let tick = self.ticks.before(&record);
        Ok(Input::Record { record, tick, bytes: bytes.len(), held: None })
    }

    fn position(&mut self, _place: Place) -> Vec<u8> {
        self.read.to_be_bytes().to_vec()
    }

    fn commit(&mut self, commit: Commit<'_>) -> Result<(), LogError> {
        std::hint::black_box(commit.outputs().len());
        self.commits += 1;
        if commit.is_due() || self.commits.is_multiple_of(COMMITS) {
            commit.store(Durability::Unlogged)?
        }
        Ok(())
    }
}

/// The command itself.
fn replay(file: &Path) -> Result<Figures> {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_touchline"));
    figures(command.arg("replay").arg(file).args(["--json", "--out"]).arg(out.path()))
}
