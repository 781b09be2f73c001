//! A broker: what is written is read, and it survives its death.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use touchline_harness::{Kafka, Record, eventually};

const WITHIN: Duration = Duration::from_secs(30);

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.value.as_deref().map_or("-", |value| str::from_utf8(value).unwrap())).collect()
}

#[test]
fn what_is_written_is_read() {
    let kafka = Kafka::shared();
    let topic = kafka.unique("written");
    kafka.create_topic(&topic, 2, &[("message.timestamp.type", "LogAppendTime")]);
    assert_eq!(kafka.read_committed(&topic), []);
    assert_eq!(kafka.produce(&topic, Some(1), Some(b"k"), Some(b"a")), (1, 0));
    let placed = kafka.produce_all(&topic, [(Some(0), None, Some(&b"b"[..])), (Some(1), Some(&b"k"[..]), None)]);
    assert_eq!(placed, [(0, 0), (1, 1)]);

    let records = kafka.read_committed(&topic);
    let places: Vec<_> = records.iter().map(|record| (record.partition, record.offset)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!(values(&records), ["b", "a", "-"]);
    assert_eq!(records[1].key.as_deref(), Some(&b"k"[..]));
    assert!(records.iter().all(|record| record.timestamp.is_some() && record.headers.is_empty()));
}

#[test]
fn a_key_goes_where_the_java_client_sends_it() {
    let kafka = Kafka::shared();
    let topic = kafka.unique("keyed");
    kafka.create_topic(&topic, 64, &[]);
    // org.apache.kafka.common.utils.Utils: toPositive(murmur2("foobar".getBytes())) is 1357151166.
    assert_eq!(kafka.produce(&topic, None, Some(b"foobar"), None).0, 1_357_151_166 % 64);
}

#[test]
fn what_is_not_committed_is_not_read() {
    let kafka = Kafka::shared();
    let topic = kafka.unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    let writer: BaseProducer = kafka.client().set("transactional.id", kafka.unique("writer")).create().unwrap();
    writer.init_transactions(WITHIN).unwrap();
    for (value, is_kept) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        writer.begin_transaction().unwrap();
        writer.send(BaseRecord::<str, str>::to(&topic).payload(value)).unwrap();
        if is_kept {
            writer.commit_transaction(WITHIN).unwrap();
        } else {
            // What is aborted before it was sent would leave nothing in the log.
            writer.flush(WITHIN).unwrap();
            writer.abort_transaction(WITHIN).unwrap();
        }
    }
    assert_eq!(values(&kafka.read_committed(&topic)), ["a", "c"]);
}

#[test]
fn it_survives_its_death() {
    let kafka = Kafka::start(&[("message.max.bytes", "2000")]);
    kafka.create_topic("log", 1, &[]);
    kafka.produce("log", None, None, Some(b"before"));
    let bootstrap = kafka.bootstrap().to_owned();

    kafka.kill();
    assert!(std::net::TcpStream::connect(&bootstrap).is_err(), "it answers still");
    kafka.restart();
    assert_eq!(kafka.bootstrap(), bootstrap);
    kafka.produce("log", None, None, Some(b"killed"));

    kafka.stop();
    kafka.restart();
    kafka.produce("log", None, None, Some(b"stopped"));

    kafka.pause();
    let client: BaseConsumer = kafka.client().create().unwrap();
    assert!(client.fetch_metadata(Some("log"), Duration::from_secs(1)).is_err(), "it answers while it is paused");
    kafka.resume();
    eventually(WITHIN, "it answers again", || client.fetch_metadata(Some("log"), WITHIN).is_ok());
    kafka.produce("log", None, None, Some(b"paused"));

    assert_eq!(values(&kafka.read_committed("log")), ["before", "killed", "stopped", "paused"]);
}
