//! Contacts who are erased: nothing of them is left anywhere, and nothing brings them back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use memchr::memmem;
use serde_json::{Value, json};
use touchline_harness::{Kafka, Postgres, Record, eventually};

use crate::harness::{DEADLINE, Place, Ran, Running, until};
use crate::receiver::Receiver;

/// What nobody else is called.
const NAME: &str = "xk4q9wjz7vbn";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY: &str = "a key of the test's, which is long enough";
const USAGE: i32 = 64;
const CONFIG: i32 = 78;

/// All stages at work, with a sink of each kind.
struct Corridor {
    kafka: &'static Kafka,
    place: Place,
    receiver: Receiver,
    url: String,
    prefix: String,
    running: Running,
}

impl Corridor {
    fn start() -> Corridor {
        let (kafka, receiver, url) = (Kafka::shared(), Receiver::refusing("nothing"), Postgres::shared().database());
        let prefix = kafka.unique("erasure");
        kafka.create_topic(&format!("{prefix}.crm"), 2, &[]);
        let place = Place::with(&[("secret", SECRET), ("key", KEY)]);
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = 3\n\
             [[source]]\nname = \"crm\"\ntopics = [\"{prefix}.crm\"]\n[alerts]\nsince = 2000-01-01T00:00:00Z\n\
             [state]\ndir = \"state\"\nmemory = \"64MiB\"\n[snapshots]\nurl = \"file://{}\"\nevery = \"10s\"\n\
             [erasure]\nkey = \"file:key\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"out\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\n\
             [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{}\"\nsecret = \"file:secret\"\n\
             allow_private = true\n\
             [[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\nurl = \"{url}\"\n",
            kafka.bootstrap(),
            place.path("snapshots").display(),
            receiver.url(),
        );
        place.write("run.toml", config);
        let running = place.start("run --config run.toml");
        Corridor { kafka, place, receiver, url, prefix, running }
    }

    fn produce(&self, events: &[Value]) {
        for event in events {
            self.kafka.produce(&format!("{}.crm", self.prefix), None, None, Some(event.to_string().as_bytes()));
        }
    }

    fn query(&self, sql: &str) -> Vec<String> {
        let rows = Postgres::shared().query(&self.url, sql);
        rows.into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|"))
            .collect()
    }

    /// The tables with a row in which a text stands anywhere.
    fn tables_with(&self, text: &str) -> Vec<String> {
        let tables = self.query("select table_name::text from information_schema.tables where table_schema = 'touchline' and table_type = 'BASE TABLE' order by 1");
        let holds = |table: &String| {
            self.query(&format!("select count(*) from touchline.{table} as t where t::text ~* '{text}'")) != ["0"]
        };
        tables.into_iter().filter(holds).collect()
    }

    fn erase(&self, line: &str) -> Ran {
        self.place.run(&format!("erase --config run.toml {line}"))
    }

    /// The bodies of the messages in which a text stands, as types.
    fn told(&self, text: &str) -> Vec<String> {
        let bodies = self.receiver.taken().into_iter().map(|(_, body)| body);
        let with = bodies.filter(|body| body.contains(text));
        with.map(|body| serde_json::from_str::<Value>(&body).unwrap()["type"].as_str().unwrap().to_owned()).collect()
    }
}

/// An engagement so many days ago.
fn engagement(contact: &str, days: i64) -> Value {
    let at = Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    json!({"id": format!("{contact} {days}"), "source": "crm", "kind": "engagement", "occurred_at": at.to_string(),
           "account": "acme.example", "contact": contact, "vehicle": "webcast", "title": format!("With {contact}")})
}

/// The files below a directory in which a text stands, in bytes.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && memmem::find(&bytes, text.as_bytes()).is_some()
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Whether a file is what RocksDB notes of its files, which may name those that are gone until it is opened again.
fn is_note(file: &str) -> bool {
    file.contains("MANIFEST")
}

