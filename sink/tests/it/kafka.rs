//! The Kafka feed and the dispatcher on a broker.

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use touchline_core::output::Topic;
use touchline_harness::Kafka;
use touchline_sink::kafka::{KafkaFeed, KafkaFeedConfig};
use touchline_sink::{Batch, Dispatcher, End, Progress, Rejected, Route, SinkError};

use crate::kit::{Behaviour, Gate, Patient, Scripted, Stored, eventually, start};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the process that is to be killed reads.
const PREFIX: &str = "TOUCHLINE_TEST_PREFIX";
const BOOTSTRAP: &str = "TOUCHLINE_TEST_BOOTSTRAP";

/// Topics of a test's own, and sinks that read them.
struct Scene {
    kafka: &'static Kafka,
    prefix: String,
    dead_letters: String,
    topics: Vec<(Topic, String)>,
}

impl Scene {
    fn new(topics: &[(Topic, i32)]) -> Scene {
        Scene::on(Kafka::shared(), topics)
    }

    fn on(kafka: &'static Kafka, topics: &[(Topic, i32)]) -> Scene {
        let prefix = kafka.unique("scene");
        let name = |topic: Topic| format!("{prefix}.{}", topic.name());
        let dead_letters = name(Topic::DeadLetters);
        kafka.create_topic(&dead_letters, 1, &[]);
        for (topic, partitions) in topics {
            kafka.create_topic(&name(*topic), *partitions, &[]);
        }
        let topics = topics.iter().map(|(topic, _)| (*topic, name(*topic))).collect();
        Scene { kafka, prefix, dead_letters, topics }
    }

    fn feed(&self, instance: &str) -> Box<KafkaFeed> {
        feed(self.kafka.client(), &self.prefix, self.topics.clone(), instance)
    }

    fn dispatcher(&self, instance: &str, stored: &Stored, behaviour: Behaviour) -> Dispatcher {
        start(vec![Route { sink: Scripted::new("one", stored, behaviour), feed: self.feed(instance) }])
    }

    /// Writes so many records, numbered from `first`, into a topic's partitions by turns.
    fn produce(&self, topic: usize, partitions: i32, first: usize, count: usize) {
        let values: Vec<String> = (first..first + count).map(|number| format!("{{\"n\":{number}}}")).collect();
        let records = values
            .iter()
            .enumerate()
            .map(|(place, value)| (Some(place as i32 % partitions), Some(&b"key"[..]), Some(value.as_bytes())));
        self.kafka.produce_all(&self.topics[topic].1, records);
    }

    fn letters(&self) -> Vec<(String, serde_json::Value)> {
        let records = self.kafka.read_committed(&self.dead_letters).into_iter();
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        records.map(|it| (text(it.key), serde_json::from_str(&text(it.value)).unwrap())).collect()
    }
}

fn feed(client: ClientConfig, prefix: &str, topics: Vec<(Topic, String)>, instance: &str) -> Box<KafkaFeed> {
    let (group, dead_letters) = (format!("{prefix}.sink.one"), format!("{prefix}.dead_letters"));
    let config = KafkaFeedConfig { client, group, instance: instance.to_owned(), topics, dead_letters };
    Box::new(KafkaFeed::new(config).unwrap())
}

fn progress(dispatcher: &Dispatcher) -> Progress {
    dispatcher.progress().next().unwrap().1.borrow().clone()
}

fn well() -> Behaviour {
    Box::new(|_| Ok(()))
}

/// Notes the values that are stored, with how often.
fn noting(values: &Values) -> Behaviour {
    let values = values.clone();
    Box::new(move |batch| {
        let mut values = values.lock().unwrap();
        for change in &batch.changes {
            let value = change.value.as_ref().map_or("-".to_owned(), |value| String::from_utf8(value.clone()).unwrap());
            *values.entry(value).or_default() += 1;
        }
        Ok(())
    })
}

type Values = Arc<std::sync::Mutex<BTreeMap<String, u64>>>;

fn numbers(range: std::ops::Range<usize>) -> BTreeMap<String, u64> {
    range.map(|number| (format!("{{\"n\":{number}}}"), 1)).collect()
}

