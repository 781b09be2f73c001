//! The processor between real topics: the same answer as `replay`, however it is spread, stopped and killed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use touchline_harness::{Kafka, eventually};

use crate::community::{self, AS_OF};
use crate::harness::{DEADLINE, Place};
use crate::oracle::Answer;

/// A deployment of its own, on the broker that all share or on another.
pub struct Deployment<'k> {
    pub kafka: &'k Kafka,
    pub prefix: String,
    partitions: u32,
    pub place: Place,
}

impl Deployment<'_> {
    pub fn new(partitions: u32) -> Deployment<'static> {
        Deployment::on(Kafka::shared(), partitions)
    }

    pub fn on(kafka: &Kafka, partitions: u32) -> Deployment<'_> {
        let prefix = kafka.unique("corridor");
        let deployment = Deployment { kafka, prefix, partitions, place: Place::new() };
        let settings = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];
        kafka.create_topic(&deployment.topic("events"), partitions as i32, &settings);
        deployment
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// One process, without snapshots: the command line.
    pub fn process(&self, name: &str) -> String {
        self.process_with(name, "none")
    }

    /// One process with these snapshots.
    pub fn process_with(&self, name: &str, snapshots: &str) -> String {
        format!("process {}", self.configure(name, &format!("[snapshots]\nurl = \"{snapshots}\"\n")))
    }

    /// What tells a command what to work with, and where: in a state directory of this name.
    pub fn configure(&self, name: &str, more: &str) -> String {
        let (bootstrap, prefix, partitions) = (self.kafka.bootstrap(), &self.prefix, self.partitions);
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = {partitions}\n\
             [state]\ndir = \"{name}\"\nmemory = \"128MiB\"\n[http]\nlisten = \"127.0.0.1:0\"\n{more}"
        );
        self.place.write(&format!("{name}.toml"), config);
        format!("--config {name}.toml")
    }

    /// Appends a history; the last tick is at [`AS_OF`].
    pub fn feed(&self, history: &[String], ticks: Ticks) {
        self.append(&self.log(history, ticks));
    }

    /// A history as a log: ticks in every partition, each record where its account is.
    pub fn log(&self, history: &[String], ticks: Ticks) -> Vec<Entry> {
        let mut log = Vec::new();
        let mut newest: Option<Timestamp> = None;
        let mut last: Option<Timestamp> = None;
        for line in history {
            let event: Value = serde_json::from_str(line).unwrap();
            let at: Timestamp = event["occurred_at"].as_str().unwrap().parse().unwrap();
            newest = newest.max(Some(at));
            let is_due = match ticks {
                Ticks::Each => newest != last,
                Ticks::Daily => last.is_none_or(|last| newest.unwrap().duration_since(last).as_hours() >= 24),
                Ticks::End => false,
            };
            if is_due {
                last = newest;
                log.extend(self.tick(&at.to_string()));
            }
            log.push((None, Some(event["account"].as_str().unwrap().to_owned()), line.clone()));
        }
        log.extend(self.tick(AS_OF));
        log
    }

    pub fn append(&self, log: &[Entry]) {
        let records = log.iter().map(|(partition, account, line)| {
            (*partition, account.as_ref().map(String::as_bytes), Some(line.as_bytes()))
        });
        self.kafka.produce_all(&self.topic("events"), records);
    }

    pub fn tick(&self, through: &str) -> impl Iterator<Item = Entry> + Clone {
        let tick = format!("{{\"kind\":\"tick\",\"through\":\"{through}\"}}");
        (0..self.partitions as i32).map(move |partition| (Some(partition), None, tick.clone()))
    }

    /// Works until the end, and says what came of it.
    pub fn finish(&self, process: &str) -> Value {
        self.place.run(&format!("{process} --until-end --json")).ok().json()
    }

    /// Records that have been published so far.
    pub fn published(&self) -> usize {
        self.kafka.read_committed(&self.topic("facts")).len()
    }
}

/// Partition, key and value of a record.
pub type Entry = (Option<i32>, Option<String>, String);

/// Which ticks there are.
#[derive(Clone, Copy)]
pub enum Ticks {
    /// One before each record that is newer than all before it, as `replay` has them.
    Each,
    /// One a day.
    Daily,
    /// One, behind everything.
    End,
}

#[test]
fn one_process_says_what_a_replay_says() {
    let deployment = Deployment::new(4);
    deployment.feed(community::lines(), Ticks::Each);
    let summary = deployment.finish(&deployment.process("one"));
    assert_eq!(summary["events"], community::lines().len());
    assert_eq!(summary["dead_letters"], 0);
    let answer = Answer::read(deployment.kafka, &deployment.prefix);
    answer.is_like(Answer::truth(), true);
    // Nothing is left to do, and nothing is said twice.
    assert_eq!(deployment.finish(&deployment.process("one"))["events"], 0);
    assert_eq!(Answer::read(deployment.kafka, &deployment.prefix), answer);
    deployment.place.run("state verify one").ok();
}

