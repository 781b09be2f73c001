//! The processor without Kafka, time or chance: workers of several processes, on brokers in memory, with a clock and dice of
//! their own, and everything that goes wrong with both of them. Stores are real. The same seed is the same run.
//!
//! What is published must be what a run without any of that publishes, each of it once; and so must be the states in the end.
//! No worker may give up.

mod brokers;
mod clients;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::Registry;
use proptest::bool::weighted;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as Proptest, RngAlgorithm, TestRng, TestRunner};
use rdkafka::message::OwnedMessage;
use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;
use tempfile::TempDir;
use touchline_core::erasure::ErasureKey;
use touchline_core::keys::table;
use touchline_core::output::Topic;
use touchline_harness::Dice;

use super::active::Active;
use super::clock::{self, simulated};
use super::position::{Position, Stand};
use super::worker::Worker;
use super::{Config, Margin, Shared, Status, Topics as Names, partition_dir};
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::tests::worker::log;
use crate::tests::{memory, rows};
use crate::worker::{Progress, Settings};
use crate::{Store, Topics};
use brokers::{Brokers, Published, message, publish};
use clients::Simulated;

const PARTITIONS: usize = 3;
/// The processes, and their workers.
const PROCESSES: [(&str, usize); 2] = [("a", 2), ("b", 1)];
/// How many of the logs have a record that takes many slices: they are slow.
const CROWDED: f64 = 0.1;
/// Of what goes wrong, as long as it does.
const TURNS: usize = 1_500;
/// Within which all is done once nothing goes wrong any more; or it never is.
const PATIENCE: usize = 20_000;
/// Within which the group comes to rest.
const SETTLED: usize = 500;

struct Process {
    config: Arc<Config>,
    cluster: Arc<Simulated>,
    workers: Vec<Worker<Simulated>>,
    /// Whether it gets no time, and until when.
    sleeps_until: Option<Instant>,
    /// Before which it is not started again.
    down_until: Instant,
}

impl Process {
    fn new(home: &Path, name: &str, threads: usize, brokers: &Arc<Brokers>) -> Process {
        let topic = str::to_owned;
        let config = Config {
            client: rdkafka::ClientConfig::new(),
            prefix: topic("simulated"),
            group: topic("processor"),
            instance: topic(name),
            topics: Names {
                events: topic("events"),
                alerts: topic("alerts"),
                scores: topic("scores"),
                facts: topic("facts"),
                dead_letters: topic("dead_letters"),
            },
            partitions: PARTITIONS as u32,
            dir: home.join(name),
            memory: memory(),
            threads,
            settings: SETTINGS,
            snapshots: None,
            until_end: false,
            from_log_start: false,
        };
        fs::create_dir(&config.dir).unwrap();
        let config = Arc::new(config);
        let cluster = Simulated { brokers: brokers.clone(), config: config.clone() };
        Process {
            config,
            cluster: Arc::new(cluster),
            workers: Vec::new(),
            sleeps_until: None,
            down_until: clock::now(),
        }
    }

    fn start(&mut self) {
        let shared = Arc::new(Shared {
            metrics: Metrics::register(&Registry::new()).unwrap(),
            status: Arc::<Status>::default(),
            uploader: None,
            margin: Arc::<Margin>::default(),
            stores: AtomicUsize::new(0),
            until_end: None,
            total: Mutex::<Progress>::default(),
        });
        let start = |number| Worker::start(self.cluster.clone(), self.config.clone(), shared.clone(), number).unwrap();
        self.workers = (0..self.config.threads).map(start).collect();
        self.sleeps_until = None;
    }

    /// What is not on the disk is lost.
    fn crash(&mut self, dice: &mut Dice) {
        // At once, or beyond its session.
        let down = if dice.one_in(2) { 0 } else { dice.below(20_000) };
        self.down_until = clock::now() + Duration::from_millis(down);
        let after = self.config.dir.with_extension("after");
        fs::create_dir(&after).unwrap();
        for worker in &self.workers {
            for active in worker.active() {
                let db = active.partition.store.db();
                settle(db);
                let to = partition_dir(&after, active.number);
                Checkpoint::new(db).unwrap().create_checkpoint_with_log_size(to, u64::MAX).unwrap();
            }
        }
        // Nobody writes to the others.
        copy(&self.config.dir, &after);
        self.workers.clear();
        fs::remove_dir_all(&self.config.dir).unwrap();
        fs::rename(after, &self.config.dir).unwrap();
    }