fn closed(dispatcher: Dispatcher) {
    let outcomes = dispatcher.finish(PATIENCE);
    assert!(matches!(outcomes[0].end, End::Closed), "{outcomes:?}");
}

#[test]
fn what_is_published_is_delivered_soon() {
    let scene = Scene::new(&[(Topic::Alerts, 2), (Topic::Scores, 1)]);
    let stored = Stored::default();
    let seen: Arc<std::sync::Mutex<Vec<Duration>>> = Arc::default();
    let note = seen.clone();
    let behaviour = Box::new(move |batch: &Batch| {
        let published_at = batch.published_at.unwrap();
        note.lock().unwrap().push(SystemTime::now().duration_since(published_at).unwrap_or_default());
        Ok(())
    });
    let dispatcher = scene.dispatcher("a", &stored, behaviour);
    eventually("it to catch up with nothing", || progress(&dispatcher).caught_up);
    assert_eq!(progress(&dispatcher).lanes.len(), 3);
    for number in 0..20 {
        scene.produce(number % 2, 1, number, 1);
        eventually("the change to arrive", || seen.lock().unwrap().len() == number + 1);
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert!(seen[10] < Duration::from_millis(100), "{seen:?}");
    eventually("it to catch up", || progress(&dispatcher).caught_up);
    assert!(progress(&dispatcher).lanes.values().all(|lane| lane.lag == Some(0)));
    closed(dispatcher);
}

#[test]
fn each_record_once_through_two_processes_and_a_rebalance() {
    const PARTITIONS: i32 = 6;
    let scene = Scene::new(&[(Topic::Facts, PARTITIONS)]);
    let (stored, values) = (Stored::default(), Values::default());
    scene.produce(0, PARTITIONS, 0, 20_000);
    let first = scene.dispatcher("a", &stored, noting(&values));
    eventually("the first to work", || progress(&first).delivered > 0);
    let second = scene.dispatcher("b", &stored, noting(&values));
    eventually("the second to have its share", || progress(&second).lanes.len() == 3);
    eventually("the first to have given it", || progress(&first).lanes.len() == 3);
    scene.produce(0, PARTITIONS, 20_000, 20_000);
    eventually("both to deliver", || progress(&first).delivered > 0 && progress(&second).delivered > 0);
    closed(first);
    eventually("the second to take over", || progress(&second).lanes.len() == 6);
    scene.produce(0, PARTITIONS, 40_000, 1_000);
    eventually("everything to arrive", || stored.sequences.lock().unwrap().len() >= 41_000);
    closed(second);
    assert_eq!(stored.sequences.lock().unwrap().len(), 41_000);
    let cursors: u64 = stored.cursors.lock().unwrap().values().map(|cursor| crate::kit::index_of(cursor) as u64).sum();
    assert_eq!(cursors, 41_000);
    assert_eq!(values.lock().unwrap().len(), 41_000);
}

#[test]
fn what_is_pending_is_remembered_by_the_group() {
    let scene = Scene::new(&[(Topic::Alerts, 1)]);
    scene.produce(0, 1, 0, 100);
    let (stored, gate) = (Stored::default(), Arc::new(Gate::default()));
    let dispatcher = || start(vec![Route { sink: Patient::new(&stored, &gate, 10), feed: scene.feed("a") }]);
    let first = dispatcher();
    eventually("the window to fill", || progress(&first).in_flight == 10);
    gate.allow(3);
    eventually("three batches to settle", || {
        let progress = progress(&first);
        progress.delivered > 0 && progress.rejected > 0 && progress.in_flight == 10
    });
    let began = Instant::now();
    // As a restart does: the partitions come back at once, and what was not settled is delivered again.
    drop(first);
    let second = dispatcher();
    eventually("the window to fill again", || progress(&second).in_flight == 10);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    gate.allow(1_000);
    eventually("all to settle", || progress(&second).lanes.values().all(|lane| lane.lag == Some(0)));
    closed(second);
    let delivered = stored.sorted();
    let once: std::collections::BTreeSet<u64> = delivered.iter().copied().collect();
    assert_eq!(once.into_iter().collect::<Vec<_>>(), (0..100).step_by(2).collect::<Vec<_>>());
    let letters = scene.letters();
    assert_eq!(letters.len(), 50, "each odd one is a dead letter once");
    let third = dispatcher();
    eventually("it to have nothing to do", || progress(&third).caught_up);
    assert_eq!(progress(&third).delivered, 0);
}

fn poison(batch: &Batch) -> Vec<Rejected> {
    let bad = batch.changes.iter().enumerate().filter(|(_, change)| [3, 500, 501].contains(&change.sequence));
    bad.map(|(position, _)| Rejected { position, reason: "odd".to_owned() }).collect()
}

/// Not a test, but the process that [`a_poison_record_is_one_dead_letter_though_the_process_dies`] kills: it makes dead
/// letters, and then cannot store what is left.
#[test]
fn the_process_that_is_killed() {
    let (Ok(prefix), Ok(bootstrap)) = (env::var(PREFIX), env::var(BOOTSTRAP)) else { return };
    let dying = Box::new(move |batch: &Batch| match poison(batch) {
        rejected if rejected.is_empty() => Err(SinkError::Retry("away".into())),
        rejected => Err(SinkError::RejectThese(rejected)),
    });
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap);
    let topics = vec![(Topic::Facts, format!("{prefix}.facts"))];
    let sink = Scripted::new("one", &Stored::default(), dying);
    start(vec![Route { sink, feed: feed(client, &prefix, topics, "a") }]).wait(PATIENCE * 10);
}

