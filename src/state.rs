//! `touchline state`: a look into a state directory.

use std::fs;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use touchline_core::step::Machine;
use touchline_ingest::FilesPosition;
use touchline_processor::kafka::{self, Instance, Stand};
use touchline_processor::{MEMORY_MIN, Memory, RestoreProgress, Snapshots, Stamp, Store};
use tracing::warn;

use crate::cli::{Misconfigured, Usage};
use crate::config::{self, Config};
use crate::{process, replay, signals, telemetry};

/// How often a stop is looked for.
const STOP_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What a state holds, table by table, and how far it has read
    Inspect {
        /// The state directory
        dir: PathBuf,
    },
    /// Look at every row: checksums, keys, records, timers
    Verify {
        /// The state directory
        dir: PathBuf,
    },
    /// Copy the states of a process that is not running to [snapshots]
    Snapshot(PartitionArgs),
    /// Bring states that are missing back from [snapshots], as `process` does by itself
    Restore(PartitionArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PartitionArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// Only this one
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Inspect { dir } => inspect(&dir),
        Command::Verify { dir } => verify(&dir),
        Command::Snapshot(args) => snapshot(&args),
        Command::Restore(args) => restore(&args),
    }
}

fn open(dir: &Path) -> Result<Store> {
    // Of a directory with many partitions, the first; or the one that is named.
    let path = if dir.join("CURRENT").exists() { dir.to_owned() } else { replay::partition(dir) };
    if !path.is_dir() {
        return Err(Usage(format!(
            "there is no state in {}: name a directory that a run was given as --state",
            dir.display()
        ))
        .into());
    }
    Store::open_read_only(&path, &Memory::new(MEMORY_MIN, 1))
        .with_context(|| format!("{} cannot be opened", dir.display()))
}

fn inspect(dir: &Path) -> Result<ExitCode> {
    let stats = open(dir)?.stats()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{:<24}{:>14}{:>16}{:>16}", "table", "rows", "bytes", "on disk")?;
    for table in &stats.tables {
        writeln!(out, "{:<24}{:>14}{:>16}{:>16}", table.name, table.rows, table.bytes, table.disk_bytes)?;
    }
    match stats.last_tick {
        Some(tick) => writeln!(out, "last tick: {tick}")?,
        None => writeln!(out, "last tick: none")?,
    }
    if stats.is_unfinished {
        writeln!(out, "a tick or rules record is not finished; the next run finishes it first")?;
    }
    writeln!(out, "outbox: sequences {} to {}", stats.outbox_floor, stats.outbox_end)?;
    match stats.position.as_deref().map(|position| (Stand::decode(position), position)) {
        Some((Ok(Stand { topic, position, .. }), _)) => writeln!(out, "read: {topic} to offset {}", position.offset)?,
        Some((Err(_), position)) => write_files(&mut out, &replay::files_of(position)?)?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The snapshots that a configuration names, and the partitions that were asked for.
fn asked(args: &PartitionArgs) -> Result<(Config, Snapshots, Range<u32>)> {
    let config = config::load(&args.config)?;
    let Some(plan) = process::snapshots(&config)? else {
        return Err(Misconfigured("[snapshots] names no place: say where copies of the state go".to_owned()).into());
    };
    let all = 0..config.topics.partitions;
    let partitions = match args.partition {
        Some(partition) if all.contains(&partition) => partition..partition + 1,
        Some(partition) => {
            return Err(
                Usage(format!("there is no partition {partition}: there are {}", config.topics.partitions)).into()
            );
        }
        None => all,
    };
    Ok((config, plan.snapshots, partitions))
}

fn snapshot(args: &PartitionArgs) -> Result<ExitCode> {
    let (config, snapshots, partitions) = asked(args)?;
    // Nobody else works here meanwhile, and what is left over by who was killed is nobody's.
    let _held = Instance::take(&config.state.dir, process::INSTANCE)?;
    let checkpoints = Leftovers(kafka::checkpoints_dir(&config.state.dir));
    checkpoints.remove()?;
    checkpoints.remove_when(signals::stop()?)?;
    let mut out = io::stdout().lock();
    for partition in partitions {
        let path = kafka::partition_dir(&config.state.dir, i32::try_from(partition)?);
        if !path.is_dir() {
            continue;
        }
        let mut store = Store::open(&path, &Memory::new(MEMORY_MIN, 1))?;
        let Some(position) = store.position()? else { continue };
        let stand = Stand::decode(&position).with_context(|| format!("{}", path.display()))?;
        let offset = u64::try_from(stand.position.offset)?;
        let last_tick = Machine::load(&mut store)?.last_tick();
        let stamp = Stamp { partition, generation: stand.generation, offset, last_tick };
        let checkpoint = store.checkpoint(&checkpoints.0.join(partition.to_string()), stamp)?;
        let saved = snapshots.save(&checkpoint)?;
        writeln!(
            out,
            "partition {partition}: offset {offset}, {} bytes, {} of them new",
            saved.bytes, saved.uploaded_bytes
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of checkpoints, which goes with the command however it ends. A kill that nobody sees leaves it to the next.
struct Leftovers(PathBuf);

impl Leftovers {
    fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    /// An upload cannot be asked to stop, and loses nothing if the process ends.
    fn remove_when(&self, stop: Arc<AtomicBool>) -> Result<()> {
        let directory = Leftovers(self.0.clone());
        let watch = move || {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(STOP_POLL);
            }
            drop(directory);
            signals::exit();
        };
        thread::Builder::new().name("stop".to_owned()).spawn(watch)?;
        Ok(())
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            warn!("{error:#}: remove it, it holds disk space");
        }
    }
}

fn restore(args: &PartitionArgs) -> Result<ExitCode> {
    let (config, snapshots, partitions) = asked(args)?;
    let mut out = io::stdout().lock();
    for partition in partitions {
        let path = kafka::partition_dir(&config.state.dir, i32::try_from(partition)?);
        if path.exists() {
            writeln!(out, "partition {partition}: {} is there already", path.display())?;
            continue;
        }
        fs::create_dir_all(&config.state.dir)?;
        let bar = telemetry::bar(Some(0), "bytes", false);
        let progress = |progress: &RestoreProgress| {
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
            bar.set_message(progress.waits_for.clone().unwrap_or_else(|| format!("partition {partition}")));
            ControlFlow::Continue(())
        };
        let restored = snapshots.restore(partition, &path, |_| true, progress);
        bar.finish_and_clear();
        match restored? {
            Some(restored) => {
                let (offset, bytes) = (restored.listed.offset, restored.bytes);
                writeln!(out, "partition {partition}: offset {offset}, {bytes} bytes")?;
            }
            None => writeln!(out, "partition {partition}: there is no snapshot")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_files(out: &mut impl Write, position: &FilesPosition) -> io::Result<()> {
    for file in position.files() {
        let end = if file.finished.is_some() { ", its end" } else { "" };
        writeln!(out, "read: {} to byte {}{end}", file.fingerprint.path.display(), file.offset)?;
    }
    Ok(())
}

fn verify(dir: &Path) -> Result<ExitCode> {
    let verification = open(dir)?.verify()?;
    let mut out = io::stdout().lock();
    for problem in &verification.problems {
        writeln!(out, "{problem}")?;
    }
    if verification.problems_total == 0 {
        writeln!(out, "{} rows, all as they should be", verification.rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!(
        "{} of {} rows are not as they should be; replay the input into a new state directory",
        verification.problems_total,
        verification.rows
    )
}
