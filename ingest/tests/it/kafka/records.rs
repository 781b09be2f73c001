//! What becomes of records.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use touchline_harness::{Kafka, Record, eventually};

use super::kit::{Corridor, Process, WITHIN, event};

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn headers(record: &Record) -> BTreeMap<&str, String> {
    record.headers.iter().map(|(key, value)| (&**key, text(value.as_deref()))).collect()
}

#[test]
fn every_record_is_an_event_a_dead_letter_or_counted() {
    let corridor = Corridor::new(Kafka::shared());
    let topic = corridor.source("crm", 1);
    let bad = r#"{"id":"x","kind":"engagement"}"#;
    let internal = event("crm", "i").replace("\"ann\"", "\"ann@ours.example\"");
    let tick = r#"{"kind":"tick","through":"2030-01-01T00:00:00Z"}"#;
    let good = event("crm", "good");
    let values: [Option<&[u8]>; 7] = [
        Some(good.as_bytes()),
        Some(bad.as_bytes()),
        Some(b"{\xff\xfe!"),
        None,
        Some(b""),
        Some(internal.as_bytes()),
        Some(tick.as_bytes()),
    ];
    corridor.kafka.produce_all(&topic, values.map(|value| (Some(0), Some(&b"key"[..]), value)));

    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    let letters = corridor.kafka.read_committed(&corridor.topic("dead_letters"));
    let told: Vec<_> = letters.iter().map(|letter| text(letter.key.as_deref())).collect();
    assert_eq!(told, [1, 2, 4, 6].map(|offset| format!("{topic}/0/{offset}/0")));
    let first: Value = serde_json::from_slice(letters[0].value.as_ref().unwrap()).unwrap();
    let error = "field `source` is missing; every event needs it";
    assert_eq!(
        first,
        json!({"topic": topic, "partition": 0, "offset": 1, "stage": "ingest", "error": error, "raw": bad})
    );
    assert_eq!(
        headers(&letters[0]),
        BTreeMap::from([
            ("topic", topic.clone()),
            ("partition", "0".to_owned()),
            ("offset", "1".to_owned()),
            ("stage", "ingest".to_owned()),
            ("error", error.to_owned()),
        ])
    );
    let second: Value = serde_json::from_slice(letters[1].value.as_ref().unwrap()).unwrap();
    assert_eq!(second["raw_base64"], "e//+IQ==");

    assert_eq!(corridor.log().events(), BTreeMap::from([("good", 1)]));
    let count = |outcome| process.metric("touchline_ingest_records_total", Some(outcome));
    assert_eq!(
        ["event", "dead_letter", "internal", "tombstone"].map(count),
        [Some(1.0), Some(4.0), Some(1.0), Some(1.0)]
    );
    assert_eq!(process.metric("touchline_ingest_dead_letters_total", Some("not_utf8")), Some(1.0));
    process.stop();
}

#[test]
fn keys_go_where_the_java_client_puts_them() {
    // org.apache.kafka.common.utils.UtilsTest, testMurmur2.
    let cases: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 1);
    let mut config = corridor.config("a", &["crm"]);
    config.topics.events = corridor.topic("wide");
    config.topics.partitions = 64;
    corridor.kafka.create_topic(&config.topics.events, 64, &[]);
    for (account, _) in cases {
        let value = event("crm", account).replace(&format!("account of {account}"), account);
        corridor.kafka.produce(&corridor.topic("crm"), None, None, Some(value.as_bytes()));
    }
    let events = config.topics.events.clone();
    let process = Process::start(config);
    let mut found = BTreeMap::new();
    eventually(WITHIN, "all are forwarded", || {
        let records = corridor.kafka.read_committed(&events);
        found =
            records.iter().filter_map(|record| Some((text(Some(record.key.as_ref()?)), record.partition))).collect();
        found.len() == cases.len()
    });
    let expect = cases.map(|(account, hash)| (account.to_owned(), (hash & i32::MAX) % 64));
    assert_eq!(found, BTreeMap::from(expect));
    process.stop();
}

#[test]
fn traces_go_through_and_aborted_events_do_not() {
    let corridor = Corridor::new(Kafka::shared());
    let topic = corridor.source("crm", 1);
    let writer: BaseProducer =
        corridor.kafka.client().set("transactional.id", corridor.topic("writer")).create().unwrap();
    writer.init_transactions(WITHIN).unwrap();
    for (id, is_kept) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        writer.begin_transaction().unwrap();
        let headers = ["traceparent", "other"].into_iter().fold(OwnedHeaders::new(), |headers, key| {
            headers.insert(Header { key, value: Some(&format!("{key} of {id}")) })
        });
        let value = event("crm", id);
        writer.send(BaseRecord::<str, str>::to(&topic).payload(&value).headers(headers)).unwrap();
        writer.flush(WITHIN).unwrap();
        if is_kept { writer.commit_transaction(WITHIN) } else { writer.abort_transaction(WITHIN) }.unwrap();
    }
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    assert_eq!(corridor.log().events(), BTreeMap::from([("a", 1), ("c", 1)]));
    let events = corridor.kafka.read_committed(&corridor.topic("events"));
    let kept: Vec<_> = events.iter().filter(|record| record.key.is_some()).map(headers).collect();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|headers| headers.len() == 1 && headers["traceparent"].starts_with("traceparent of")));
    process.stop();
}

#[test]
fn what_a_topic_does_not_take_is_a_dead_letter_as_far_as_its_topic_takes_it() {
    let small = [("max.message.bytes", "100000")];
    let corridor = Corridor::with(Kafka::shared(), &small, &small);
    let topic = corridor.source("crm", 1);
    let long = |id: &str, bytes: usize| {
        // Random enough that compression does not make it small.
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (state >> 33) as u8 % 90)
        };
        let title: String = (0..bytes).map(|_| next()).filter(|each| !matches!(each, '"' | '\\')).collect();
        event("crm", id).replace("\"vehicle\"", &format!("\"note\":\"{title}\",\"vehicle\""))
    };
    let (large, bad) = (long("large", 90_000), long("bad", 200_000).replace("engagement", "engagements"));
    let (small, too_large) = (event("crm", "small"), long("too_large", 300_000));
    for value in [&large, &too_large, &bad, &small] {
        corridor.kafka.produce(&topic, None, None, Some(value.as_bytes()));
    }
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    assert_eq!(corridor.log().events(), BTreeMap::from([("large", 1), ("small", 1)]));
    let letters = corridor.kafka.read_committed(&corridor.topic("dead_letters"));
    let mut told: Vec<_> = letters
        .iter()
        .map(|letter| {
            let json: Value = serde_json::from_slice(letter.value.as_ref().unwrap()).unwrap();
            let kept = json["raw"].as_str().unwrap().len();
            (text(letter.key.as_deref()), kept, json["raw_bytes"].as_u64().unwrap(), json["error"].to_string())
        })
        .collect();
    told.sort();
    assert_eq!(told.iter().map(|(key, ..)| &**key).collect::<Vec<_>>(), [1, 2].map(|at| format!("{topic}/0/{at}/0")));
    assert!(told[0].3.contains("max.message.bytes"), "{}", told[0].3);
    assert!(told.iter().all(|(_, kept, whole, _)| *kept == 65_536 && *whole > 150_000), "{told:?}");
    process.stop();
}