    fn drain(&mut self) {
        for worker in self.workers.drain(..) {
            worker.run(&AtomicBool::new(true)).unwrap();
        }
    }
}

const SETTINGS: Settings =
    Settings { commit_interval: Duration::from_millis(100), publish: Topics::ALL, erasures: ErasureKey::NONE };

/// Whatever is being flushed is flushed: chance decides nothing here.
fn settle(db: &DB) {
    let running = ["rocksdb.mem-table-flush-pending", "rocksdb.num-running-flushes", "rocksdb.num-running-compactions"];
    while running.iter().any(|name| db.property_int_value(*name).unwrap().unwrap_or(0) > 0) {
        thread::yield_now();
    }
}

/// Copies what is not there.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if to.exists() {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a state stands, and its rows, but for when it was begun.
fn state(dir: &Path) -> (Position, Rows) {
    let store = Store::open(dir, &memory()).unwrap();
    let mut rows = rows(&store);
    rows.retain(|(key, _)| key[0] < table::STORE);
    let stand = store.position().unwrap().map(|bytes| Stand::decode(&bytes).unwrap());
    (stand.map(|stand| stand.position).unwrap_or_default(), rows)
}

/// A partition alone, all of whose batches are as small as can be.
fn undisturbed(home: &Path, logs: &[BTreeMap<i64, Vec<u8>>]) -> (Published, Vec<Rows>) {
    let mut published = Published::new();
    let mut states = Vec::new();
    for (number, records) in (0..).zip(logs) {
        let dir = home.join(format!("undisturbed{number}"));
        let stand = Stand {
            topic: "events".to_owned(),
            partitions: PARTITIONS as u32,
            generation: 0,
            position: Position::default(),
        };
        let store = Store::open(&dir, &memory()).unwrap();
        let mut active = Active::new(number, Partition::load(store, &SETTINGS).unwrap(), stand);
        for (offset, payload) in records {
            let message = message(number, *offset, payload);
            active.take(&[message], OwnedMessage::clone).unwrap();
            loop {
                active.partition.save();
                publish(&mut published, std::iter::once(&active.partition.outputs));
                active.published();
                if !active.is_busy() {
                    break;
                }
                active.go_on().unwrap();
            }
        }
        active.close(true).unwrap();
        states.push(state(&dir).1);
    }
    (published, states)
}

struct World {
    home: TempDir,
    dice: Dice,
    brokers: Arc<Brokers>,
    processes: Vec<Process>,
    logs: Vec<Arc<Vec<String>>>,
    /// What has been appended of each log.
    appended: [usize; PARTITIONS],
}

impl World {
    fn new(seed: u64) -> World {
        simulated::begin();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Proptest::default(), rng);
        let logs = (0..PARTITIONS).map(|number| {
            let lines = log(weighted(CROWDED)).new_tree(&mut runner).unwrap().current();
            // Each account is of one partition.
            let named = |line: &String| line.replace("\"account\":\"", &format!("\"account\":\"{number}"));
            Arc::new(
                lines.iter().map(named).map(|line| line.replace("\"id\":\"", &format!("\"id\":\"{number}."))).collect(),
            )
        });
        let logs = logs.collect();
        let (home, brokers) = (TempDir::new().unwrap(), Brokers::new(seed, PARTITIONS));
        let processes =
            PROCESSES.iter().map(|(name, threads)| Process::new(home.path(), name, *threads, &brokers)).collect();
        World { home, dice: Dice(!seed), brokers, processes, logs, appended: [0; PARTITIONS] }
    }

    /// One of the workers does something, or something happens to them.
    fn turn(&mut self, is_calm: bool) {
        simulated::pass(Duration::from_millis(self.dice.below(40)));
        self.brokers.state().look();
        self.append();
        let number = self.dice.below(self.processes.len() as u64) as usize;
        let World { dice, brokers, processes, .. } = self;
        let process = &mut processes[number];
        if !is_calm {
            match dice.below(400) {
                0 | 1 => return process.crash(dice),
                2 => return process.drain(),
                3 => process.sleeps_until = Some(clock::now() + Duration::from_millis(dice.below(20_000))),
                4 => brokers.state().go_away(Duration::from_millis(dice.below(20_000))),
                // A disk that was lost while nobody worked on it.
                5 if process.workers.is_empty() => {
                    fs::remove_dir_all(partition_dir(&process.config.dir, dice.below(PARTITIONS as u64) as i32)).ok();
                }
                6..9 => brokers.state().share_out(),
                _ => {}
            }
        }
        if process.workers.is_empty() {
            if is_calm || (clock::now() >= process.down_until && dice.one_in(10)) {
                process.start();
            }
            return;
        }
        if process.sleeps_until.is_some_and(|until| !is_calm && clock::now() < until) {
            return;
        }
        let worker = dice.below(process.workers.len() as u64) as usize;
        process.workers[worker].turn().unwrap();
        let doomed = brokers.state().doomed.take();
        if doomed.is_some_and(|doomed| doomed == process.config.instance) {
            process.crash(dice);
        }
    }

    fn append(&mut self) {
        for (partition, lines) in self.logs.iter().enumerate() {
            let upto = lines.len().min(self.appended[partition] + self.dice.below(3) as usize);
            for line in &lines[self.appended[partition]..upto] {
                self.brokers.state().append(partition, line);
            }
            self.appended[partition] = upto;
        }
    }

    fn is_done(&self) -> bool {
        let is_appended = self.logs.iter().zip(self.appended).all(|(lines, appended)| lines.len() == appended);
        is_appended && self.brokers.state().is_done()
    }
}

