//! `dead-letters`: seen, and given back to where they failed.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use touchline_harness::{Kafka, Postgres, Record, eventually};

use crate::harness::{DEADLINE, Dice, Place};
use crate::receiver::Receiver;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A deployment of its own on the broker that all share.
struct Deployment {
    kafka: &'static Kafka,
    prefix: String,
    place: Place,
}

impl Deployment {
    /// `more`: of the configuration, in which `PREFIX` is replaced.
    fn new(more: &str) -> Deployment {
        let kafka = Kafka::shared();
        let prefix = kafka.unique("letters");
        let bootstrap = kafka.bootstrap();
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = 2\n\
             [snapshots]\nurl = \"none\"\n[http]\nlisten = \"127.0.0.1:0\"\n{}",
            more.replace("PREFIX", &prefix)
        );
        let place = Place::with(&[("touchline.toml", config)]);
        place.write("secret", SECRET);
        Deployment { kafka, prefix, place }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn produce(&self, topic: &str, key: Option<&str>, value: Option<&str>) -> (i32, i64) {
        self.kafka.produce(&self.topic(topic), None, key.map(str::as_bytes), value.map(str::as_bytes))
    }

    fn read(&self, topic: &str) -> Vec<Record> {
        self.kafka.read_committed(&self.topic(topic))
    }

    #[track_caller]
    fn wait(&self, topic: &str, count: usize) {
        eventually(DEADLINE, &format!("{count} records in {topic}"), || self.read(topic).len() >= count);
        assert_eq!(self.read(topic).len(), count, "in {topic}");
    }

    /// What `dead-letters replay` says, of all letters or some.
    #[track_caller]
    fn replay(&self, more: &str) -> Value {
        self.place.run(&format!("dead-letters replay --json {more}")).ok().json()
    }
}

/// What [`Deployment::replay`] says.
#[track_caller]
fn check(report: &Value, chosen: u64, given_back: u64, repeated: u64, superseded: u64) {
    let told = ["chosen", "given_back", "repeated", "superseded"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(told, [chosen, given_back, repeated, superseded], "{report}");
}

fn engagement(id: &str, title: &str) -> String {
    json!({
        "id": id, "source": "crm", "kind": "engagement", "vehicle": "call", "occurred_at": "2024-03-05T10:00:00Z",
        "contact": "ann@acme.example", "title": title,
    })
    .to_string()
}

#[test]
fn a_record_that_ingest_refused_goes_through_once_what_was_wrong_is_mended() {
    let deployment = Deployment::new("[[source]]\nname = \"crm\"\ntopics = [\"PREFIX.crm\"]\n");
    let (kafka, place) = (deployment.kafka, &deployment.place);
    kafka.create_topic(&deployment.topic("crm"), 1, &[]);
    let narrow = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "3000")];
    kafka.create_topic(&deployment.topic("events"), 2, &narrow);
    let mut dice = Dice(1);
    let noise: String =
        (0..7_000).map(|_| char::from(*dice.pick(b"abcdefghijklmnopqrstuvwxyz0123456789-+*/"))).collect();
    deployment.produce("crm", Some("k"), Some(&engagement("long", &noise)));
    deployment.produce("crm", Some("k"), Some("no \u{7} json"));
    let mut ingest = place.start("ingest");
    ingest.until("both letters", || deployment.read("dead_letters").len() == 2);

    let listed = place.run("dead-letters list").ok().out;
    let (first, second) = (format!("{}/0/0", deployment.topic("crm")), format!("{}/0/1", deployment.topic("crm")));
    for word in
        [&*first, &*second, r"no \u{7} json", "the record is not a JSON object", "2 dead letters", "max.message.bytes"]
    {
        assert!(listed.contains(word), "{word:?} is not in\n{listed}");
    }
    let listed = place.run("dead-letters list --limit 1 --json --stage ingest").ok().json();
    assert_eq!((&listed["total"], &listed["letters"][0]["from"]), (&2.into(), &first.as_str().into()), "{listed}");
    assert_eq!(place.run("dead-letters list --json --stage process").ok().json()["total"], 0);

    widen(kafka, &deployment.topic("events"));
    check(&deployment.replay("--dry-run"), 2, 2, 0, 0);
    check(&deployment.replay(&format!("--from {first}")), 1, 1, 0, 0);
    let events = || deployment.read("events").into_iter().filter(|record| record.key.is_some()).count();
    ingest.until("the event", || events() == 1);
    // What is as wrong as before becomes another letter, and does not multiply.
    check(&deployment.replay(""), 2, 2, 0, 0);
    ingest.until("the letter again", || deployment.read("dead_letters").len() == 3);
    check(&deployment.replay(""), 3, 2, 1, 0);
    ingest.signal("TERM");
    ingest.ended();
    assert!(deployment.read("crm").iter().all(|record| record.partition == 0));
}

