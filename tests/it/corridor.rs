//! `touchline run`: from a source topic to a sink, all stages in one process, on a broker of the test's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use touchline_harness::{Kafka, eventually};

use crate::harness::{DEADLINE, Place, Ran, Running};

/// How often it is asked for a page.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// All stages at work.
struct Corridor {
    kafka: Kafka,
    place: Place,
    running: Option<Running>,
}

impl Corridor {
    fn start() -> Corridor {
        let kafka = Kafka::start(&[]);
        kafka.create_topic("crm", 2, &[]);
        let corridor = Corridor::on(kafka);
        corridor.until_ready();
        corridor
    }

    fn on(kafka: Kafka) -> Corridor {
        let place = Place::new();
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\npartitions = 4\n\
             [[source]]\nname = \"crm\"\ntopics = [\"crm\"]\n\
             [state]\ndir = \"state\"\nmemory = \"64MiB\"\n[snapshots]\nurl = \"file://{}\"\n\
             [[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"out\"\ntopics = [\"alerts\", \"facts\", \"dead_letters\"]\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            kafka.bootstrap(),
            place.path("snapshots").display(),
        );
        place.write("run.toml", config);
        let running = Some(place.start("run --config run.toml"));
        Corridor { kafka, place, running }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The status and body of a page.
    fn get(&self, page: &str) -> (u16, String) {
        let said = self.running().said();
        let address = said.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let Some(address) = address else { return (0, String::new()) };
        let Ok(mut stream) = TcpStream::connect(address) else { return (0, String::new()) };
        write!(stream, "GET {page} HTTP/1.1\r\nHost: touchline\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    fn until_ready(&self) {
        let since = Instant::now();
        while self.get("/readyz").0 != 200 {
            assert!(since.elapsed() < DEADLINE, "not ready: {:?}\n{}", self.get("/readyz"), self.running().said());
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The value of a metric without labels, if it has one.
    fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics");
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Produces an engagement whose silence becomes a lapse so long from now.
    fn engage(&self, contact: &str, due_in: Duration) {
        // Any instant that is exactly three calendar months later is due then.
        let due = Timestamp::now() + SignedDuration::try_from(due_in).unwrap();
        let mut at = due.to_zoned(jiff::tz::TimeZone::UTC);
        at = at.checked_sub(jiff::Span::new().months(3)).unwrap();
        let event = json!({
            "id": contact, "source": "crm", "kind": "engagement", "occurred_at": at.timestamp().to_string(),
            "account": "acme.example", "contact": contact, "vehicle": "webcast",
        });
        self.kafka.produce("crm", None, None, Some(event.to_string().as_bytes()));
    }

    /// The lapses that have been told of a contact.
    fn lapses(&self, contact: &str) -> Vec<Value> {
        if !self.place.exists("out/alerts.jsonl") {
            return Vec::new();
        }
        let text = self.place.read("out/alerts.jsonl");
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let alerts = crate::harness::objects(whole);
        alerts.into_iter().filter(|it| it["contact"] == contact && it["rule"] == "lapse").collect()
    }

    /// Ends it as a supervisor does.
    fn drain(mut self) -> Ran {
        let running = self.running.take().unwrap();
        running.signal("TERM");
        running.ended()
    }
}

#[test]
fn a_lapse_is_told_when_it_comes_true_and_not_before() {
    let corridor = Corridor::start();
    corridor.engage("ann", Duration::from_secs(8));
    eventually(DEADLINE, "the engagement's fact", || {
        corridor.get("/metrics").1.contains("touchline_processor_events_total 1")
    });
    eventually(DEADLINE, "Ann's lapse", || !corridor.lapses("ann").is_empty());
    let alert = &corridor.lapses("ann")[0];
    assert_eq!(alert["change"], "opened");
    let (due, tick): (Timestamp, Timestamp) =
        (alert["due"].as_str().unwrap().parse().unwrap(), alert["tick"].as_str().unwrap().parse().unwrap());
    assert!(tick > due, "{alert}");
    assert!(Timestamp::now() > due);
    corridor.kafka.produce("crm", None, None, Some(b"not json"));
    eventually(DEADLINE, "the dead letter", || {
        corridor.place.exists("out/dead_letters.jsonl")
            && corridor.place.read("out/dead_letters.jsonl").contains("not json")
    });
    for name in ["touchline_clock_lag_seconds", "touchline_sink_delivered_total", "touchline_processor_commit_seconds"]
    {
        assert!(corridor.get("/metrics").1.contains(name), "{name}");
    }
    corridor.drain().ok();
}

#[test]
fn how_long_the_log_outlasts_the_snapshots_is_told() {
    const MONTH: f64 = 30.0 * 86_400.0;
    let corridor = Corridor::start();
    let mut margin = None;
    eventually(DEADLINE, "the margin", || {
        margin = corridor.metric("touchline_processor_snapshot_margin_seconds");
        margin.is_some()
    });
    let age = MONTH - margin.unwrap();
    assert!((0.0..DEADLINE.as_secs_f64()).contains(&age), "{margin:?}");
    corridor.drain().ok();
}

#[test]
fn a_start_without_a_broker_waits_for_it() {
    let kafka = Kafka::start(&[]);
    kafka.create_topic("crm", 2, &[]);
    kafka.kill();
    let corridor = Corridor::on(kafka);
    eventually(DEADLINE, "not ready, and why", || {
        let (status, body) = corridor.get("/readyz");
        status == 503 && body.starts_with("kafka: no answer from 127.0.0.1")
    });
    assert_eq!(corridor.get("/livez").0, 200);
    corridor.kafka.restart();
    corridor.until_ready();
    corridor.engage("ann", Duration::from_secs(2));
    eventually(DEADLINE, "Ann's lapse", || !corridor.lapses("ann").is_empty());
    let ran = corridor.drain().ok();
    assert_eq!(ran.err.matches("no answer from").count(), 1, "{ran}");
    assert!(ran.err.contains("the brokers answer again"), "{ran}");
}

#[test]
fn without_a_broker_it_stays_and_then_goes_on() {
    let corridor = Corridor::start();
    corridor.engage("ann", Duration::from_secs(2));
    eventually(DEADLINE, "Ann's lapse", || !corridor.lapses("ann").is_empty());
    corridor.kafka.kill();
    eventually(DEADLINE, "not ready", || corridor.get("/readyz").0 == 503);
    assert_eq!(corridor.get("/livez").0, 200);
    corridor.kafka.restart();
    corridor.until_ready();
    corridor.engage("bob", Duration::from_secs(2));
    eventually(DEADLINE, "Bob's lapse", || !corridor.lapses("bob").is_empty());
    assert_eq!(corridor.lapses("ann").len(), 1);
    // What it could not do meanwhile it has said.
    assert_eq!(corridor.drain().code, Some(0));
}