#[test]
fn a_poison_record_is_one_dead_letter_though_the_process_dies() {
    let scene = Scene::new(&[(Topic::Facts, 1)]);
    scene.produce(0, 1, 0, 1_000);
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kafka::the_process_that_is_killed"])
        .env(PREFIX, &scene.prefix)
        .env(BOOTSTRAP, scene.kafka.client().get("bootstrap.servers").unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the letters to be written", || scene.letters().len() >= 3);
    process.kill().unwrap();
    process.wait().unwrap();
    // Another one, that cannot tell which it is. It takes over at once, being of the same name.
    let dumb = Box::new(move |batch: &Batch| match poison(batch).is_empty() {
        true => Ok(()),
        false => Err(SinkError::RejectSome("a bad one".into())),
    });
    let stored = Stored::default();
    let began = Instant::now();
    let second = scene.dispatcher("a", &stored, dumb);
    eventually("the others to be stored", || stored.sequences.lock().unwrap().len() == 997);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    closed(second);
    let letters = scene.letters();
    let keys: Vec<&str> = letters.iter().map(|(key, _)| key.as_str()).collect();
    let topic = &scene.topics[0].1;
    assert_eq!(keys, [3, 500, 501].map(|offset| format!("{topic}/0/{offset}/one")));
    let (_, letter) = &letters[0];
    assert_eq!(letter["stage"], "sink one");
    assert_eq!((&letter["raw"], &letter["error"]), (&"{\"n\":3}".into(), &"odd".into()));
}

#[test]
fn a_lane_that_is_claimed_again_and_again_misses_nothing() {
    let scene = Scene::new(&[(Topic::Facts, 2)]);
    scene.produce(0, 2, 0, 40_000);
    let stored = Stored::default();
    let (epochs, mut batches) = (stored.epochs.clone(), 0);
    let disturbed = Box::new(move |_: &Batch| {
        batches += 1;
        if batches % 3 == 0 {
            epochs.lock().unwrap().values_mut().for_each(|epoch| *epoch += 1);
        }
        Ok(())
    });
    let dispatcher = scene.dispatcher("a", &stored, disturbed);
    eventually("everything to arrive", || stored.sequences.lock().unwrap().len() >= 40_000);
    assert!(progress(&dispatcher).retries >= 3);
    closed(dispatcher);
    assert_eq!(stored.sorted(), (0..20_000).flat_map(|offset| [offset, offset]).collect::<Vec<_>>());
}

#[test]
fn only_what_is_committed_and_tombstones_too() {
    let scene = Scene::new(&[(Topic::Scores, 1)]);
    let topic = &scene.topics[0].1;
    let writer: BaseProducer = scene.kafka.client().set("transactional.id", scene.prefix.as_str()).create().unwrap();
    writer.init_transactions(PATIENCE).unwrap();
    let transaction = |value: Option<&str>, is_kept: bool| {
        writer.begin_transaction().unwrap();
        let record = BaseRecord::<str, str>::to(topic).key("key");
        writer
            .send(match value {
                Some(value) => record.payload(value),
                None => record,
            })
            .unwrap();
        writer.flush(PATIENCE).unwrap();
        if is_kept { writer.commit_transaction(PATIENCE).unwrap() } else { writer.abort_transaction(PATIENCE).unwrap() }
    };
    transaction(Some("kept"), true);
    transaction(Some("aborted"), false);
    transaction(None, true);
    transaction(Some("aborted too"), false);
    let (stored, values) = (Stored::default(), Values::default());
    let dispatcher = scene.dispatcher("a", &stored, noting(&values));
    eventually("both to arrive", || values.lock().unwrap().len() == 2);
    eventually("nothing to be left, though the ends of transactions are", || {
        let progress = progress(&dispatcher);
        progress.caught_up && progress.lanes.values().all(|lane| lane.lag == Some(0))
    });
    // Not so while one is open.
    writer.begin_transaction().unwrap();
    writer.send(BaseRecord::<str, str>::to(topic).key("key").payload("open")).unwrap();
    writer.flush(PATIENCE).unwrap();
    writer.commit_transaction(PATIENCE).unwrap();
    eventually("the last to arrive", || values.lock().unwrap().len() == 3);
    closed(dispatcher);
    let expected = [("-", 1), ("kept", 1), ("open", 1)].map(|(value, count)| (value.to_owned(), count));
    assert_eq!(*values.lock().unwrap(), BTreeMap::from(expected));
}

#[test]
fn a_lane_that_comes_back_has_nothing_behind_its_last_record() {
    let scene = Scene::new(&[(Topic::Facts, 2)]);
    let writer: BaseProducer = scene.kafka.client().set("transactional.id", scene.prefix.as_str()).create().unwrap();
    writer.init_transactions(PATIENCE).unwrap();
    writer.begin_transaction().unwrap();
    for partition in 0..2 {
        let record = BaseRecord::<str, str>::to(&scene.topics[0].1).key("key").payload("value");
        writer.send(record.partition(partition)).unwrap();
    }
    writer.flush(PATIENCE).unwrap();
    writer.commit_transaction(PATIENCE).unwrap();
    let stored = Stored::default();
    let first = scene.dispatcher("a", &stored, well());
    eventually("both to arrive", || progress(&first).delivered == 2);
    let second = scene.dispatcher("b", &stored, well());
    eventually("the other to have its share", || progress(&second).lanes.len() == 1);
    closed(second);
    eventually("it to come back", || progress(&first).lanes.len() == 2);
    eventually("nothing to be left, though the end of a transaction is", || {
        let progress = progress(&first);
        progress.caught_up && progress.lanes.values().all(|lane| lane.lag == Some(0))
    });
    closed(first);
}

#[test]
fn what_comes_seldom_is_not_lost_behind_what_comes_much() {
    // Busy for longer than a lane must be quiet for its cursor to pass what is nothing to read.
    const SECONDS: usize = 18;
    let scene = Scene::new(&[(Topic::Facts, 1), (Topic::Alerts, 1)]);
    scene.produce(1, 1, 0, 1);
    let stored = Stored::default();
    let values = Values::default();
    let mut note = noting(&values);
    let slow = Box::new(move |batch: &Batch| {
        std::thread::sleep(Duration::from_secs(1) * batch.changes.len() as u32 / 4_096);
        note(batch)
    });
    let dispatcher = scene.dispatcher("a", &stored, slow);
    eventually("the first alert", || values.lock().unwrap().len() == 1);
    scene.produce(0, 1, 1, SECONDS * 4_096);
    std::thread::sleep(Duration::from_secs(12));
    scene.produce(1, 1, SECONDS * 4_096 + 1, 1);
    let all = SECONDS * 4_096 + 2;
    touchline_harness::eventually(PATIENCE, "everything to arrive", || progress(&dispatcher).caught_up);
    closed(dispatcher);
    let values = values.lock().unwrap();
    let wrong: Vec<_> = numbers(0..all).into_keys().filter(|number| values.get(number) != Some(&1)).take(9).collect();
    assert!(wrong.is_empty() && values.len() == all, "not once: {wrong:?}; {} of {all}", values.len());
}

#[test]
fn a_broker_that_goes_and_comes_is_waited_for() {
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start(&[])));
    let scene = Scene::on(kafka, &[(Topic::Facts, 2)]);
    let (stored, values) = (Stored::default(), Values::default());
    scene.produce(0, 2, 0, 100);
    let dispatcher = scene.dispatcher("a", &stored, noting(&values));
    eventually("the first to arrive", || values.lock().unwrap().len() == 100);
    kafka.stop();
    eventually("it to tell that the broker is away", || progress(&dispatcher).failing.is_some());
    kafka.restart();
    scene.produce(0, 2, 100, 100);
    eventually("the others to arrive", || values.lock().unwrap().len() == 200);
    eventually("it to tell that all is well", || progress(&dispatcher).failing.is_none());
    closed(dispatcher);
    assert_eq!(*values.lock().unwrap(), numbers(0..200));
    kafka.stop();
}