#[test]
fn whatever_the_order_facts_and_scores_are_the_same() {
    let deployment = Deployment::new(1);
    deployment.feed(&community::shuffled(7), Ticks::End);
    deployment.finish(&deployment.process("one"));
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), false);
}

#[test]
fn a_state_that_is_lost_comes_back_from_its_snapshot() {
    let deployment = Deployment::new(4);
    let log = deployment.log(community::lines(), Ticks::Each);
    let (first, second) = log.split_at(log.len() / 2);
    let snapshots = format!("file://{}", deployment.place.path("snapshots").display());
    let process = deployment.process_with("one", &snapshots);
    deployment.append(first);
    let before = deployment.finish(&process)["events"].as_u64().unwrap();
    let place = &deployment.place;
    assert!(place.run("state inspect one/p3").ok().out.contains("events to offset"));
    let copied = place.run("state snapshot --config one.toml --partition 2").ok();
    assert!(copied.out.contains("partition 2: offset"), "{copied}");
    std::fs::remove_dir_all(place.path("one")).unwrap();
    // By hand, and what is left by the process itself.
    let restored = place.run("state restore --config one.toml --partition 2").ok();
    assert!(restored.out.contains("partition 2: offset"), "{restored}");
    place.run("state verify one/p2").ok();
    deployment.append(second);
    let after = deployment.finish(&process)["events"].as_u64().unwrap();
    assert_eq!(before + after, community::lines().len() as u64, "nothing is applied again");
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), true);
}

#[test]
fn a_state_that_is_far_behind_is_overtaken_by_its_snapshot() {
    // More than a start applies again where there is a snapshot; none of them says anything new.
    const FAR: usize = 200_000;
    let deployment = Deployment::new(1);
    let place = &deployment.place;
    let log = deployment.log(community::lines(), Ticks::Daily);
    let (first, second) = log.split_at(log.len() / 2);
    let process = deployment.process_with("one", &format!("file://{}", place.path("snapshots").display()));
    deployment.append(first);
    deployment.finish(&process);
    // The partition is another machine's for a while, and then comes back.
    std::fs::rename(place.path("one"), place.path("before")).unwrap();
    deployment.append(&deployment.tick("2001-01-01T00:00:00Z").cycle().take(FAR).collect::<Vec<_>>());
    deployment.append(second);
    deployment.finish(&process);
    place.run("state snapshot --config one.toml").ok();
    std::fs::rename(place.path("one"), place.path("another")).unwrap();
    std::fs::rename(place.path("before"), place.path("one")).unwrap();
    deployment.append(&deployment.tick(AS_OF).collect::<Vec<_>>());
    let ran = place.run(&format!("{process} --until-end --json")).ok();
    assert!(ran.err.contains("a snapshot is further than the state, and takes its place"), "{ran}");
    assert_eq!(ran.json()["events"], 0, "{ran}");
    assert!(!place.exists("one/p0.behind") && !place.exists("one/p0.further"));
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), false);
}

#[test]
fn a_snapshot_by_hand_leaves_nothing_behind() {
    let deployment = Deployment::new(2);
    let place = &deployment.place;
    deployment.feed(&community::lines()[..100], Ticks::End);
    deployment.finish(&deployment.process("one"));
    let snapshots =
        |url: &str| place.write("one.toml", place.read("bare.toml").replace("\"none\"", &format!("{url:?}")));
    place.write("bare.toml", place.read("one.toml"));
    // What one that was killed has left is in nobody's way.
    std::fs::create_dir_all(place.path("one/checkpoints/0")).unwrap();
    snapshots(&format!("file://{}", place.path("snapshots").display()));
    let ran = place.run("state snapshot --config one.toml").ok();
    assert_eq!(ran.out.lines().count(), 2, "{ran}");
    assert!(!place.exists("one/checkpoints"));
    std::fs::create_dir(place.path("full")).unwrap();
    place.write(&format!("full/{}", deployment.topic("events")), "no folder");
    snapshots(&format!("file://{}", place.path("full").display()));
    place.run("state snapshot --config one.toml").failed(70, &["full"]);
    assert!(!place.exists("one/checkpoints"));
    // It connects, and nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    snapshots("s3://nowhere/snapshots");
    let store = format!("AWS_ENDPOINT_URL=http://{}", silent.local_addr().unwrap());
    let keys = "AWS_REGION=here AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b";
    let running = place.start(&format!("{store} {keys} state snapshot --config one.toml"));
    eventually(DEADLINE, "a checkpoint", || place.exists("one/checkpoints"));
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(130));
    assert!(!place.exists("one/checkpoints"));
}