/// All stages know of the contact: her alerts, one of the account that lists her, her state and a snapshot.
fn known(contact: &str) -> Corridor {
    let corridor = Corridor::start();
    let others = (0..50).map(|number| engagement(&format!("other{number}@acme.example"), 100 + number % 50));
    // The account falls silent with her, so that its alert lists her.
    corridor.produce(&others.chain([engagement(contact, 200), engagement(contact, 95)]).collect::<Vec<_>>());
    corridor.produce(&[json!({"id": "p", "source": "crm", "kind": "profile", "occurred_at": "2024-01-01T00:00:00Z",
        "account": "acme.example", "contact": contact, "name": NAME, "role": "decision_maker"})]);
    let listed =
        format!("select count(*) from touchline.alerts where contact is null and record -> 'contacts' ? '{contact}'");
    until("all of it is known everywhere", || {
        corridor.place.exists("out/alerts.jsonl")
            && corridor.place.read("out/alerts.jsonl").contains(NAME)
            && !corridor.told(NAME).is_empty()
            && corridor.tables_with(NAME) == ["alert_changes", "alerts", "facts", "scores"]
            && corridor.query(&listed) == ["1"]
            && !files_with(&corridor.place.path("state"), NAME).is_empty()
            && !files_with(&corridor.place.path("snapshots"), NAME).is_empty()
    });
    corridor
}

impl Corridor {
    fn records(&self, topic: &str) -> Vec<Record> {
        self.kafka.read_committed(&format!("{}.{topic}", self.prefix))
    }