#[test]
fn a_topic_that_is_not_there_yet_is_waited_for() {
    let mut scene = Scene::new(&[(Topic::Facts, 1)]);
    scene.topics.push((Topic::Alerts, format!("{}.late", scene.prefix)));
    let (stored, values) = (Stored::default(), Values::default());
    scene.produce(0, 1, 0, 10);
    let dispatcher = scene.dispatcher("a", &stored, noting(&values));
    eventually("what is there to arrive", || values.lock().unwrap().len() == 10);
    eventually("the other to be missed", || {
        progress(&dispatcher).failing.is_some_and(|failing| failing.contains(".late"))
    });
    scene.kafka.create_topic(&scene.topics[1].1, 1, &[]);
    scene.produce(1, 1, 10, 10);
    eventually("the others to arrive", || values.lock().unwrap().len() == 20);
    closed(dispatcher);
}

#[test]
fn a_topic_that_is_made_anew_is_read_from_its_beginning() {
    let scene = Scene::new(&[(Topic::Facts, 1)]);
    let topic = scene.topics[0].1.clone();
    scene.produce(0, 1, 0, 10);
    let (stored, values) = (Stored::default(), Values::default());
    let dispatcher = scene.dispatcher("a", &stored, noting(&values));
    eventually("the first to arrive", || values.lock().unwrap().len() == 10);
    on_admin(scene.kafka, async |admin| admin.delete_topics(&[&topic], &AdminOptions::new()).await.map(drop));
    eventually("it to be missed", || {
        progress(&dispatcher).failing.is_some_and(|failing| failing.contains("there is no topic"))
    });
    scene.kafka.create_topic(&topic, 1, &[]);
    scene.produce(0, 1, 10, 5);
    eventually("the others to arrive", || values.lock().unwrap().len() == 15);
    closed(dispatcher);
}

