//! What all tables have in common: a row is measured in a process of its own, which is the bench itself again, told which.
//! So CPU seconds, those of librdkafka's and RocksDB's threads included, and the peak of memory are nobody else's.

pub mod load;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use touchline::report::grouped;
use touchline::report::resources::{self, Used};

use load::Load;

/// Before a row's name and a file: what a child is to do.
const CHILD: &str = "--row";

/// The rows of a table.
pub trait Measured: Copy + PartialEq + 'static {
    /// From the ceiling down.
    const ALL: &[Self];

    /// What people type.
    fn name(self) -> &'static str;

    /// What they read.
    fn title(self) -> &'static str;

    /// Does it, in a process of its own; `file` is what the bench has prepared for all rows.
    fn run(self, file: &Path) -> Result<Figures>;
}

/// What a row has used. The names are those that `touchline … --json` prints.
#[derive(Serialize, Deserialize)]
pub struct Figures {
    pub events: u64,
    pub cpu_s: f64,
    pub wall_s: f64,
    pub max_rss_mb: f64,
    /// Lapses opened, which must be the same in all rows that look for all of them.
    pub alerts: u64,
    /// What else there is to say of it.
    #[serde(default)]
    pub note: String,
}

/// What somebody has typed behind `--`.
pub struct Asked<R> {
    pub loads: Vec<Load>,
    pub rows: Vec<R>,
}

/// Reads the command line. In a child there is nothing else to do: it prints its figures, and this is `None`.
pub fn asked<R: Measured>() -> Result<Option<Asked<R>>> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let row = |name: &str| R::ALL.iter().copied().find(|row| row.name() == name);
    if let [flag, name, file] = &args[..]
        && flag == CHILD
    {
        let figures = row(name).context("no such row")?.run(Path::new(file))?;
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(None);
    }
    let mut asked = Asked { loads: Vec::new(), rows: Vec::new() };
    for arg in &args {
        match (Load::from_text(arg), row(arg)) {
            (Some(load), _) => asked.loads.push(load),
            (None, Some(row)) => asked.rows.push(row),
            (None, None) => {
                let names: Vec<_> = R::ALL.iter().map(|row| row.name()).collect();
                bail!("{arg} is neither a load, such as even:200000:1000000, nor a row: {}", names.join(", "))
            }
        }
    }
    if asked.rows.is_empty() {
        asked.rows = R::ALL.to_vec();
    }
    Ok(Some(asked))
}

/// A table, printed row by row as they are known. The first row is the ceiling, of which the others reach a share.
pub struct Table {
    file: PathBuf,
    ceiling: Option<f64>,
}

impl Table {
    /// Prints the heading. Each row is given the file.
    pub fn new(load: Load, bytes: u64, file: &Path) -> Table {
        let (title, events, contacts) = (load.title(), grouped(load.events), grouped(load.contacts));
        println!("\n{title}: {events} events of {contacts} contacts, {} bytes each\n", bytes / load.events);
        println!(
            "{:<42}{:>9}{:>14}{:>9}{:>9}{:>9}{:>10}",
            "", "CPU s", "events/CPU s", "share", "wall s", "peak MB", "lapses"
        );
        Table { file: file.to_owned(), ceiling: None }
    }

    /// Measures a row, and prints it.
    pub fn measure<R: Measured>(&mut self, row: R) -> Result<Figures> {
        let mut command = Command::new(std::env::current_exe()?);
        let done = figures(command.args([CHILD, row.name()]).arg(&self.file)).with_context(|| row.title())?;
        let rate = done.events as f64 / done.cpu_s;
        let share = 100.0 * rate / *self.ceiling.get_or_insert(rate);
        println!(
            "{:<42}{:>9.2}{:>14}{share:>8.1}%{:>9.1}{:>9.0}{:>10}",
            row.title(),
            done.cpu_s,
            grouped(rate as u64),
            done.wall_s,
            done.max_rss_mb,
            grouped(done.alerts),
        );
        if !done.note.is_empty() {
            println!("    {}", done.note);
        }
        Ok(done)
    }
}

/// Runs a command that prints its figures.
pub fn figures(command: &mut Command) -> Result<Figures> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("it printed no figures")
}

/// What this process has used so far.
pub fn used() -> Result<Used> {
    resources::used().context("this system has no /proc to tell what a process uses")
}
