//! How soon sales know: from the moment at which a lapse becomes true to the arrival of its webhook, through a real Kafka.
//!
//! `cargo bench --bench corridor [-- EVENTS_A_SECOND [SECONDS]]`: starts a broker, `touchline run` and a receiver on this
//! machine, produces at that rate (2,000, for 60 s), one event in twenty of somebody whose silence becomes a lapse ten
//! seconds later; and prints how long after that moment the receiver had the alert.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a benchmark ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde_json::{Value, json};
use touchline::report::resources::{Used, used_by};
use touchline_harness::Kafka;

/// From an engagement's arrival to its lapse: long enough for the whole corridor, many times.
const LEAD: SignedDuration = SignedDuration::from_secs(10);
/// One event in so many lapses.
const LAPSING: u64 = 20;
/// The others are of these.
const CONTACTS: u64 = 50_000;
/// For everything to start.
const START: Duration = Duration::from_secs(20);
/// For the last alerts to arrive.
const TAIL: Duration = Duration::from_secs(15);

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (rate, seconds) = (numbers.next().unwrap_or(2_000), numbers.next().unwrap_or(60));
    let kafka = Kafka::start(&[]);
    kafka.create_topic("crm", 4, &[]);
    let (receiver, arrivals) = receive();
    let dir = tempfile::tempdir().unwrap();
    let mut touchline = start(&kafka, &receiver, dir.path());
    thread::sleep(START);
    let dues = produce(&kafka, rate, seconds);
    thread::sleep(TAIL);
    let used = used_by(touchline.id());
    touchline.kill().unwrap();
    touchline.wait().unwrap();
    report(&dues, &arrivals, rate, used);
}

/// The process, which says what goes wrong.
fn start(kafka: &Kafka, receiver: &str, dir: &std::path::Path) -> Child {
    let config = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\npartitions = 4\n[[source]]\nname = \"crm\"\ntopics = [\"crm\"]\n\
         [state]\ndir = \"state\"\n[snapshots]\nurl = \"none\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[sink]]\nname = \"sales\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{receiver}\"\n\
         secret = \"env:BENCH_SECRET\"\nallow_private = true\n",
        kafka.bootstrap()
    );
    fs::write(dir.join("bench.toml"), config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_touchline"))
        .args(["run", "--config", "bench.toml"])
        .current_dir(dir)
        .env("TOUCHLINE_LOG", "warn")
        .env("BENCH_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .spawn()
        .unwrap()
}

/// Produces at the rate, and says when whose lapse is due.
fn produce(kafka: &Kafka, rate: u64, seconds: u64) -> BTreeMap<String, Timestamp> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap()).set("enable.idempotence", "true").set("linger.ms", "5");
    let producer: ThreadedProducer<_> = config.create().unwrap();
    let mut dues = BTreeMap::new();
    let begun = Instant::now();
    for number in 0..rate * seconds {
        let at = Duration::from_secs_f64(number as f64 / rate as f64);
        thread::sleep(at.saturating_sub(begun.elapsed()));
        let (contact, account, when) = if number % LAPSING == 0 {
            let due = Timestamp::now() + LEAD;
            let contact = format!("lapsing{number}");
            dues.insert(contact.clone(), due);
            (contact, format!("account{number}.example"), three_months_before(due))
        } else {
            let contact = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % CONTACTS;
            (format!("c{contact}"), format!("a{}.example", contact / 20), Timestamp::now())
        };
        let event = json!({
            "id": format!("e{number}"), "source": "crm", "kind": "engagement", "occurred_at": when.to_string(),
            "account": account, "contact": contact, "vehicle": "webcast",
        });
        let record = event.to_string();
        producer.send(BaseRecord::<str, str>::to("crm").payload(&record)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(TAIL).unwrap();
    dues
}

/// What falls due at `due` has been silent since then.
fn three_months_before(due: Timestamp) -> Timestamp {
    let due: Zoned = due.to_zoned(TimeZone::UTC);
    due.checked_sub(jiff::Span::new().months(3)).unwrap().timestamp()
}

/// A receiver of webhooks: its URL, and who lapsed when it was told.
fn receive() -> (String, Receiver<(String, Timestamp)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, arrivals) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || serve(stream, &sender));
        }
    });
    (url, arrivals)
}

fn serve(stream: TcpStream, arrivals: &Sender<(String, Timestamp)>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let now = Timestamp::now();
        writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        let message: Value = serde_json::from_slice(&body).ok()?;
        if message["type"] == "lapse.opened" {
            arrivals.send((message["data"]["contact"].as_str()?.to_owned(), now)).ok()?;
        }
    }
}

fn report(dues: &BTreeMap<String, Timestamp>, arrivals: &Receiver<(String, Timestamp)>, rate: u64, used: Option<Used>) {
    let first: BTreeMap<String, Timestamp> = arrivals.try_iter().fold(BTreeMap::new(), |mut first, (contact, at)| {
        first.entry(contact).or_insert(at);
        first
    });
    let told = dues.iter().filter_map(|(contact, due)| Some(first.get(contact)?.duration_since(*due).as_secs_f64()));
    let mut delays: Vec<f64> = told.collect();
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get(((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1)));
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| at(share).copied().unwrap_or(f64::NAN));
    println!("{rate} events a second; {} of {} lapses told", delays.len(), dues.len());
    println!("from due to the webhook's arrival: p50 {p50:.2} s, p99 {p99:.2} s, the latest {most:.2} s");
    if let Some(Used { cpu_s, max_rss_mb }) = used {
        println!("touchline run: {cpu_s:.1} CPU-seconds, {max_rss_mb:.0} MB at the most");
    }
}
