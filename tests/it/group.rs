//! Members that are killed, and that come and go: each partition is somebody's, and everything is said once.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use touchline_harness::{Kafka, eventually};

use crate::community;
use crate::harness::DEADLINE;
use crate::kafka::{Deployment, Ticks};
use crate::oracle::Answer;

#[test]
fn killed_again_and_again_it_says_everything_once() {
    let deployment = Deployment::new(4);
    let process = deployment.process("one");
    let log = deployment.log(community::lines(), Ticks::Each);
    // Equal parts: each has events, so each has something to publish, however much of the last was done.
    for part in log.chunks(log.len().div_ceil(6)) {
        deployment.append(part);
        let before = deployment.published();
        let mut running = deployment.place.start(&process);
        running.until("some work", || deployment.published() > before);
        running.kill();
    }
    deployment.finish(&process);
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), true);
}

/// A worker that takes what it is given, and never gives anything back.
struct Keeper;

impl ClientContext for Keeper {}

impl ConsumerContext for Keeper {
    fn rebalance(&self, member: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            member.incremental_assign(list).unwrap();
        }
    }
}

/// Leaves a group as it is when its two members are killed where the first has been told to give up half of a topic's
/// four partitions, and the second has not got them.
fn tear(deployment: &Deployment<'_>, group: &str, topic: &str, members: [&str; 2]) {
    let group = deployment.topic(group);
    let join = |name: &str, sessions: &[&BaseConsumer<Keeper>], partitions: usize| {
        let mut client = deployment.kafka.client();
        client.set("group.id", &group).set("group.instance.id", name);
        client.set("partition.assignment.strategy", "cooperative-sticky").set("enable.auto.commit", "false");
        let member: BaseConsumer<Keeper> = client.create_with_context(Keeper).unwrap();
        member.subscribe(&[topic]).unwrap();
        eventually(DEADLINE, "its part", || {
            for polled in sessions.iter().chain([&&member]) {
                drop(polled.poll(Duration::from_millis(100)));
            }
            let found = member.fetch_group_list(Some(&group), DEADLINE).unwrap();
            let has_all = |members: usize| members == sessions.len() + 1;
            found.groups().iter().any(|group| group.state() == "Stable" && has_all(group.members().len()))
                && member.assignment().unwrap().count() == partitions
        });
        member
    };
    let first = join(members[0], &[], 4);
    let second = join(members[1], &[&first], 0);
    // Without a good-bye: what takes their names shuts them out.
    std::mem::forget((first, second));
}

/// Two processes: the directory of the state, and what is called so in Kafka.
const NAMES: [(&str, &str); 2] = [("a", "0123456789abcdef0123456789abcdef"), ("b", "fedcba9876543210fedcba9876543210")];

fn name(deployment: &Deployment<'_>, dir: &str, stage: &str, name: &str) {
    std::fs::create_dir_all(deployment.place.path(dir)).unwrap();
    deployment.place.write(&format!("{dir}/instance.{stage}"), name);
}

#[test]
fn killed_while_partitions_moved_it_finds_those_that_are_nobodys() {
    let deployment = Deployment::new(4);
    deployment.feed(&community::lines()[..1000], Ticks::End);
    let (dir, instance) = NAMES[0];
    let process = deployment.process(dir);
    name(&deployment, dir, "process", instance);
    let workers = [0, 1].map(|worker| format!("{instance}.{worker}"));
    tear(&deployment, "processor", &deployment.topic("events"), [&workers[0], &workers[1]]);
    let ran = deployment.place.run(&format!("{process} --until-end --json")).ok();
    assert_eq!(ran.json()["events"], 1000);
    assert!(ran.err.contains("nobody has these partitions"), "{ran}");
}

#[test]
fn sinks_killed_while_partitions_moved_find_those_that_are_nobodys() {
    let deployment = Deployment::new(4);
    deployment.feed(&community::lines()[..3000], Ticks::End);
    deployment.finish(&deployment.process("one"));
    let alerts = deployment.kafka.read_committed(&deployment.topic("alerts")).len();
    assert!(alerts > 100);
    let sinks = NAMES.map(|(dir, instance)| {
        name(&deployment, dir, "sink.files", instance);
        let sink = format!("[[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"{dir}/out\"\ntopics = [\"alerts\"]\n");
        format!("sink files {}", deployment.configure(dir, &sink))
    });
    tear(&deployment, "sink.files", &deployment.topic("alerts"), NAMES.map(|(_, instance)| instance));
    let running = sinks.map(|sink| deployment.place.start(&sink));
    let written = |(dir, _)| {
        let file = format!("{dir}/out/alerts.jsonl");
        if deployment.place.exists(&file) { deployment.place.read(&file).lines().count() } else { 0 }
    };
    eventually(DEADLINE, "every alert", || NAMES.map(written).iter().sum::<usize>() >= alerts);
    let said = running.map(|running| {
        running.signal("TERM");
        running.ended().ok().err
    });
    assert_eq!(NAMES.map(written).iter().sum::<usize>(), alerts);
    assert!(said.concat().contains("nobody has these partitions"), "{said:?}");
}