/// Lets a topic take large records.
fn widen(kafka: &Kafka, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = kafka.client().create().unwrap();
    let wide = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("message.timestamp.type", "LogAppendTime")
        .set("max.message.bytes", "1048588");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let altered = runtime.block_on(admin.alter_configs([&wide], &AdminOptions::new())).unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

#[test]
fn events_that_the_processor_refused_are_keyed_as_ingest_keys_them() {
    let deployment = Deployment::new("");
    deployment.kafka.create_topic(&deployment.topic("dead_letters"), 1, &[]);
    deployment.kafka.create_topic(&deployment.topic("events"), 2, &[]);
    let letter = |offset: u64, stage: &str, raw: &str| {
        json!({
            "topic": deployment.topic("events"), "partition": 0, "offset": offset, "stage": stage, "error": "odd", "raw": raw,
        })
    };
    let mut cut = letter(3, "process", &engagement("3", ""));
    cut["raw_bytes"] = 9_999.into();
    let letters = [
        letter(1, "process", &engagement("1", "")),
        letter(2, "process", "{}"),
        cut,
        letter(4, "process", r#"{"kind":"tick","through":"2024-03-05T00:00:00Z"}"#),
        letter(5, "ingest", "{}"),
        letter(6, "sink lake", "{}"),
        letter(7, "elsewhere", "{}"),
    ];
    for letter in letters {
        deployment.produce("dead_letters", None, Some(&letter.to_string()));
    }
    deployment.produce("dead_letters", None, Some("not ours"));
    let ran = deployment.place.run("dead-letters replay").failed(70, &["6 dead letters could not be given back"]);
    for word in [
        "7 dead letters: 1 given back, 6 not",
        "/0/2: it would be refused again: field `kind` is missing",
        "of its 9999 bytes were kept: send it again",
        "/0/4: ticks and rules are made anew",
        "/0/5: no [[source]] reads topic",
        "/0/6: there is no [[sink]] lake any more",
        "/0/7: stage elsewhere is not known",
    ] {
        assert!(ran.out.contains(word), "{word:?} is not in {ran}");
    }
    let there = deployment.produce("events", Some("acme.example"), Some("beside it"));
    let events = deployment.read("events");
    let event = events.iter().find(|record| record.value.as_deref() != Some(b"beside it")).unwrap();
    assert_eq!((event.key.as_deref(), event.partition), (Some(&b"acme.example"[..]), there.0));
    let value: Value = serde_json::from_slice(event.value.as_ref().unwrap()).unwrap();
    assert_eq!((&value["id"], &value["account"]), (&"1".into(), &"acme.example".into()));
}

#[test]
fn rows_that_a_database_refused_are_delivered_once_it_takes_them_unless_they_are_old() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let sink = format!("[[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"facts\"]\nurl = \"{url}\"\n");
    let deployment = Deployment::new(&sink);
    deployment.kafka.create_topic(&deployment.topic("facts"), 2, &[("cleanup.policy", "compact")]);
    let fact = |key: &str, title: &str| {
        let fact = json!({ "id": key, "fact": "touch", "account": "acme", "title": title, "version": 1 });
        deployment.produce("facts", Some(key), Some(&fact.to_string()));
    };
    let keys = || -> Vec<String> {
        let is_there = "select to_regclass('touchline.facts') is not null";
        if postgres.query(&url, is_there)[0][0].as_deref() != Some("t") {
            return Vec::new();
        }
        let rows = postgres.query(&url, "select key from touchline.facts order by key");
        rows.into_iter().flatten().flatten().collect()
    };
    let mut running = deployment.place.start("sink db");
    fact("a", "fine");
    running.until("the first row", || keys() == ["a"]);
    postgres.query(&url, "alter table touchline.facts add constraint picky check (title is distinct from 'odd')");
    ["b", "gone", "newer"].iter().for_each(|key| fact(key, "odd"));
    running.until("the letters", || deployment.read("dead_letters").len() == 3);
    deployment.produce("facts", Some("gone"), None);
    fact("newer", "fine");
    running.until("what came later", || keys() == ["a", "newer"]);
    let listed = deployment.place.run("dead-letters list --stage sink").ok().out;
    assert!(listed.contains("sink db") && listed.contains("picky"), "{listed}");

    // Refused as before.
    let ran = deployment.place.run("dead-letters replay").failed(70, &["1 dead letter could not be given back"]);
    assert!(ran.out.contains("refused again") && ran.out.contains("picky"), "{ran}");
    assert_eq!((keys(), deployment.read("dead_letters").len()), (vec!["a".to_owned(), "newer".to_owned()], 3));

    postgres.query(&url, "alter table touchline.facts drop constraint picky");
    check(&deployment.replay(""), 3, 1, 0, 2);
    assert_eq!(keys(), ["a", "b", "newer"]);
    // The deployment's own sink goes on.
    fact("c", "fine");
    running.until("a row of its own", || keys() == ["a", "b", "c", "newer"]);
    running.signal("TERM");
    running.ended().ok();
}

#[test]
fn alerts_that_a_receiver_refused_are_sent_again_under_their_ids() {
    let receiver = Receiver::refusing("bob");
    let deployment = Deployment::new(&format!(
        "[[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{}\"\nsecret = \"file:secret\"\n\
         allow_private = true\nschedule = [\"10ms\"]\n",
        receiver.url()
    ));
    let alert = |id: &str, contact: &str| {
        let alert = json!({
            "id": id, "rule": "lapse", "change": "opened", "sequence": 1, "account": "acme", "contact": contact,
            "tick": "2024-03-05T00:00:00Z", "due": "2024-03-04T00:00:00Z",
        });
        deployment.produce("alerts", Some(id), Some(&alert.to_string()));
    };
    deployment.kafka.create_topic(&deployment.topic("alerts"), 2, &[]);
    let mut running = deployment.place.start("sink hook");
    alert("1", "ann");
    alert("2", "bob");
    running.until("the letter", || receiver.taken().len() == 1 && deployment.read("dead_letters").len() == 1);
    running.signal("TERM");
    running.ended().ok();

    let ran = deployment.place.run("dead-letters replay").failed(70, &["1 dead letter could not be given back"]);
    assert!(ran.out.contains("refused again"), "{ran}");
    receiver.take_all();
    check(&deployment.replay("--stage sink"), 1, 1, 0, 0);
    let refused = receiver.refused();
    let taken = receiver.taken();
    assert_eq!(taken.len(), 2);
    assert!(refused.iter().all(|message| *message == taken[1]), "{refused:?} and then {taken:?}");
    deployment.wait("dead_letters", 1);
}

#[test]
fn what_cannot_be_asked_for() {
    let deployment = Deployment::new("");
    let refused = |line: &str, code: i32, word: &str| drop(deployment.place.run(line).refused(code, &[word]));
    refused("dead-letters list", 78, "there is no topic letters-");
    refused("dead-letters list --stage ingset", 64, "it is ingest, process, sink");
    refused("dead-letters list --limit 0", 64, "--limit");
    refused("dead-letters replay --from crm/1", 64, "it is TOPIC/PARTITION/OFFSET");
    deployment.place.write("away.toml", "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n");
    refused("dead-letters list --config away.toml", 70, "no answer from 127.0.0.1:1: ");
}
