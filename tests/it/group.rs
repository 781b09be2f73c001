//! Members that are killed, and that come and go: each partition is somebody's, and everything is said once.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use touchline_harness::{Kafka, eventually};

use crate::community;
use crate::harness::DEADLINE;
use crate::kafka::{Answer, Deployment, Ticks};

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

#[test]
fn killed_while_partitions_moved_it_finds_those_that_are_nobodys() {
    let deployment = Deployment::new(4);
    deployment.feed(&community::lines()[..1000], Ticks::End);
    let name = "0123456789abcdef0123456789abcdef";
    let process = deployment.process("one");
    std::fs::create_dir(deployment.place.path("one")).unwrap();
    deployment.place.write("one/instance.process", name);
    // The first worker is told to give up what the second is to have, and dies.
    let join = |worker: usize, sessions: &[&BaseConsumer<Keeper>], partitions: usize| {
        let mut client = deployment.kafka.client();
        client.set("group.id", deployment.topic("processor")).set("group.instance.id", format!("{name}.{worker}"));
        client.set("partition.assignment.strategy", "cooperative-sticky").set("enable.auto.commit", "false");
        let member: BaseConsumer<Keeper> = client.create_with_context(Keeper).unwrap();
        member.subscribe(&[&deployment.topic("events")]).unwrap();
        eventually(DEADLINE, "its part", || {
            for polled in sessions.iter().chain([&&member]) {
                drop(polled.poll(Duration::from_millis(100)));
            }
            let found = member.fetch_group_list(Some(&deployment.topic("processor")), DEADLINE).unwrap();
            let has_all = |members: usize| members == sessions.len() + 1;
            found.groups().iter().any(|group| group.state() == "Stable" && has_all(group.members().len()))
                && member.assignment().unwrap().count() == partitions
        });
        member
    };
    let first = join(0, &[], 4);
    let second = join(1, &[&first], 0);
    // Without a good-bye: what takes their names shuts them out.
    std::mem::forget((first, second));
    let ran = deployment.place.run(&format!("{process} --until-end --json")).ok();
    assert_eq!(ran.json()["events"], 1000);
    assert!(ran.err.contains("nobody has these partitions"), "{ran}");
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
