//! `touchline process` on the whole topic, its state restored, and the same job killed half-way and started again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use touchline::config::{self, Config};
use touchline::process;
use touchline::report::grouped;
use touchline_processor::kafka::{Stand, partition_dir};
use touchline_processor::{MEMORY_MIN, Memory, Store};

use crate::common::{Figures, figures, used};
use crate::{PARTITIONS, log};

/// What all of them read.
pub const EVENTS: &str = "bench.events";
/// How often it is looked how far the group has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Before it is started again: what it had on its way to the broker takes effect by then.
const SETTLE: Duration = Duration::from_secs(1);
/// A row that takes longer does not work.
const DEADLINE: Duration = Duration::from_secs(3_600);
const BYTES_A_MB: f64 = 1_048_576.0;

/// Beside the configuration of the job: the same with snapshots of its state,
const COPIED: &str = "copied.toml";
/// with those snapshots and another place for the state,
const RESTORED: &str = "restored.toml";
/// and the job once more, as if nobody had done it.
const AGAIN: &str = "again.toml";

/// Writes the configurations; returns the path of the job's. Other systems have no facts, so there are none.
pub fn configure(dir: &Path, bootstrap: &str) -> Result<PathBuf> {
    let here = dir.display();
    let copies = format!("file://{here}/copies");
    let configs = [
        ("job.toml", "job", "state", "none"),
        (COPIED, "job", "state", &copies),
        (RESTORED, "job", "restored", &copies),
        (AGAIN, "again", "state-again", "none"),
    ];
    for (name, prefix, state, snapshots) in configs {
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n\
             [topics]\nprefix = \"{prefix}\"\nevents = \"{EVENTS}\"\npartitions = {PARTITIONS}\n\
             [processor]\nthreads = 2\npublish = [\"alerts\", \"scores\"]\n\
             [state]\ndir = \"{here}/{state}\"\n[snapshots]\nurl = \"{snapshots}\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(dir.join(name), config)?;
    }
    Ok(dir.join("job.toml"))
}

fn touchline(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_touchline"));
    command.args(args).arg("--config").arg(config).env("TOUCHLINE_LOG", "error");
    command
}

/// The command itself.
pub fn process(config: &Path) -> Result<Figures> {
    let done = figures(&mut touchline(&["process", "--until-end", "--json"], config))?;
    ensure!(done.alerts > 0, "no lapse was found");
    Ok(done)
}

/// What `touchline state restore` does, and `process` where a partition's directory is missing, with its state. Unlike in
/// the other rows, starting the process is no part of it: it would be half of it.
pub fn restore(job: &Path) -> Result<Figures> {
    let saved = touchline(&["state", "snapshot"], &job.with_file_name(COPIED)).output()?;
    ensure!(saved.status.success(), "no snapshot was made: {}", String::from_utf8_lossy(&saved.stderr));
    let config = config::load(&job.with_file_name(RESTORED))?;
    let snapshots = process::snapshots(&config)?.context("there are no snapshots")?.snapshots;
    fs::create_dir_all(&config.state.dir)?;
    let (before, begun) = (used()?, Instant::now());
    let (mut bytes, mut offsets) = (0, BTreeMap::new());
    for partition in 0..PARTITIONS {
        let path = partition_dir(&config.state.dir, partition);
        let wanted = |_: &_| ControlFlow::Continue(());
        let restored = snapshots.restore(u32::try_from(partition)?, &path, |_| true, wanted)?;
        let restored = restored.with_context(|| format!("there is no snapshot of partition {partition}"))?;
        bytes += restored.bytes;
        offsets.insert(partition, Stand::decode(&restored.position)?.position.offset);
    }
    let (wall_s, after) = (begun.elapsed().as_secs_f64(), used()?);
    let ends = log::ends(&log::observer(&config)?)?;
    ensure!(offsets == ends, "the log ends at {ends:?}, and what was restored stands at {offsets:?}");
    let (events, cpu_s, megabytes) = (total(&offsets), after.cpu_s - before.cpu_s, bytes as f64 / BYTES_A_MB);
    let note = format!("{megabytes:.0} MB, {:.0} MB/s", megabytes / wall_s);
    Ok(Figures { events, cpu_s, wall_s, max_rss_mb: after.max_rss_mb, alerts: 0, note })
}