    /// The newest record of each key in which a text stands.
    fn newest_with(&self, topic: &str, text: &str) -> Vec<Record> {
        let with = |record: &Record| memmem::find(record.key.as_deref().unwrap_or_default(), text.as_bytes()).is_some();
        let newest = self.records(topic).into_iter().filter(with).map(|record| (record.key.clone(), record));
        newest.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}

#[test]
fn nothing_is_left_of_a_contact_and_nothing_brings_it_back() {
    let contact = format!("{NAME}@acme.example");
    let corridor = known(&contact);
    // All of one account, so that what comes last is read last.
    for topic in ["alerts", "scores", "facts"] {
        let partitions: BTreeSet<_> = corridor.records(topic).into_iter().map(|record| record.partition).collect();
        assert_eq!(partitions.len(), 1, "{topic}");
    }
    let would = corridor.erase(&format!("--dry-run --json {}", contact.to_uppercase())).ok().json();
    assert_eq!((&would["erasures"][0]["account"], &would["is_done"]), (&json!("acme.example"), &json!(false)));
    let erased = corridor.erase(&format!("--json {contact}")).ok().json();
    let id = told_of(&erased, &corridor.prefix);

    assert_eq!(corridor.tables_with(NAME), [""; 0]);
    assert_eq!(corridor.query(&format!("select sequence from touchline.erasures where id = '{id}'")), ["1"]);
    assert_eq!(corridor.query(&format!("select fact from touchline.facts where id = '{id}'")), ["erasure"]);
    assert_eq!(corridor.query("select count(*) > 40 from touchline.alerts"), ["t"]);
    assert_eq!(corridor.told(NAME).last().map(String::as_str), Some("contact.erased"));
    assert_eq!(corridor.told(NAME).iter().filter(|told| *told == "contact.erased").count(), 1);
    assert!(!corridor.place.read("out/alerts.jsonl").contains(NAME));
    for topic in ["scores", "facts"] {
        let newest = corridor.newest_with(topic, NAME);
        assert!(!newest.is_empty() && newest.iter().all(|record| record.value.is_none()), "{topic}");
    }
    let state = corridor.place.path("state");
    eventually(DEADLINE, "the files of the state are rewritten", || {
        files_with(&state, NAME).iter().all(|file| is_note(file))
    });

    // Late events, and all that there was, once more.
    let again: Vec<Value> = [200, 95, 40, 1].into_iter().map(|days| engagement(&contact, days)).collect();
    corridor.produce(&again);
    corridor.produce(&[engagement("newcomer@acme.example", 1)]);
    until("the newcomer's fact", || {
        corridor.query("select count(*) from touchline.facts where contact = 'newcomer@acme.example'") == ["1"]
    });
    assert_eq!(corridor.tables_with(NAME), [""; 0]);
    corridor.running.signal("TERM");
    let said = corridor.running.ended().ok();
    assert!(!said.out.contains(NAME) && !said.err.contains(NAME));
    for dir in ["state", "out"] {
        assert!(files_with(&corridor.place.path(dir), NAME).iter().all(|file| is_note(file)));
    }
}

/// What the command says of one contact of one account, once it is done; its id from there on.
fn told_of(erased: &Value, prefix: &str) -> String {
    assert_eq!(erased["is_done"], true, "{erased}");
    // Two engagements, her profile, and the lapses between and after.
    assert!(erased["erasures"][0]["facts"].as_u64().is_some_and(|facts| facts >= 4), "{erased}");
    assert_eq!(erased["sinks"].as_array().unwrap().len(), 3);
    let kept = erased["kept"].as_array().unwrap();
    let what: Vec<&str> = kept.iter().map(|kept| kept["what"].as_str().unwrap()).collect();
    assert!(what.contains(&"snapshots") && what.contains(&&*format!("topic {prefix}.events")), "{what:?}");
    assert!(kept.iter().all(|kept| kept["until"].is_string()), "{erased}");
    erased["erasures"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_nobody_knows_is_not_erased_unless_its_account_is_named() {
    let corridor = Corridor::start();
    corridor.produce(&[engagement("ann@acme.example", 10)]);
    let unknown = "no contact bob@acme.example is known in";
    eventually(DEADLINE, "ann is known", || corridor.erase("--dry-run ann@acme.example").code == Some(0));
    corridor.erase("bob@acme.example").refused(USAGE, &[unknown, "--account"]);
    let erased = corridor.erase("--json bob@acme.example --account acme.example").ok().json();
    assert_eq!(erased["is_done"], true);
    corridor.produce(&[engagement("bob@acme.example", 10), engagement("carl@acme.example", 10)]);
    let known = "select contact from touchline.scores where contact is not null order by 1";
    eventually(DEADLINE, "carl is known", || corridor.query(known).len() == 2);
    assert_eq!(corridor.query(known), ["ann@acme.example", "carl@acme.example"]);
    corridor.place.write("key", "short");
    corridor.erase("ann@acme.example").refused(CONFIG, &["[erasure] key has 5 bytes", "openssl rand"]);
}

#[test]
fn files_that_are_replayed_erase_as_well() {
    let event = |id: u32, at: &str, contact: &str| {
        json!({"id": id.to_string(), "source": "crm", "kind": "engagement", "occurred_at": at, "contact": contact,
               "account": "acme.example", "vehicle": "meeting"})
        .to_string()
    };
    let deleted = |at: &str, is_deleted: bool| {
        json!({"id": at, "source": "crm", "kind": "profile", "occurred_at": at, "contact": NAME, "account": "acme.example",
               "deleted": is_deleted})
        .to_string()
    };
    let first = [
        event(1, "2024-01-10T10:00:00Z", NAME),
        event(2, "2024-01-10T10:00:00Z", "al"),
        event(3, "2024-06-10T10:00:00Z", "al"),
    ];
    let place = Place::with(&[("h.jsonl", first.join("\n") + "\n")]);
    let run = |of: &str| place.run(&format!("replay h.jsonl --out out --state state {of}")).ok();
    run("");
    assert!(!files_with(&place.path("state"), NAME).is_empty() && !files_with(&place.path("out"), NAME).is_empty());
    let rest = [
        deleted("2024-06-11T00:00:00Z", true),
        event(4, "2024-06-12T10:00:00Z", NAME),
        event(5, "2024-06-12T10:00:00Z", "al"),
    ];
    place.append("h.jsonl", rest.join("\n") + "\n");
    run("");
    for dir in ["state", "out"] {
        assert!(files_with(&place.path(dir), NAME).iter().all(|file| is_note(file)));
    }
    run("");
    for dir in ["state", "out"] {
        assert_eq!(files_with(&place.path(dir), NAME), [""; 0]);
    }
    place.run("state verify state").ok();
    // The same as all at once.
    place.run("replay h.jsonl --out whole").ok();
    for file in ["facts.jsonl", "scores.jsonl", "lapses.csv"] {
        assert_eq!(place.read(&format!("out/{file}")), place.read(&format!("whole/{file}")));
    }
    // Who comes back is somebody from then on.
    let back = [
        deleted("2024-07-01T00:00:00Z", false),
        event(6, "2024-07-02T10:00:00Z", NAME),
        event(7, "2024-06-30T10:00:00Z", NAME),
    ];
    place.append("h.jsonl", back.join("\n") + "\n");
    run("");
    let scores = place.objects("out/scores.jsonl");
    let score = scores.iter().find(|score| score["contact"] == NAME).unwrap();
    assert_eq!((&score["engagements"], &score["last_engagement_at"]), (&json!(1), &json!("2024-07-02T10:00:00Z")));
    // Who was erased with one key is not known by another.
    place.write("key.toml", "[erasure]\nkey = \"file:key\"\n");
    place.write("key", KEY);
    let other = place.run("replay h.jsonl --out out --state state --config key.toml");
    other.refused(CONFIG, &["erased with another key"]);
}
