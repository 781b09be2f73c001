//! Whatever dies, nothing is lost, and no tick is wrong.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use touchline_harness::{Kafka, eventually};

use super::kit::{Corridor, Process, WITHIN, event};

/// What tells [`a_process_to_be_killed`] that it is one.
const CORRIDOR: &str = "TOUCHLINE_TEST_CORRIDOR";

/// Puts events with these ids into a source, spread over its partitions.
fn produce(corridor: &Corridor<'_>, source: &str, partitions: i32, ids: std::ops::Range<usize>) {
    let values: Vec<_> = ids.map(|id| event(source, &id.to_string())).collect();
    let records = values.iter().zip((0..partitions).cycle());
    let records = records.map(|(value, partition)| (Some(partition), None, Some(value.as_bytes())));
    corridor.kafka.produce_all(&corridor.topic(source), records);
}

/// Waits until all these ids are in the log.
#[track_caller]
fn are_all_in(corridor: &Corridor<'_>, ids: usize) {
    eventually(WITHIN, "all events are in", || corridor.log().events().len() == ids);
}

#[test]
fn a_process_that_is_killed_loses_nothing() {
    const IDS: usize = 200_000;
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 4);
    produce(&corridor, "crm", 4, 0..IDS);
    for _ in 0..2 {
        let before = corridor.written();
        let child = spawn(&corridor);
        // More than ticks and rules.
        eventually(WITHIN, "it has written something", || corridor.written() > before + 1_000);
        drop(child);
    }
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    are_all_in(&corridor, IDS);
    let events = corridor.log().events().values().sum::<usize>();
    assert!(events > IDS, "it was killed too late to prove anything");
    corridor.check_honesty(&["crm"]);
    process.stop();

    // What was stopped in order does not repeat anything.
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    assert_eq!(corridor.log().events().values().sum::<usize>(), events);
}

/// Runs ingest until it is killed, where [`spawn`] has started it; as a test it says that it can be found.
#[test]
fn a_process_to_be_killed() {
    let Ok(corridor) = std::env::var(CORRIDOR) else {
        let name = concat!(module_path!(), "::a_process_to_be_killed");
        assert!(name.ends_with(NAME));
        return;
    };
    let (bootstrap, prefix) = corridor.split_once(' ').unwrap();
    // It does not outlive who started it.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    let config = super::kit::config_of(bootstrap, prefix, "a", &["crm"]);
    touchline_ingest::kafka::run(&config, &prometheus::Registry::new(), &stop).unwrap();
}

const NAME: &str = "kafka::faults::a_process_to_be_killed";

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn spawn(corridor: &Corridor<'_>) -> Killed {
    let bootstrap = corridor.kafka.client().get("bootstrap.servers").unwrap().to_owned();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CORRIDOR, format!("{bootstrap} {}", corridor.prefix))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    Killed(child.unwrap())
}

#[test]
fn partitions_move_and_nothing_is_lost() {
    const IDS: usize = 4_000;
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 4);
    let one = Process::start(corridor.config("a", &["crm"]));
    one.is_in_time(&corridor);
    produce(&corridor, "crm", 4, 0..1_000);
    let two = Process::start(corridor.config("b", &["crm"]));
    produce(&corridor, "crm", 4, 1_000..2_000);
    eventually(WITHIN, "the second one reads", || {
        (0..4).for_each(|partition| corridor.produce("crm", partition, "more"));
        two.metric("touchline_ingest_records_total", Some("event")) > Some(0.0)
    });
    produce(&corridor, "crm", 4, 2_000..3_000);
    one.stop();
    produce(&corridor, "crm", 4, 3_000..IDS);
    two.is_in_time(&corridor);
    are_all_in(&corridor, IDS + 1);
    corridor.check_honesty(&["crm"]);
    two.stop();
}

#[test]
fn a_broker_that_goes_and_comes_is_waited_for() {
    let kafka = Kafka::start(&[]);
    let corridor = Corridor::new(&kafka);
    corridor.source("crm", 2);
    produce(&corridor, "crm", 2, 0..1_000);
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    for (round, away) in [(1, Kafka::stop as fn(&Kafka)), (2, Kafka::kill)] {
        produce(&corridor, "crm", 2, round * 1_000..(round + 1) * 1_000);
        away(&kafka);
        eventually(WITHIN, "the clock is seen to stand", || {
            process.metric("touchline_clock_lag_seconds", None).is_some_and(|lag| lag > 10.0)
        });
        kafka.restart();
        process.is_in_time(&corridor);
    }
    kafka.pause();
    std::thread::sleep(Duration::from_secs(3));
    kafka.resume();
    process.is_in_time(&corridor);
    are_all_in(&corridor, 3_000);
    corridor.check_honesty(&["crm"]);
    process.stop();
}

#[test]
fn what_waits_for_a_broker_is_bounded_and_arrives() {
    const IDS: usize = 150_000;
    let kafka = Kafka::start(&[]);
    let corridor = Corridor::new(&kafka);
    corridor.source("crm", 2);
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    produce(&corridor, "crm", 2, 0..IDS);
    process.is_in_time(&corridor);
    are_all_in(&corridor, IDS);
    corridor.check_honesty(&["crm"]);
    process.stop();
}
