//! `make bench`: what the processor costs on a real Kafka, beside what reading and writing alone cost there.
//!
//! A broker is started on this machine, and the even load of `stages` stands in its topic of events before anything is
//! measured: lz4, keyed by account, with a tick a day in each of four partitions. Nothing is asserted on time; but each row
//! that has not read all of it, or not found the lapses, fails.
//!
//! `cargo bench --bench kafka -- [CONTACTS:EVENTS]… [ROW]…` measures other loads, or only some rows; without, ten minutes on
//! two cores.

#[path = "../common/mod.rs"]
mod common;

mod ceiling;
mod job;
mod log;

use std::path::Path;

use anyhow::{Result, ensure};
use touchline_harness::Kafka;

use common::load::{EVEN, Load, Shape};
use common::{Asked, Figures, Measured, Table, asked};

/// As many as the peers read from.
const PARTITIONS: i32 = 4;
/// As `touchline` makes it; but with retention the load would go, since what happens in it is old.
const LOG: [(&str, &str); 2] = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Row {
    Null,
    Parse,
    Produce,
    Process,
    Restore,
    Restart,
}

impl Measured for Row {
    const ALL: &[Row] = &[Row::Null, Row::Parse, Row::Produce, Row::Process, Row::Restore, Row::Restart];

    fn name(self) -> &'static str {
        match self {
            Row::Null => "null",
            Row::Parse => "parse",
            Row::Produce => "produce",
            Row::Process => "process",
            Row::Restore => "restore",
            Row::Restart => "restart",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Row::Null => "null consumer",
            Row::Parse => "+ parse",
            Row::Produce => "null + two records out, exactly once",
            Row::Process => "process: alerts, scores",
            Row::Restore => "its state, from a snapshot",
            Row::Restart => "process, killed half-way: the second run",
        }
    }

    fn run(self, config: &Path) -> Result<Figures> {
        match self {
            Row::Null => ceiling::null(config),
            Row::Parse => ceiling::parse(config),
            Row::Produce => ceiling::produce(config),
            Row::Process => job::process(config),
            Row::Restore => job::restore(config),
            Row::Restart => job::restart(config),
        }
    }
}

fn main() -> Result<()> {
    let Some(Asked { loads, rows }) = asked::<Row>()? else { return Ok(()) };
    let loads = if loads.is_empty() { &EVEN[..] } else { &loads };
    loads.iter().try_for_each(|load| measure(*load, &rows))
}

fn measure(load: Load, rows: &[Row]) -> Result<()> {
    ensure!(load.shape == Shape::Even, "without ticks of its own a load tells nothing on Kafka: only even has them");
    let dir = tempfile::Builder::new().prefix("bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let kafka = Kafka::start(&[]);
    let config = job::configure(dir.path(), kafka.bootstrap())?;
    for (topic, settings) in [(job::EVENTS, &LOG[..]), (ceiling::OUTPUTS[0], &[]), (ceiling::OUTPUTS[1], &[])] {
        kafka.create_topic(topic, PARTITIONS, settings);
    }
    let file = dir.path().join("load.jsonl");
    let bytes = load.write(&file)?;
    log::fill(kafka.bootstrap(), &file)?;
    let mut table = Table::new(load, bytes, &config);
    // Its state is restored, and its alerts are what the one that was killed is held to.
    let needs_process = rows.iter().any(|row| matches!(row, Row::Restore | Row::Restart));
    for row in Row::ALL {
        if rows.contains(row) || (*row == Row::Process && needs_process) {
            let done = table.measure(*row)?;
            // The second run alone need not read what the first had read.
            let is_whole = *row == Row::Restart || done.events >= load.events;
            ensure!(is_whole, "{}: {} of {} events were read", row.title(), done.events, load.events);
        }
    }
    Ok(())
}
