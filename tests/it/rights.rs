//! Each stage as a user of its own on a broker that allows it what `deploy/kafka-acls.txt` lists, and nothing else.

use std::fs;
use std::thread;

use jiff::{SignedDuration, Span, Timestamp, tz::TimeZone};
use serde_json::json;
use touchline_harness::{Kafka, eventually};

use crate::harness::{DEADLINE, Place, Running};
use crate::receiver::Receiver;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka-acls.txt");
/// The stages as the list calls them, whose names are also their users'; and how each is started.
const STAGES: [(&str, &str); 3] = [("ingest", "ingest"), ("process", "process"), ("sink", "sink hook")];
/// Whoever looks after dead letters, as the list calls them.
const LOOKS_AFTER: &str = "dead-letters";
/// Whoever erases contacts, as the list calls them.
const ERASES: &str = "erase";
/// One that was refused for good ends like this, and its supervisor starts it again.
const FAILED: i32 = 70;
const CONFIG: i32 = 78;
/// No alert, so that the receiver never sees it and a dead letter is due.
const NO_ALERT: &[u8] = b"no alert";

/// What some stages may do, to resources of one kind.
#[derive(Clone, Debug)]
struct Grant {
    stages: Vec<String>,
    operations: Vec<String>,
    is_prefixed: bool,
    /// `--topic`, `--group` or `--transactional-id`.
    kind: String,
    names: Vec<String>,
}

impl Grant {
    /// A line of the list, divided by the kind of resource.
    fn of(line: &str) -> Vec<Grant> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let stages: Vec<String> = words.next().unwrap().split(',').map(str::to_owned).collect();
        let (mut operations, mut is_prefixed, mut grants) = (Vec::new(), false, Vec::<Grant>::new());
        while let Some(option) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{option} without a value: {line}"));
            match &*option {
                "--operation" => operations.push(value),
                "--resource-pattern-type" => is_prefixed = value == "prefixed",
                _ => match grants.iter_mut().find(|grant| grant.kind == option) {
                    Some(grant) => grant.names.push(value),
                    None => grants.push(Grant {
                        stages: stages.clone(),
                        operations: operations.clone(),
                        is_prefixed,
                        kind: option,
                        names: vec![value],
                    }),
                },
            }
        }
        grants
    }

    /// One stage's part of it, an operation each.
    fn by_operation(&self, stage: &str) -> Vec<Grant> {
        let one = |operation: &String| Grant { operations: vec![operation.clone()], ..self.clone() };
        if self.stages.iter().any(|each| each == stage) {
            self.operations.iter().map(one).collect()
        } else {
            Vec::new()
        }
    }

    /// Adds it (`--add`) for these stages, or removes it.
    fn set(&self, kafka: &Kafka, how: &str, stages: &[String]) {
        let users = stages.iter().map(|stage| ("--allow-principal", format!("User:{stage}")));
        let operations = self.operations.iter().map(|operation| ("--operation", operation.clone()));
        let pattern = ("--resource-pattern-type", if self.is_prefixed { "prefixed" } else { "literal" }.to_owned());
        let names = self.names.iter().map(|name| (&*self.kind, name.clone()));
        let pairs: Vec<_> = users.chain(operations).chain([pattern]).chain(names).collect();
        let words = pairs.iter().flat_map(|(option, value)| [*option, value]);
        kafka.acls(&[how].into_iter().chain(words).collect::<Vec<_>>());
    }
}

/// All of the list; the sink there is `hook`.
fn grants() -> Vec<Grant> {
    let text = fs::read_to_string(LIST).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let text = lines.join("\n").replace("\n ", " ").replace("NAME", "hook");
    text.lines().filter(|line| !line.is_empty()).flat_map(Grant::of).collect()
}

fn users() -> [&'static str; 5] {
    let [ingest, process, sink] = STAGES.map(|(user, _)| user);
    [ingest, process, sink, LOOKS_AFTER, ERASES]
}

fn password(user: &str) -> String {
    format!("the-password-of-{user}")
}

/// A broker, and what runs on it.
struct Guarded {
    kafka: Kafka,
    place: Place,
    receiver: Receiver,
}

impl Guarded {
    fn start() -> Guarded {
        let users = users().map(|user| (user, password(user)));
        let kafka = Kafka::guarded(users.iter().map(|(user, password)| (*user, &**password)));
        let receiver = Receiver::refusing("nothing");
        let place = Place::with(&[("secret", "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0\n".to_owned())]);
        for (user, _) in &users {
            let config = format!(
                "[kafka]\nbootstrap_servers = \"{}\"\n[kafka.properties]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n\
                 \"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = \"{user}\"\n\
                 \"sasl.password\" = \"env:KAFKA_PASSWORD\"\n\
                 [topics]\npartitions = 2\n[[source]]\nname = \"crm\"\ntopics = [\"crm\"]\n\
                 [state]\ndir = \"state-{user}\"\nmemory = \"64MiB\"\n[snapshots]\nurl = \"file://{}\"\n\
                 [http]\nlisten = \"127.0.0.1:0\"\n\
                 [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\n\
                 url = \"{}\"\nsecret = \"file:secret\"\nallow_private = true\n",
                kafka.bootstrap(),
                place.path("snapshots").display(),
                receiver.url(),
            );
            place.write(&format!("{user}.toml"), config);
        }
        Guarded { kafka, place, receiver }
    }