/// Kills the job half-way, as the system does when memory is short, and starts it again. How far it has come is what
/// everybody sees who asks the broker: the offsets of its group, committed with its outputs.
pub fn restart(job: &Path) -> Result<Figures> {
    let path = job.with_file_name(AGAIN);
    let config = config::load(&path)?;
    let group = log::observer(&config)?;
    let ends = log::ends(&group)?;
    let mut first = Process(touchline(&["process"], &path).spawn()?);
    first.until(|| Ok(total(&log::committed(&group)?) >= total(&ends) / 2))?;
    first.0.kill()?;
    first.0.wait()?;
    thread::sleep(SETTLE);
    let killed = log::committed(&group)?;
    ensure!(killed != ends, "it was done before it could be killed: give it more events");
    let again = again(&config, &killed)?;

    let begun = Instant::now();
    let command = &mut touchline(&["process", "--until-end", "--json"], &path);
    let mut second = Process(command.stdout(Stdio::piped()).spawn()?);
    // A partition that was done has nowhere to go.
    let open: Vec<_> = killed.iter().filter(|(partition, offset)| ends[partition] > **offset).collect();
    second.until(|| {
        let committed = log::committed(&group)?;
        Ok(open.iter().any(|(partition, offset)| committed[partition] > **offset))
    })?;
    let one = begun.elapsed().as_secs_f64();
    second.until(|| {
        let committed = log::committed(&group)?;
        Ok(open.iter().all(|(partition, offset)| committed[partition] > **offset))
    })?;
    let all = begun.elapsed().as_secs_f64();
    let mut done: Figures = serde_json::from_slice(&second.output()?).context("it printed no figures")?;

    ensure!(log::committed(&group)? == ends, "the second run ended before the log");
    let expected = log::count(&config, &config::load(job)?.topics.alerts)?;
    let found = log::count(&config, &config.topics.alerts)?;
    ensure!(found == expected, "{found} changes of alerts were published, and {expected} by one run");
    done.note = format!(
        "the first commit after {one:.1} s, every partition beyond where it was after {all:.1} s; {} records applied again",
        grouped(again)
    );
    Ok(done)
}

/// How many records of what has been committed the states on the disk do not have.
fn again(config: &Config, committed: &BTreeMap<i32, i64>) -> Result<u64> {
    let memory = Memory::new(MEMORY_MIN, 1);
    let mut again = 0;
    for (partition, committed) in committed {
        let store = Store::open_read_only(&partition_dir(&config.state.dir, *partition), &memory)?;
        let stand = store.position()?.map(|position| Stand::decode(&position)).transpose()?;
        again += committed.abs_diff(stand.map_or(0, |stand| stand.position.offset));
    }
    Ok(again)
}

fn total(offsets: &BTreeMap<i32, i64>) -> u64 {
    offsets.values().map(|offset| offset.unsigned_abs()).sum()
}

/// A process that does not outlive the bench: without its broker it would wait for ever.
struct Process(Child);

impl Process {
    /// Waits until this is so, as long as the process runs.
    fn until(&mut self, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        loop {
            // Asked first, since its last deed may be what is waited for.
            let ended = self.0.try_wait()?;
            if is_so()? {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("touchline process has ended too soon: {status}");
            }
            ensure!(begun.elapsed() < DEADLINE, "touchline process has got nowhere in {DEADLINE:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// What it has printed at its end.
    fn output(&mut self) -> Result<Vec<u8>> {
        let mut output = Vec::new();
        self.0.stdout.take().context("its output is not read")?.read_to_end(&mut output)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "touchline process has failed: {status}");
        Ok(output)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
