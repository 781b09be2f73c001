//! A broker that lets in only who comes over TLS and has a password.

use std::time::Duration;

use serde_json::json;
use touchline_harness::{Certified, Kafka, eventually};

use crate::harness::{DEADLINE, Place, Ran, objects};

const CONFIG: i32 = 78;
const PASSWORD: &str = "correct-horse-battery-staple";
const WRONG: &str = "incorrect-horse";
/// A rejected client of a test tries for so long, and a person waits.
const SECONDS: Duration = Duration::from_secs(30);

/// A deployment whose broker demands TLS and a password.
struct Secured {
    kafka: Kafka,
    place: Place,
}

impl Secured {
    fn start() -> Secured {
        let place = Place::with(&[("password", format!("{PASSWORD}\n")), ("wrong", WRONG.to_owned())]);
        let server = Certified::of("127.0.0.1");
        place.write("server.pem", [&*server.key, &*server.certificate].concat());
        place.write("ca.pem", &server.certificate);
        place.write("another.pem", Certified::of("127.0.0.1").certificate);
        let kafka = Kafka::start(&[
            ("listener.security.protocol.map", "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT"),
            ("listener.name.client.ssl.keystore.type", "PEM"),
            ("listener.name.client.ssl.keystore.location", &place.path("server.pem").to_string_lossy()),
            ("listener.name.client.sasl.enabled.mechanisms", "PLAIN"),
            (
                "listener.name.client.plain.sasl.jaas.config",
                &format!(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required user_touchline=\"{PASSWORD}\";"
                ),
            ),
        ]);
        kafka.create_topic("crm", 1, &[]);
        Secured { kafka, place }
    }

    /// Writes a configuration with this authority and password, and names it.
    fn config(&self, ca: &str, password: &str) -> &'static str {
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
             \"ssl.ca.location\" = \"{ca}\"\n\"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"touchline\"\n\
             \"sasl.password\" = \"{password}\"\n\"debug\" = \"broker,conf,security\"\n\
             [topics]\npartitions = 2\n[[source]]\nname = \"crm\"\ntopics = [\"crm\"]\n[snapshots]\nurl = \"none\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n\
             [[sink]]\nname = \"files\"\nkind = \"file\"\ntopics = [\"facts\"]\ndir = \"out\"\n",
            self.kafka.bootstrap(),
        );
        self.place.write("touchline.toml", config);
        "--config touchline.toml"
    }

    /// Produces an engagement past the stages, as a source's own producer does.
    fn engage(&self, contact: &str) {
        let event = json!({
            "id": contact, "source": "crm", "kind": "engagement", "occurred_at": "2026-01-01T00:00:00Z",
            "account": "acme.example", "contact": contact, "vehicle": "webcast",
        });
        self.kafka.produce("crm", None, None, Some(event.to_string().as_bytes()));
    }

    /// Whose engagements have become facts in the sink's files.
    fn told(&self) -> Vec<String> {
        if !self.place.exists("out/facts.jsonl") {
            return Vec::new();
        }
        let text = self.place.read("out/facts.jsonl");
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let facts = objects(whole).into_iter().filter(|fact| fact["fact"] == "engagement");
        facts.map(|fact| fact["contact"].as_str().unwrap().to_owned()).collect()
    }
}

/// Neither password has been told to anybody.
#[track_caller]
fn is_discreet(ran: Ran) -> Ran {
    for secret in [PASSWORD, WRONG] {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{secret} is told: {ran}");
    }
    ran
}

#[test]
fn over_tls_and_with_a_password() {
    let secured = Secured::start();
    let check = |ca: &str, password: &str, before: &str, words: &[&str]| {
        let config = secured.config(ca, password);
        let ran = is_discreet(secured.place.run(&format!("{before} check {config} --json --log-format json")));
        let told = &ran.json()["probes"][0];
        words
            .iter()
            .for_each(|word| assert!(told["found"].as_str().unwrap().contains(word), "{word:?} is not in {told}"));
        assert_eq!(told["level"] == "ok", ran.code == Some(0), "{ran}");
        ran
    };
    let let_in = ["1 broker at", "over sasl_ssl, logged in"];
    let variable = |password: &str| format!("KAFKA_PASSWORD={password} TOUCHLINE_LOG=debug");
    check("ca.pem", "file:password", "", &let_in).ok();
    check("ca.pem", "env:KAFKA_PASSWORD", &variable(PASSWORD), &let_in).ok();
    let refused = ["uthentication failed", "[kafka]"];
    check("ca.pem", "env:KAFKA_PASSWORD", &variable(WRONG), &refused).refused(CONFIG, &[]);
    check("another.pem", "file:password", "", &["certificate", "ssl.ca.location"]).refused(CONFIG, &[]);
    check("nowhere.pem", "file:password", "", &["ssl.ca.location failed", "[kafka.properties]"]).refused(CONFIG, &[]);
    // The same for people.
    let ran = is_discreet(secured.place.run(&format!("check {}", secured.config("ca.pem", "file:wrong"))));
    assert!(ran.out.contains(refused[0]), "{ran}");
    ran.refused(CONFIG, &[]);

    // All clients of all stages.
    let config = secured.config("ca.pem", "env:KAFKA_PASSWORD");
    let before = variable(PASSWORD);
    let running = secured.place.start(&format!("{before} run {config} --log-format json"));
    secured.engage("ann");
    eventually(DEADLINE, "Ann's engagement in the sink's files", || secured.told() == ["ann"]);
    running.signal("TERM");
    let ran = is_discreet(running.ended()).ok();
    assert!(ran.err.contains("librdkafka") || ran.err.contains("sasl"), "it says little at debug level: {ran}");
    let ran = secured.place.run(&format!("{before} process {config} --until-end --json --log-format json"));
    assert_eq!(is_discreet(ran).ok().json()["dead_letters"], 0);

    // Who is not let in waits, and says why.
    let config = secured.config("another.pem", "file:wrong");
    let running = secured.place.start(&format!("TOUCHLINE_LOG=debug run {config} --log-format json"));
    eventually(SECONDS, "the reason", || running.said().contains("certificate verify failed"));
    running.signal("TERM");
    is_discreet(running.ended()).ok();
}