#[test]
fn ingest_killed_while_partitions_moved_finds_those_that_are_nobodys() {
    let deployment = Deployment::new(4);
    let source = deployment.topic("source");
    deployment.kafka.create_topic(&source, 4, &[]);
    let lines = &community::lines()[..1000];
    let records = lines.iter().zip(0..).map(|(line, number)| (Some(number % 4), None, Some(line.as_bytes())));
    deployment.kafka.produce_all(&source, records);
    let ingests = NAMES.map(|(dir, instance)| {
        name(&deployment, dir, "ingest", instance);
        let source = format!("[[source]]\nname = \"community\"\ntopics = [\"{source}\"]\n");
        format!("ingest {}", deployment.configure(dir, &source))
    });
    tear(&deployment, "ingest", &source, NAMES.map(|(_, instance)| instance));
    let running = ingests.map(|ingest| deployment.place.start(&ingest));
    let events = || {
        let all = deployment.kafka.read_committed(&deployment.topic("events"));
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        all.into_iter().filter_map(|it| it.value.map(text)).filter(|it| it.contains("\"account\"")).count()
    };
    eventually(DEADLINE, "every event", || events() >= lines.len());
    let said = running.map(|running| {
        running.signal("TERM");
        running.ended().ok().err
    });
    assert!(said.concat().contains("nobody has these partitions"), "{said:?}");
}

#[test]
fn while_others_come_and_go_nothing_is_in_doubt() {
    let deployment = Deployment::new(4);
    deployment.kafka.create_topic(&deployment.topic("others"), 1, &[]);
    let running = deployment.place.start(&deployment.process("one"));
    let log = deployment.log(community::lines(), Ticks::Each);
    for part in log.chunks(log.len().div_ceil(8)) {
        deployment.append(part);
        let mut client = deployment.kafka.client();
        client.set("group.id", deployment.topic("processor")).set("enable.auto.commit", "false");
        client.set("partition.assignment.strategy", "cooperative-sticky");
        let other: BaseConsumer = client.create().unwrap();
        other.subscribe(&[&deployment.topic("others")]).unwrap();
        eventually(DEADLINE, "another member", || {
            drop(other.poll(Duration::from_millis(100)));
            other.assignment().unwrap().count() > 0
        });
    }
    assert!(!running.said().contains("not certain"), "{}", running.said());
    running.signal("TERM");
    running.ended().ok();
    deployment.finish(&deployment.process("one"));
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), true);
}

#[test]
fn four_processes_that_come_and_go_share_the_work() {
    let deployment = Deployment::new(64);
    deployment.feed(community::lines(), Ticks::Daily);
    let mut first = deployment.place.start(&deployment.process("a"));
    first.until("its first facts", || deployment.published() > 0);
    let second = deployment.place.start(&deployment.process("b"));
    let third = deployment.place.start(&deployment.process("c"));
    let before = deployment.published();
    eventually(DEADLINE, "work after the rebalance", || deployment.published() > before);
    first.signal("TERM");
    first.ended().ok();
    third.kill();
    deployment.finish(&deployment.process("d"));
    second.signal("TERM");
    second.ended().ok();
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), false);
}

#[test]
fn a_broker_that_goes_away_on_the_way_to_the_end_costs_nothing() {
    let kafka = Kafka::start(&[]);
    let deployment = Deployment::on(&kafka, 4);
    deployment.feed(community::lines(), Ticks::Each);
    let running = deployment.place.start(&format!("{} --until-end", deployment.process("one")));
    // From now on there is a transaction every tenth of a second; that of the last records comes seconds later.
    let is_open = |partition| deployment.place.exists(&format!("one/p{partition}/CURRENT"));
    eventually(DEADLINE, "its partitions", || (0..4).all(is_open));
    std::thread::sleep(Duration::from_millis(300));
    kafka.kill();
    // Longer than a transaction is waited for, and than its successor is for the broker to let it in.
    std::thread::sleep(Duration::from_secs(20));
    kafka.restart();
    running.ended().ok();
    Answer::read(&kafka, &deployment.prefix).is_like(Answer::truth(), true);
    assert_eq!(deployment.finish(&deployment.process("one"))["events"], 0);
}
