//! What docs/operations.md says: states of the version before, the change from one version to the next while all stages
//! work, and another deployment made of what is published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use memchr::memmem;
use serde_json::Value;
use touchline_harness::{Kafka, Postgres};

use crate::community;
use crate::faults::works::Works;
use crate::harness::{Place, TOUCHLINE};
use crate::kafka::{Deployment, Ticks};
use crate::oracle::Answer;
use crate::receiver::Receiver;

/// `history.jsonl`, and what the version with schema 4 has made of it by 1 October 2024: `state` and `out`.
const BEFORE: &[u8] = include_bytes!("../data/schema-4.tar.gz");
/// In the history, somebody with a long timeline, a record that was voided, and one that was first another's.
const NAME: &str = "xk4q9wjz7vbn";
const FILES: [&str; 5] = ["alerts.jsonl", "scores.jsonl", "facts.jsonl", "dead_letters.jsonl", "lapses.csv"];

/// The directory as that version has left it.
fn unpacked() -> Place {
    let place = Place::with(&[("before.tar.gz", BEFORE)]);
    let tar = ["-xzf", "before.tar.gz", "-C"].map(Into::into).into_iter().chain([place.path("").into_os_string()]);
    assert!(Command::new("tar").args(tar).current_dir(place.path("")).status().unwrap().success());
    place
}

