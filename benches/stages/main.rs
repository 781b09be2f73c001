//! `make bench`: what each stage costs, beside what the stages below it reach.
//!
//! Load is generated, the same each time. Every stage then runs in a process of its own (this one again, told which), so
//! that its CPU seconds, those of RocksDB's threads included, and its peak of memory are nobody else's. Nothing is asserted:
//! machines differ, and a table on the same machine before and after a change tells more than a limit.
//!
//! `cargo bench --bench stages -- [SHAPE:CONTACTS:EVENTS]… [STAGE]…` measures other loads, or only some stages:
//! `real:2000000:10000000 replay` is the one that shows, for half an hour, that memory stays within `[state] memory` and
//! half a gigabyte.

mod load;
mod stage;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use touchline::report::grouped;

use load::{Load, Shape};
use stage::{Figures, Stage};

/// A state that fits into memory, and one that does not: where a design shows what it is worth.
const LOADS: [Load; 4] = [
    Load { shape: Shape::Even, contacts: 200_000, events: 3_000_000 },
    Load { shape: Shape::Even, contacts: 2_000_000, events: 4_000_000 },
    Load { shape: Shape::Real, contacts: 200_000, events: 1_000_000 },
    Load { shape: Shape::Real, contacts: 2_000_000, events: 2_000_000 },
];
/// Before a stage's name and a file: what a child is to do.
const CHILD: &str = "--stage";

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [flag, stage, file] = &args[..]
        && flag == CHILD
    {
        let stage = Stage::from_name(stage).context("no such stage")?;
        println!("{}", serde_json::to_string(&stage.run(Path::new(file))?)?);
        return Ok(());
    }
    let (mut loads, mut stages) = (Vec::new(), Vec::new());
    for arg in &args {
        match (Load::from_text(arg), Stage::from_name(arg)) {
            (Some(load), _) => loads.push(load),
            (None, Some(stage)) => stages.push(stage),
            (None, None) => {
                bail!("{arg} is neither a load, such as real:200000:2000000, nor a stage: {}", Stage::names())
            }
        }
    }
    for load in if loads.is_empty() { &LOADS[..] } else { &loads } {
        measure(*load, if stages.is_empty() { &Stage::ALL } else { &stages })?;
    }
    Ok(())
}

/// Measures stages under one load, and prints a row for each as soon as it is known.
fn measure(load: Load, stages: &[Stage]) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let file = dir.path().join("load.jsonl");
    let bytes = load.write(&file)? / load.events;
    println!(
        "\n{}: {} events of {} contacts, {bytes} bytes each\n",
        load.title(),
        grouped(load.events),
        grouped(load.contacts)
    );
    println!(
        "{:<42}{:>9}{:>12}{:>9}{:>9}{:>9}{:>10}",
        "", "CPU s", "events/CPU s", "share", "wall s", "peak MB", "lapses"
    );
    let mut ceiling = None;
    for stage in stages {
        let figures = run_child(*stage, &file)?;
        let rate = figures.events as f64 / figures.cpu_s;
        let ceiling = *ceiling.get_or_insert(rate);
        println!(
            "{:<42}{:>9.2}{:>12}{:>8.1}%{:>9.1}{:>9.0}{:>10}",
            stage.title(),
            figures.cpu_s,
            grouped(rate as u64),
            100.0 * rate / ceiling,
            figures.wall_s,
            figures.max_rss_mb,
            grouped(figures.alerts),
        );
    }
    Ok(())
}

fn run_child(stage: Stage, file: &Path) -> Result<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args([CHILD, stage.name()]).arg(file).output()?;
    if !output.status.success() {
        bail!("stage {} failed: {}", stage.name(), String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("stage {} printed no figures", stage.name()))
}