#[test]
fn a_log_that_is_cut_short_under_a_processor_says_what_to_do() {
    // More than one fetch brings: what is on its way already is read.
    const MANY: usize = 100_000;
    let deployment = Deployment::new(1);
    deployment.feed(&community::lines()[..100], Ticks::End);
    let running = deployment.place.start(&deployment.process("one"));
    eventually(DEADLINE, "some work", || deployment.published() > 0);
    running.signal("STOP");
    deployment.append(&deployment.tick(AS_OF).cycle().take(MANY).collect::<Vec<_>>());
    let (_, end) = deployment.kafka.produce(&deployment.topic("events"), Some(0), None, Some(b"{}"));
    deployment.kafka.delete_before(&deployment.topic("events"), end);
    running.signal("CONT");
    let words = ["the broker has removed from", "Raise the topic's retention.ms", "start again"];
    running.ended().failed(70, &words);
}

#[test]
fn a_state_that_is_lost_without_a_copy_is_made_again_from_the_log() {
    let deployment = Deployment::new(2);
    deployment.feed(community::lines(), Ticks::Each);
    let process = deployment.process("one");
    deployment.finish(&process);
    let answer = Answer::read(deployment.kafka, &deployment.prefix);
    std::fs::remove_dir_all(deployment.place.path("one")).unwrap();
    deployment.append(&deployment.tick(AS_OF).collect::<Vec<_>>());
    let summary = deployment.finish(&process);
    assert_eq!(summary["events"], community::lines().len());
    assert_eq!(summary["published"], 0, "everything had been said");
    assert_eq!(Answer::read(deployment.kafka, &deployment.prefix), answer);
}

#[test]
fn a_log_that_has_lost_its_beginning_is_taken_only_when_told_to() {
    let deployment = Deployment::new(2);
    let place = &deployment.place;
    deployment.feed(&community::lines()[..200], Ticks::End);
    let process = deployment.process("one");
    let all = deployment.finish(&process)["published"].as_u64().unwrap();
    deployment.kafka.delete_before(&deployment.topic("events"), 20);
    // A state that goes on behind what is gone does; one that would need it does not, and says what would.
    deployment.append(&deployment.tick(AS_OF).collect::<Vec<_>>());
    deployment.finish(&process);
    std::fs::remove_dir_all(place.path("one")).unwrap();
    deployment.append(&deployment.tick(AS_OF).collect::<Vec<_>>());
    let words = ["there is no state in one/p", "the log now begins at offset 20", "--from-log-start"];
    place.run(&format!("{process} --until-end")).failed(70, &words);
    let again = place.run(&format!("{process} --until-end --json --from-log-start")).ok().json();
    let published = again["published"].as_u64().unwrap();
    assert!(0 < published && published < all, "what is left is told again: {again}");
    // Of another generation, so that sinks that are guarded by versions take it.
    let scores = deployment.kafka.read_committed(&deployment.topic("scores"));
    let versions = scores.iter().filter_map(|record| {
        let value: Value = serde_json::from_slice(record.value.as_ref()?).unwrap();
        value["version"].as_u64()
    });
    assert_eq!(versions.map(|version| version >> 48).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
}

#[test]
fn what_cannot_work_is_refused() {
    let deployment = Deployment::new(2);
    let place = &deployment.place;
    deployment.feed(&community::lines()[..10], Ticks::End);
    deployment.finish(&deployment.process("one"));
    let config = place.read("one.toml");
    place.write("many.toml", config.replace("partitions = 2", "partitions = 3"));
    place.run("process --config many.toml").failed(78, &["has 2 partitions", "Set [topics] partitions to 2"]);
    place.write("unsafe.toml", config.replace("[snapshots]\nurl = \"none\"\n", ""));
    place.run("process --config unsafe.toml").refused(78, &["[snapshots] url is missing"]);
    // A slip in a name makes it no secret's; the value is not printed all the same.
    place.write("slip.toml", format!("{config}[kafka.properties]\n\"sasl.passwrd\" = \"hunter2\"\n"));
    let slip = place.run("process --config slip.toml").refused(78, &["sasl.passwrd"]);
    assert!(!slip.err.contains("hunter2"), "{slip}");
    let running = place.start("process --config one.toml");
    eventually(DEADLINE, "partitions", || running.said().contains("partition opened"));
    place.run("process --config one.toml --until-end").failed(70, &["another process works as process", "one"]);
    running.signal("TERM");
    running.ended().ok();
}