fn is_named(place: &Place) -> bool {
    let files = fs::read_dir(place.path("state/p0")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().any(|path| memmem::find(&fs::read(path).unwrap(), NAME.as_bytes()).is_some())
}

fn lines(place: &Place, name: &str) -> Vec<String> {
    let mut lines: Vec<_> = place.read(name).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_state_of_the_version_before_goes_on() {
    let [old, new] = [unpacked(), Place::new()];
    new.write("history.jsonl", old.read("history.jsonl"));
    new.run("replay history.jsonl --state state --out out --as-of 2024-10-01").ok();
    // Looking leaves it as it is.
    old.run("state verify state").ok();
    let forget = format!(
        r#"{{"id":"p1","source":"crm","kind":"profile","occurred_at":"2024-12-01T00:00:00Z","contact":"{NAME}@acme.example","deleted":true}}"#
    );
    for place in [&old, &new] {
        place.run("replay history.jsonl --state state --out out --as-of 2024-11-01").ok();
        place.run("state verify state").ok();
        assert!(is_named(place));
        place.append("history.jsonl", format!("{forget}\n"));
        place.write("key", "a key of the test's, which is long enough");
        place.write("touchline.toml", "[erasure]\nkey = \"file:key\"\n");
        place.run("replay history.jsonl --state state --out out --config touchline.toml --as-of 2025-01-01").ok();
        place.run("state verify state").ok();
        assert!(!is_named(place), "what the old version had no index of is left");
    }
    for name in FILES {
        let name = format!("out/{name}");
        assert!(lines(&old, &name) == lines(&new, &name), "{name} is not what this version makes alone");
    }
    // Of each table its name, and how many rows it has.
    let inspected = |place: &Place| -> Vec<String> {
        let ran = place.run("state inspect state").ok();
        ran.out
            .lines()
            .filter(|line| !line.starts_with("read:"))
            .filter_map(|line| Some(line.get(..38)?.to_owned()))
            .collect()
    };
    assert_eq!(inspected(&old), inspected(&new));
}

/// The version before: another build in `TOUCHLINE_BEFORE` (`make upgrade`), or else this one.
fn before() -> PathBuf {
    std::env::var("TOUCHLINE_BEFORE").unwrap_or_else(|_| TOUCHLINE.to_owned()).into()
}

#[test]
fn stages_are_replaced_one_after_the_other() {
    let (postgres, receiver) = (Postgres::shared(), Receiver::refusing("nothing at all"));
    let works = Works::start_of(&before(), Kafka::shared(), postgres, postgres.port(), receiver);
    works.check(21, |works, _| {
        sleep(Duration::from_secs(6));
        for stage in 0..works.stages() {
            works.drain(stage);
            works.start_again(stage);
            sleep(Duration::from_secs(2));
        }
    });
}

#[test]
fn the_version_before_goes_on_from_the_snapshots_that_it_has_made() {
    let deployment = Deployment::new(2);
    let place = &deployment.place;
    let log = deployment.log(community::lines(), Ticks::Daily);
    let process = deployment.process_with("one", &format!("file://{}", place.path("snapshots").display()));
    let finish = |program: &Path| place.start_of(program, &format!("{process} --until-end --json")).ended().ok().json();
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").arg("-a").args([from, to].map(|name| place.path(name))).status().unwrap();
        assert!(copied.success());
    };
    let (first, rest) = log.split_at(log.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    deployment.append(first);
    finish(&before());
    copy("snapshots", "copy");
    deployment.append(second);
    let by_this = finish(Path::new(TOUCHLINE));
    assert_ne!(by_this["published"], 0);

    fs::rename(place.path("one"), place.path("of this version")).unwrap();
    fs::rename(place.path("snapshots"), place.path("snapshots of this version")).unwrap();
    copy("copy", "snapshots");
    deployment.append(&deployment.tick("2001-01-01T00:00:00Z").collect::<Vec<_>>());
    let again = finish(&before());
    assert_eq!((&again["events"], &again["published"]), (&by_this["events"], &Value::from(0)), "it has been said");
    deployment.append(third);
    finish(&before());
    Answer::read(deployment.kafka, &deployment.prefix).is_like(Answer::truth(), false);
}

/// With more partitions, or on another cluster. Whatever was sent out of order, twice or corrected stands in the facts once.
#[test]
fn another_deployment_is_made_of_the_facts_of_one() {
    const EVENTS: [&str; 6] = ["touch", "engagement", "advocacy", "value", "profile", "action"];
    let [one, other] = [4, 7].map(Deployment::new);
    one.feed(&community::shuffled(3), Ticks::End);
    // A call that never was, and one that was another's: each was published first as it was thought to be.
    let call = |id: &str, revision: u8, contact: &str, more: &str| {
        format!(
            r#"{{"id":"{id}","source":"crm","kind":"engagement","occurred_at":"2020-05-05T00:00:00Z","account":"acme.example","contact":"{contact}","vehicle":"call","revision":{revision}{more}}}"#
        )
    };
    let first = [call("void", 1, "ann", ""), call("moved", 1, "ann", "")];
    let then = [call("void", 2, "ann", r#","void":true"#), call("moved", 2, "bob", "")];
    for calls in [first, then] {
        one.feed(&calls, Ticks::End);
        one.finish(&one.process("one"));
    }
    // As compaction will leave them, some day.
    let mut facts = BTreeMap::new();
    for record in one.kafka.read_committed(&one.topic("facts")) {
        facts.insert(record.key, record.value);
    }
    let facts = facts.into_values().flatten();
    let event = |fact: Vec<u8>| {
        let mut fact: Value = serde_json::from_slice(&fact).unwrap();
        let members = fact.as_object_mut().unwrap();
        let kind = members.remove("fact").unwrap();
        members.remove("version");
        members.insert("kind".to_owned(), kind.clone());
        EVENTS.contains(&kind.as_str().unwrap()).then(|| fact.to_string())
    };
    let events: Vec<String> = facts.filter_map(event).collect();
    other.feed(&events, Ticks::End);
    other.finish(&other.process("other"));
    Answer::read(other.kafka, &other.prefix).is_like(&Answer::read(one.kafka, &one.prefix), false);
}

#[test]
fn a_log_that_was_made_again_is_not_gone_on_with() {
    let deployment = Deployment::new(1);
    let (kafka, place, events) = (deployment.kafka, &deployment.place, deployment.topic("events"));
    deployment.feed(&community::lines()[..1000], Ticks::End);
    let process = deployment.process("one");
    deployment.finish(&process);
    kafka.delete_topic(&events);
    kafka.create_topic(&events, 1, &[]);
    deployment.feed(&community::lines()[..10], Ticks::End);
    let words = ["the state in one/p0 stands at offset 1001", "the log ends at 11", "the topic was made again"];
    place.run(&format!("{process} --until-end")).failed(70, &words);
    fs::rename(place.path("one/p0"), place.path("before")).unwrap();
    assert_eq!(deployment.finish(&process)["events"], 10);
}

/// Whoever writes into the log keeps to the partitions that are used, of which an account has one.
#[test]
fn who_is_erased_by_hand_is_erased_where_the_account_is() {
    let deployment = Deployment::new(4);
    let (kafka, place, events) = (deployment.kafka, &deployment.place, deployment.topic("events"));
    let line = deployment.configure("one", "[snapshots]\nurl = \"none\"\n[erasure]\nkey = \"file:key\"\n");
    place.write("key", "a key of the test's, which is long enough");
    place.write("one.toml", place.read("one.toml").replace("partitions = 4", "partitions = 4\nunused = 3"));
    kafka.create_topic(&deployment.topic("same"), 4, &[]);
    kafka.add_partitions(&events, 7);
    // By chance, all would be among the first four of seven once in 250 times; and where they are is no matter of chance.
    for number in 0..10 {
        let account = format!("account{number}.example");
        let (of_ingest, _) = kafka.produce(&deployment.topic("same"), None, Some(account.as_bytes()), Some(b"{}"));
        place.run(&format!("erase ann@{account} --account {account} --wait 0 {line}"));
        let records = kafka.read_committed(&events);
        let erased = records.iter().find(|record| record.key.as_deref() == Some(account.as_bytes()));
        assert_eq!(erased.map(|record| record.partition), Some(of_ingest), "{account}");
    }
}