#[test]
fn what_retention_took_is_told_and_the_rest_delivered() {
    let scene = Scene::new(&[(Topic::Alerts, 1)]);
    let topic = scene.topics[0].1.clone();
    scene.produce(0, 1, 0, 10);
    let (stored, values) = (Stored::default(), Values::default());
    let dispatcher = scene.dispatcher("a", &stored, well());
    eventually("the first to arrive", || stored.sequences.lock().unwrap().len() == 10);
    closed(dispatcher);
    scene.produce(0, 1, 10, 10);
    delete_before(scene.kafka, &topic, 15);
    let dispatcher = scene.dispatcher("a", &stored, noting(&values));
    eventually("the rest to arrive", || stored.sequences.lock().unwrap().len() == 15);
    assert_eq!(*values.lock().unwrap(), numbers(15..20));
    eventually("the loss to be told", || progress(&dispatcher).missed == 5);
    closed(dispatcher);
}

#[test]
fn what_retention_takes_while_the_sink_is_away_is_told_too() {
    let scene = Scene::new(&[(Topic::Alerts, 1)]);
    scene.produce(0, 1, 0, 30_000);
    let (stored, values) = (Stored::default(), Values::default());
    let is_there = Arc::new(AtomicBool::new(false));
    let (there, mut note) = (is_there.clone(), noting(&values));
    let away = Box::new(move |batch: &Batch| match there.load(Ordering::SeqCst) {
        true => note(batch),
        false => Err(SinkError::Retry("away".into())),
    });
    let dispatcher = scene.dispatcher("a", &stored, away);
    eventually("it to fail often enough to have stopped reading", || progress(&dispatcher).retries > 3);
    delete_before(scene.kafka, &scene.topics[0].1, 29_000);
    is_there.store(true, Ordering::SeqCst);
    eventually("the last to arrive", || values.lock().unwrap().contains_key("{\"n\":29999}"));
    eventually("nothing to be left", || progress(&dispatcher).lanes.values().all(|lane| lane.lag == Some(0)));
    eventually("the loss to be told", || progress(&dispatcher).missed > 10_000);
    let missed = progress(&dispatcher).missed;
    closed(dispatcher);
    assert_eq!(stored.sequences.lock().unwrap().len() as u64 + missed, 30_000);
    assert!(stored.sequences.lock().unwrap().is_sorted());
}