/// One run, and what has happened in it.
fn run(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    for _ in 0..TURNS {
        world.turn(false);
    }
    world.brokers.state().is_calm = true;
    let mut turns = 0;
    while !world.is_done() {
        world.turn(true);
        turns += 1;
        assert!(turns < PATIENCE, "it never ends");
    }
    // Whoever has a partition last has all of it.
    for _ in 0..SETTLED {
        world.turn(true);
    }
    for process in &mut world.processes {
        process.drain();
    }
    let mut brokers = world.brokers.state();
    let (published, states) = undisturbed(world.home.path(), &brokers.logs());
    for (number, (calm, end)) in (0..).zip(states.iter().zip(brokers.ends())) {
        let dirs = world.processes.iter().map(|process| partition_dir(&process.config.dir, number));
        let whole =
            dirs.filter(|dir| dir.exists()).map(|dir| state(&dir)).filter(|(position, _)| position.offset >= end);
        let found: Vec<_> = whole.map(|(_, rows)| rows).collect();
        assert!(!found.is_empty(), "nobody has all of partition {number}");
        assert!(found.iter().all(|rows| rows == calm), "the states of partition {number} differ");
    }
    let (mut rough, trace) = (std::mem::take(&mut brokers.published), std::mem::take(&mut brokers.trace));
    drop(brokers);
    for (key, values) in published {
        let found = rough.remove(&key).unwrap_or_default();
        let is_all = if key.0 == Topic::Scores {
            // What changes again before it is published is published once, and never goes back.
            let mut rest = values.iter();
            found.last() == values.last() && found.iter().all(|value| rest.any(|other| other == value))
        } else {
            found == values
        };
        assert!(is_all, "{:?}:\n{}\nin the place of\n{}", key.0, text(&found), text(&values));
    }
    assert!(rough.is_empty(), "nobody else publishes {:?}", rough.keys());
    trace
}

fn text(values: &[Option<Vec<u8>>]) -> String {
    let text = |value: &Option<Vec<u8>>| {
        value.as_ref().map_or("nothing".into(), |value| String::from_utf8_lossy(value).into_owned())
    };
    values.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the seed was {0}: TOUCHLINE_SEED={0} runs it again", self.0);
        }
    }
}

/// Runs of these seeds, on all cores.
fn run_all(seeds: std::ops::Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
                    let _seed = Seed(seed);
                    run(seed);
                }
            });
        }
    });
}

/// In every test run; more with `TOUCHLINE_SEEDS`.
const SEEDS: u64 = 300;

#[test]
fn whatever_happens_to_workers_and_brokers_each_output_is_published_once() {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    match number("TOUCHLINE_SEED") {
        Some(seed) => run_all(seed..seed + 1),
        None => run_all(0..number("TOUCHLINE_SEEDS").unwrap_or(SEEDS)),
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, other) = (run(7), run(7));
    assert!(one.len() > 20 && one == other, "{one:#?}\n{other:#?}");
}