    fn run(&self, stage: &str) -> Running {
        let (user, command) = STAGES.iter().find(|(user, _)| *user == stage).unwrap();
        self.place.start(&self.line(user, command))
    }

    fn line(&self, user: &str, command: &str) -> String {
        format!("KAFKA_PASSWORD={} {command} --config {user}.toml", password(user))
    }

    /// Without it, the stage names all that it lacks, and ends only with that.
    fn is_missed(&self, stage: &str, grant: &Grant) {
        let stages = [stage.to_owned()];
        grant.set(&self.kafka, "--remove", &stages);
        let running = self.run(stage);
        if grant.kind == "--transactional-id" && stage == "sink" {
            self.kafka.produce("touchline.alerts", None, Some(b"1"), Some(NO_ALERT));
        }
        let is_told = |said: &str, name: &String| {
            let mut bad = said.lines().filter(|line| ["WARN", "ERROR", "error: "].iter().any(|it| line.contains(it)));
            bad.any(|line| line.contains(&**name))
        };
        eventually(DEADLINE, &format!("{stage} says that it lacks {grant:?}"), || {
            let said = running.said();
            grant.names.iter().all(|name| is_told(&said, name))
        });
        running.signal("TERM");
        let ran = running.ended();
        assert!(ran.code == Some(0) || ran.code == Some(FAILED), "{ran}");
        grant.set(&self.kafka, "--add", &stages);
    }

    /// Produces an engagement of three months ago, all but two seconds.
    fn engage(&self, contact: &str) {
        let due = (Timestamp::now() + SignedDuration::from_secs(2)).to_zoned(TimeZone::UTC);
        let at = due.checked_sub(Span::new().months(3)).unwrap().timestamp();
        let event = json!({
            "id": contact, "source": "crm", "kind": "engagement", "occurred_at": at.to_string(),
            "account": "acme.example", "contact": contact, "vehicle": "webcast",
        });
        self.kafka.produce("crm", None, None, Some(event.to_string().as_bytes()));
    }

    fn is_told_of(&self, contact: &str) -> bool {
        let taken = self.receiver.taken();
        taken.iter().any(|(_, body)| body.contains(contact) && body.contains("\"opened\""))
    }

    /// The stages that have written dead letters.
    fn letters(&self) -> Vec<String> {
        let letters = self.kafka.read_committed("touchline.dead_letters");
        let stage = |value: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&value).unwrap()["stage"].to_string();
        letters.into_iter().filter_map(|letter| letter.value.map(stage)).collect()
    }
}

#[test]
fn what_is_listed_is_enough_and_each_of_it_is_missed() {
    let guarded = Guarded::start();
    let kafka = &guarded.kafka;
    let grants = grants();
    kafka.create_topic("crm", 1, &[]);
    kafka.produce("crm", None, None, Some(b"no event"));
    for grant in &grants {
        grant.set(kafka, "--add", &grant.stages);
    }

    let creates = |grant: &&Grant| grant.operations == ["Create"];
    for grant in grants.iter().filter(creates) {
        guarded.is_missed("ingest", grant);
    }
    let running = STAGES.map(|(stage, _)| guarded.run(stage));
    guarded.engage("ann@acme.example");
    eventually(DEADLINE, "Ann's alert", || guarded.is_told_of("ann@acme.example"));
    eventually(DEADLINE, "the dead letter of what is no event", || guarded.letters() == ["\"ingest\""]);
    for running in running {
        running.signal("TERM");
        let ran = running.ended().ok();
        let waits = ran.err.lines().filter(|line| line.contains("WARN") && !line.contains("neither see nor make"));
        assert_eq!(waits.count(), 0, "{ran}");
    }

    thread::scope(|scope| {
        for (stage, _) in STAGES {
            let (guarded, grants) = (&guarded, &grants);
            scope.spawn(move || {
                for grant in grants.iter().filter(|grant| !creates(grant)) {
                    grant.by_operation(stage).iter().for_each(|grant| guarded.is_missed(stage, grant));
                }
            });
        }
    });
    // Nothing is lost by it.
    guarded.engage("bob@acme.example");
    let running = STAGES.map(|(stage, _)| guarded.run(stage));
    eventually(DEADLINE, "Bob's alert", || guarded.is_told_of("bob@acme.example"));
    eventually(DEADLINE, "the dead letter of what is no alert", || guarded.letters().contains(&"\"sink hook\"".into()));
    let ran = guarded.place.run(&guarded.line(ERASES, "erase bob@acme.example --json")).ok();
    let (is_done, kept) = (ran.json()["is_done"].clone(), ran.json()["kept"].clone());
    assert_eq!(is_done, true, "{ran}");
    assert!(kept.as_array().unwrap().iter().all(|kept| kept["until"].is_string()), "{ran}");
    for running in running {
        running.signal("TERM");
        running.ended().ok();
    }
    let ran = guarded.place.run(&guarded.line(LOOKS_AFTER, "dead-letters replay --stage ingest --json")).ok();
    assert_eq!(ran.json()["given_back"], 1, "{ran}");
    // Who looks whether all is well is told before.
    let ran = guarded.place.run(&guarded.line(LOOKS_AFTER, "check"));
    assert!(ran.out.contains("this user may not see it: allow Describe on it"), "{ran}");
    assert_eq!(ran.code, Some(CONFIG), "{ran}");
}
