//! `touchline state`: a look into a state directory.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use touchline_ingest::FilesPosition;
use touchline_processor::{MEMORY_MIN, Memory, Store};

use crate::cli::Usage;
use crate::replay;

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
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Inspect { dir } => inspect(&dir),
        Command::Verify { dir } => verify(&dir),
    }
}

fn open(dir: &Path) -> Result<Store> {
    let path = replay::partition(dir);
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
    let position = stats.position.as_deref().map(replay::files_of).transpose()?.unwrap_or_default();
    write_files(&mut out, &position)?;
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