#[test]
fn a_process_whose_name_another_takes_comes_back_when_that_has_gone() {
    let scene = Scene::new(&[(Topic::Facts, 2)]);
    let (stored, values) = (Stored::default(), Values::default());
    let first = scene.dispatcher("a", &stored, noting(&values));
    scene.produce(0, 2, 0, 100);
    eventually("the first to deliver", || values.lock().unwrap().len() == 100);
    let second = scene.dispatcher("a", &stored, noting(&values));
    eventually("the second to have the lanes", || progress(&second).lanes.len() == 2);
    eventually("the first to be told", || {
        progress(&first).failing.is_some_and(|failing| failing.contains("stay in the group"))
    });
    drop(second);
    scene.produce(0, 2, 100, 100);
    eventually("the first to deliver again", || values.lock().unwrap().len() == 200);
    closed(first);
    assert_eq!(*values.lock().unwrap(), numbers(0..200));
}

#[test]
fn metrics_say_how_a_sink_does() {
    let scene = Scene::new(&[(Topic::Alerts, 1)]);
    scene.produce(0, 1, 0, 20);
    let (stored, gate) = (Stored::default(), Arc::new(Gate::default()));
    let registry = prometheus::Registry::new();
    let metrics = touchline_sink::Metrics::new(&registry).unwrap();
    let route = Route { sink: Patient::new(&stored, &gate, 10), feed: scene.feed("a") };
    let dispatcher = Dispatcher::start(vec![route], &metrics).unwrap();
    let value = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        assert_eq!((metric.get_label()[0].name(), metric.get_label()[0].value()), ("sink", "patient"));
        match family.get_field_type() {
            prometheus::proto::MetricType::COUNTER => metric.get_counter().get_value(),
            prometheus::proto::MetricType::GAUGE => metric.get_gauge().get_value(),
            _ => metric.get_histogram().get_sample_count() as f64,
        }
    };
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    eventually("ten to be on their way", || value("touchline_sink_in_flight") == 10.0);
    eventually("the lag to be seen", || value("touchline_sink_lag_records") == 20.0);
    assert!((now() - value("touchline_sink_undelivered_since_seconds")).abs() < 30.0);
    gate.allow(1_000);
    eventually("nothing to be left", || value("touchline_sink_lag_records") == 0.0);
    eventually("nothing to be on its way", || value("touchline_sink_undelivered_since_seconds") == 0.0);
    let expect = [("delivered_total", 10.0), ("rejected_total", 10.0), ("in_flight", 0.0), ("failing", 0.0)];
    for (name, expect) in expect {
        assert_eq!(value(&format!("touchline_sink_{name}")), expect, "{name}");
    }
    assert!(value("touchline_sink_delivery_seconds") >= 2.0);
    closed(dispatcher);
}

fn delete_before(kafka: &Kafka, topic: &str, offset: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    on_admin(kafka, async |admin| admin.delete_records(&offsets, &AdminOptions::new()).await.map(drop));
}

fn on_admin(kafka: &Kafka, what: impl AsyncFnOnce(&AdminClient<DefaultClientContext>) -> KafkaResult<()>) {
    let admin = kafka.client().create().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what(&admin)).unwrap();
}
