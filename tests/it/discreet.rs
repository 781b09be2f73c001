//! What is logged and measured tells of nobody, and no secret: at `debug`, of all stages, whatever goes wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{io, thread};

use serde_json::{Value, json};
use touchline_harness::{Kafka, Postgres, eventually};

use crate::harness::{DEADLINE, Place, Running};

/// Stands in every name, address, title and key.
const MARKER: &str = "quillfeather";
const SIGNING_KEY: &str = "whsec_c2lnbmVkIHdpdGggdGhpcyBhbmQgbm90aGluZyBlbHNl";
const TOKEN: &str = "token-in-the-url";
const PASSWORD: &str = "password-of-the-database";
const SECRETS: [&str; 4] = [SIGNING_KEY, "c2lnbmVkIHdpdGggdGhpcyBhbmQgbm90aGluZyBlbHNl", TOKEN, PASSWORD];
/// A trigger that refuses, and repeats what it refuses.
const REFUSES: &str = "create function touchline.refuse() returns trigger language plpgsql as \
                       $$ begin raise exception 'not %', new.contact; end $$; \
                       create trigger refuse before insert on touchline.facts for each row \
                       execute function touchline.refuse()";

/// A receiver that refuses everything, and repeats it.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |stream: io::Result<TcpStream>| -> io::Result<()> {
        let mut reader = BufReader::new(stream?);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line)? > "\r\n".len() {
            let header = line.to_ascii_lowercase();
            length = header.strip_prefix("content-length:").map_or(length, |it| it.trim().parse().unwrap());
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let head = format!("HTTP/1.1 500 No\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        reader.get_mut().write_all(&[head.as_bytes(), &body].concat())
    };
    thread::spawn(move || listener.incoming().for_each(|stream| answer(stream).unwrap_or_default()));
    format!("http://{address}/{TOKEN}?{TOKEN}")
}

struct Deployment {
    kafka: &'static Kafka,
    prefix: String,
    database: String,
    place: Place,
}

impl Deployment {
    fn new() -> Deployment {
        let (kafka, database) = (Kafka::shared(), Postgres::shared().database());
        let place = Place::with(&[("key", SIGNING_KEY), ("password", PASSWORD), ("url", &echo())]);
        let prefix = kafka.unique("discreet");
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = 2\n\
             [[source]]\nname = \"crm\"\ntopics = [\"{prefix}.crm\"]\n[snapshots]\nurl = \"none\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n\
             [[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"out\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\n\
             [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"facts\"]\nurl = \"file:url\"\n\
             secret = \"file:key\"\nallow_private = true\nschedule = [\"10ms\"]\n\
             [[sink]]\nname = \"base\"\nkind = \"postgres\"\ntopics = [\"facts\"]\nurl = \"{database}\"\n\
             password = \"file:password\"\n",
            kafka.bootstrap(),
        );
        place.write("touchline.toml", config);
        kafka.create_topic(&format!("{prefix}.crm"), 1, &[]);
        Deployment { kafka, prefix, database, place }
    }

    fn produce(&self, topic: &str, key: &str, value: &str) {
        let topic = format!("{}.{topic}", self.prefix);
        self.kafka.produce(&topic, None, Some(key.as_bytes()), Some(value.as_bytes()));
    }

    /// An event of the marked person, with this instead of what it should have.
    fn event(&self, id: &str, instead: Value) {
        let email = format!("{MARKER}@acme.example");
        let mut event = json!({
            "id": format!("{MARKER}-{id}"), "source": "crm", "kind": "engagement", "vehicle": "webcast", "title": MARKER,
            "occurred_at": "2026-01-01T00:00:00Z", "account": format!("{MARKER}.example"), "contact": email, "by": email,
        });
        event.as_object_mut().unwrap().extend(instead.as_object().unwrap().clone());
        self.produce("crm", MARKER, &event.to_string());
    }

    /// The stages of all dead letters.
    fn letters(&self) -> Vec<String> {
        let letters = self.kafka.read_committed(&format!("{}.dead_letters", self.prefix));
        let stage =
            |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap()["stage"].as_str().unwrap().to_owned();
        letters.iter().filter_map(|letter| letter.value.as_deref().map(stage)).collect()
    }

    fn start(&self, level: &str) -> Running {
        self.place.start(&format!("TOUCHLINE_LOG={level} run"))
    }

    fn until(&self, stage: &str, count: usize) {
        eventually(DEADLINE, &format!("{count} dead letters of {stage}"), || {
            self.letters().iter().filter(|each| *each == stage).count() == count
        });
    }
}

/// It tells of nobody, and no secret.
#[track_caller]
fn is_discreet(what: &str, text: &str) {
    for told in SECRETS.iter().chain(&[MARKER]) {
        let line = text.lines().find(|line| line.to_lowercase().contains(&told.to_lowercase()));
        assert_eq!(line, None, "{told} is told in {what}");
    }
}

#[test]
fn nobody_is_told_of() {
    let deployment = Deployment::new();
    let running = deployment.start("debug");
    let tables = "select to_regclass('touchline.facts') is not null";
    let postgres = Postgres::shared();
    eventually(DEADLINE, "the tables", || postgres.query(&deployment.database, tables)[0][0].as_deref() == Some("t"));
    postgres.query(&deployment.database, REFUSES);

    let wrong = [
        json!({ "occurred_at": MARKER }),
        json!({ "kind": MARKER }),
        json!({ "minutes": MARKER }),
        json!({ "occurred_at": "2026-02-30", "vehicle": { MARKER: MARKER } }),
        json!({ "contact": { "email": MARKER } }),
        json!({ "revision": format!("{MARKER}-1") }),
    ];
    for (number, instead) in wrong.iter().enumerate() {
        deployment.event(&format!("wrong-{number}"), instead.clone());
    }
    for raw in [MARKER, &format!("{{\"id\":\"{MARKER}"), &format!("[\"{MARKER}\"]"), "\u{0}quillfeather"] {
        deployment.produce("crm", MARKER, raw);
    }
    let profile = json!({ "kind": "profile", "name": format!("Ann {MARKER}"), "job_title": MARKER, "vehicle": null });
    deployment.event("profile", profile);
    deployment.event("engagement", json!({}));
    // What only somebody else can have put there.
    deployment.produce("events", MARKER, &format!("{{\"kind\":\"engagement\",\"id\":\"{MARKER}\"}}"));
    deployment.produce("facts", MARKER, MARKER);
    deployment.until("ingest", wrong.len() + 4);
    deployment.until("process", 1);
    for sink in ["sink hook", "sink base"] {
        eventually(DEADLINE, sink, || deployment.letters().iter().filter(|stage| *stage == sink).count() >= 3);
    }
    for page in ["/metrics", "/readyz"] {
        is_discreet(page, &running.page(page));
    }
    running.signal("TERM");
    let ran = running.ended().ok();
    is_discreet("the log", &ran.err);
    is_discreet("what it prints", &ran.out);
    assert!(ran.err.contains("DEBUG") && ran.err.contains("changes rejected"), "{ran}");

    // The dead letters do, so that they can be given back; and the log where it is asked to.
    let letters = deployment.kafka.read_committed(&format!("{}.dead_letters", deployment.prefix));
    assert!(letters.iter().all(|letter| String::from_utf8_lossy(letter.value.as_deref().unwrap()).contains(MARKER)));
    let running = deployment.start("info,personal=debug");
    deployment.event("another", json!({}));
    eventually(DEADLINE, "a rejection with its reason", || {
        running.said().contains(&format!("not {MARKER}@acme.example"))
    });
    running.signal("TERM");
    running.ended().ok();
}
