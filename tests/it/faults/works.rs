//! A whole deployment at work: each stage a process of its own, two of each that share work, a load that does not wait for
//! them, and every kind of sink behind them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use touchline_harness::{Kafka, Postgres};

use crate::harness::{DEADLINE, Dice, Place, Ran, Running, TOUCHLINE};
use crate::kafka::Deployment;
use crate::oracle::{self, Answer, Sent};
use crate::receiver::Receiver;

/// Of the log, and of the source.
pub const PARTITIONS: u32 = 4;
/// Lines sent at once, and the pause behind them: a few hundred events a second.
const PART: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);
/// With them, engagements whose silence comes true within the test, in no more than so long.
const LIVE: usize = 4;
const DUE_WITHIN_MS: u64 = 15_000;
/// And some whose silence does not come true within the test, by far.
const LATER: usize = 1;
const LATER_DUE: SignedDuration = SignedDuration::from_mins(50);
/// And lines that were sent before, some of them long ago.
const AGAIN: usize = 5;
/// How often it is looked whether all is done: it costs the servers something.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const INTERNAL: i32 = 70;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The processes: the name of a state directory, and the command.
const STAGES: [(&str, &str); 7] = [
    ("ingest-a", "ingest"),
    ("ingest-b", "ingest"),
    ("process-a", "process"),
    ("process-b", "process"),
    ("files", "sink files"),
    ("hook", "sink hook"),
    ("tables", "sink tables"),
];

/// What each of the sinks is given.
const SINKS: [(&str, &[&str]); 3] = [
    ("files", &["alerts", "scores", "facts", "dead_letters"]),
    ("hook", &["alerts"]),
    ("tables", &["alerts", "scores", "facts"]),
];

/// See the module.
pub struct Works<'s> {
    pub deployment: Deployment<'s>,
    pub receiver: Receiver,
    postgres: &'s Postgres,
    /// Of the database that the tables are in.
    pub url: String,
    stages: Vec<Stage>,
    /// Events that come before all others.
    pub first: Vec<String>,
    /// Processors may end and say that their state is damaged, and somebody follows the advice.
    pub may_end: bool,
}

struct Stage {
    name: &'static str,
    line: String,
    running: Option<Running>,
}

impl<'s> Works<'s> {
    /// All stages, started. PostgreSQL is found at `port`.
    pub fn start(kafka: &'s Kafka, postgres: &'s Postgres, port: u16, receiver: Receiver) -> Works<'s> {
        Works::start_of(Path::new(TOUCHLINE), kafka, postgres, port, receiver)
    }

    /// The same with another build of touchline, until a stage is started again.
    pub fn start_of(
        program: &Path,
        kafka: &'s Kafka,
        postgres: &'s Postgres,
        port: u16,
        receiver: Receiver,
    ) -> Works<'s> {
        let deployment = Deployment::on(kafka, PARTITIONS);
        kafka.create_topic(&deployment.topic("source"), PARTITIONS as i32, &[]);
        let url = postgres.database();
        let found = url.replace(&postgres.port().to_string(), &port.to_string());
        let config = format!(
            "[[source]]\nname = \"any\"\ntopics = [\"{}\"]\n[alerts]\nsince = \"2020-01-01T00:00:00Z\"\n\
             [snapshots]\nurl = \"file://{}\"\nevery = \"10s\"\n\
             [[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"out\"\ntopics = [\"alerts\", \"scores\", \"facts\", \"dead_letters\"]\n\
             [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{}\"\nsecret = \"file:secret\"\n\
             allow_private = true\nallow_http = true\ntimeout = \"1s\"\nschedule = [{}]\n\
             [[sink]]\nname = \"tables\"\nkind = \"postgres\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\nurl = \"{found}?sslmode=disable\"\n",
            deployment.topic("source"),
            deployment.place.path("snapshots").display(),
            receiver.url(),
            // No message is given up within a test.
            vec!["\"500ms\""; 200].join(", "),
        );
        deployment.place.write("secret", SECRET);
        let start = |(name, command): &(&'static str, &str)| {
            let named = format!("[kafka.properties]\n\"client.id\" = \"{name}\"\n{config}");
            let line = format!("{command} {}", deployment.configure(name, &named));
            let running = Some(deployment.place.start_of(program, &line));
            Stage { name, line, running }
        };
        let stages = STAGES.iter().map(start).collect();
        Works { stages, deployment, receiver, postgres, url, first: Vec::new(), may_end: false }
    }

    /// How many stages there are.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// The numbers of the stages of a command.
    pub fn stages_of(&self, command: &str) -> Vec<usize> {
        (0..STAGES.len()).filter(|number| STAGES[*number].1 == command).collect()
    }

    pub fn start_again(&mut self, stage: usize) {
        let place = &self.deployment.place;
        let stage = &mut self.stages[stage];
        stage.running.get_or_insert_with(|| place.start(&stage.line));
    }

    pub fn kill(&mut self, stage: usize) {
        let mut running = self.stages[stage].running.take().unwrap();
        assert!(!running.has_ended(), "{} has ended by itself:\n{}", self.stages[stage].name, running.said());
        running.kill();
    }

    /// Starts a stage, if it does not run, so that none of its files can become larger than `kib`.
    pub fn start_full(&mut self, stage: usize, kib: u32) {
        let place = &self.deployment.place;
        let stage = &mut self.stages[stage];
        stage.running.get_or_insert_with(|| place.start_limited(&stage.line, kib));
    }

    /// Changes what a stage is told, from its next start on.
    pub fn configure(&mut self, stage: usize, from: &str, to: &str) {
        let name = format!("{}.toml", self.stages[stage].name);
        let config = self.deployment.place.read(&name);
        assert!(config.contains(from), "{config}");
        self.deployment.place.write(&name, config.replacen(from, to, 1));
    }

    /// Starts a stage, if it does not run, with variables in its environment: `NAME=VALUE NAME=VALUE`.
    pub fn start_under(&mut self, stage: usize, variables: &str) {
        let place = &self.deployment.place;
        let stage = &mut self.stages[stage];
        stage.running.get_or_insert_with(|| place.start(&format!("{variables} {}", stage.line)));
    }

    /// What a stage has said, if it has ended by itself; it can then be started again.
    pub fn has_ended(&mut self, stage: usize) -> Option<Ran> {
        let running = &mut self.stages[stage].running;
        let has_ended = running.as_mut().is_some_and(Running::has_ended);
        running.take_if(|_| has_ended).map(Running::ended)
    }

    /// Ends a stage as a supervisor does.
    pub fn drain(&mut self, stage: usize) {
        let running = self.stages[stage].running.take().unwrap();
        running.signal("TERM");
        running.ended().ok();
    }

    /// The number of a stage, by its name.
    pub fn stage(&self, name: &str) -> usize {
        self.stages.iter().position(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage is called {name}"))
    }

    /// Where a stage keeps its state.
    pub fn dir(&self, stage: usize) -> PathBuf {
        self.deployment.place.path(self.stages[stage].name)
    }

    pub fn signal(&self, stage: usize, name: &str) {
        self.stages[stage].running.as_ref().unwrap().signal(name);
    }

    /// For so long, starts processors again that have ended, as a person does who reads what they have said.
    pub fn supervise(&mut self, lasting: Duration) {
        let since = Instant::now();
        while since.elapsed() < lasting {
            self.mend();
            thread::sleep(LOOK_EVERY);
        }
    }

    fn mend(&mut self) {
        for stage in self.stages_of("process") {
            let Some(ran) = self.has_ended(stage) else { continue };
            ran.failed(INTERNAL, &["is damaged", "restore the newest snapshot"]);
            fs::remove_dir_all(self.dir(stage)).unwrap();
            self.start_again(stage);
        }
    }

    /// Lets events come, for as long as `disturb` takes; then waits until all is done, and holds everything that came out
    /// against what went in.
    #[track_caller]
    pub fn check(mut self, seed: u64, disturb: impl FnOnce(&mut Works<'s>, &mut Dice)) {
        let load = Load::new(seed, std::mem::take(&mut self.first));
        let is_over = AtomicBool::new(false);
        let (kafka, source, log) =
            (self.deployment.kafka, self.deployment.topic("source"), self.deployment.topic("events"));
        let (sent, disturbed) = thread::scope(|scope| {
            let sending = scope.spawn(|| load.send(kafka, &source, &log, &is_over));
            // A disturbance that fails lets the load end as well.
            let end = Ending(&is_over);
            let since = Instant::now();
            disturb(&mut self, &mut Dice(seed));
            drop(end);
            (sending.join().unwrap(), since.elapsed())
        });
        let since = Instant::now();
        self.settle();
        let settled = since.elapsed();
        let answer = oracle::check(&self.deployment, &sent);
        self.check_files(&answer);
        self.check_tables(&answer);
        self.check_messages(&answer);
        // A row of the table in docs/faults.md.
        println!(
            "| {} | {} | {} | {} | {:.0} s | {:.0} s |",
            thread::current().name().unwrap_or_default(),
            sent.events.len(),
            sent.letters.len(),
            answer.alerts.len(),
            disturbed.as_secs_f64(),
            settled.as_secs_f64(),
        );
    }

    /// Everything that was sent goes through, and the stages end one after the other.
    fn settle(&mut self) {
        (0..STAGES.len()).for_each(|stage| self.start_again(stage));
        let (kafka, prefix) = (self.deployment.kafka, self.deployment.prefix.clone());
        let topic = |name: &str| format!("{prefix}.{name}");
        let [source, log, ingest, processor] = ["source", "events", "ingest", "processor"].map(topic);
        self.until("ingest has read its source", |_| kafka.is_read(&source, &ingest));
        // It sends no ticks any more, so the log has an end.
        self.drain_all("ingest");
        self.until("the log is processed", |_| kafka.is_read(&log, &processor));
        self.drain_all("process");
        for (sink, topics) in SINKS {
            let group = topic(&format!("sink.{sink}"));
            for name in topics {
                self.until(&format!("{sink} has all {name}"), |_| kafka.is_read(&topic(name), &group));
            }
        }
        for command in ["sink files", "sink hook", "sink tables"] {
            self.drain_all(command);
        }
    }

    /// Waits, and says what the stages say if it waits in vain.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Works<'s>) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            thread::sleep(LOOK_EVERY);
            if self.may_end {
                self.mend();
            }
            let has_ended = self.stages.iter_mut().filter_map(|stage| stage.running.as_mut()).any(Running::has_ended);
            if has_ended || since.elapsed() > DEADLINE {
                let why = if has_ended { "; one has ended by itself" } else { "" };
                panic!("waited in vain until {what}{why}{}", self.said());
            }
        }
    }

    /// What the stages say, for a test that fails.
    pub fn said(&self) -> String {
        let said = |stage: &Stage| Some(format!("\n{}:\n{}", stage.name, stage.running.as_ref()?.said()));
        self.stages.iter().filter_map(said).collect()
    }

    fn drain_all(&mut self, command: &str) {
        for stage in self.stages_of(command) {
            self.drain(stage);
        }
    }

    fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.postgres.query(&self.url, sql)
    }

    /// The alert changes that were received; one may have come several times, the same each time.
    fn received(&self) -> BTreeMap<(String, u64), Value> {
        let mut messages: BTreeMap<String, String> = BTreeMap::new();
        for (id, body) in self.receiver.taken() {
            let before = messages.insert(id.clone(), body.clone());
            assert!(before.is_none_or(|before| before == body), "{id} is the name of two messages");
        }
        let alert = |body: &String| serde_json::from_str::<Value>(body).unwrap()["data"].clone();
        messages.values().map(alert).map(|alert| (oracle::change(&alert), alert)).collect()
    }

    fn check_messages(&self, answer: &Answer) {
        assert!(self.received() == answer.alerts, "the receiver has got other alerts");
    }

    fn check_files(&self, answer: &Answer) {
        let objects = |name: &str| self.deployment.place.objects(&format!("out/{name}.jsonl"));
        let files = Answer::of(objects("facts"), objects("scores"), objects("alerts"));
        assert!(files == *answer, "the files hold something else");
    }

    /// The tables hold the newest of each key, and each change of an alert.
    fn check_tables(&self, answer: &Answer) {
        let records = |table: &str| -> Vec<Value> {
            let rows = self.query(&format!("select record from touchline.{table}"));
            rows.into_iter().flatten().map(|record| serde_json::from_str(&record.unwrap()).unwrap()).collect()
        };
        let changes: BTreeMap<_, _> =
            records("alert_changes").into_iter().map(|alert| (oracle::change(&alert), alert)).collect();
        assert!(changes == answer.alerts, "the tables hold other alerts");
        let tables = Answer::of(records("facts"), records("scores"), Vec::new());
        assert!(tables.facts == answer.facts && tables.scores == answer.scores, "the tables hold something else");
    }
}

/// Says that it is over, also when a test fails.
struct Ending<'f>(&'f AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is sent: two years of a company as `touchline generate` writes them, silences that come true meanwhile, and what is
/// no event at all.
struct Load {
    first: Vec<String>,
    history: Vec<String>,
    dice: Dice,
}

impl Load {
    fn new(seed: u64, first: Vec<String>) -> Load {
        let place = Place::new();
        place.run(&format!("generate --contacts 400 --events 40000 --seed {seed} --to load.jsonl")).ok();
        Load { first, history: place.read("load.jsonl").lines().map(str::to_owned).collect(), dice: Dice(seed) }
    }

    fn send(mut self, kafka: &Kafka, source: &str, log: &str, is_over: &AtomicBool) -> Sent {
        let mut sent = Sent::default();
        let mut history = std::mem::take(&mut self.history).into_iter();
        let mut before: Vec<String> = Vec::new();
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut lines: Vec<String> = history.by_ref().take(PART).collect();
            before.extend(lines.iter().cloned());
            lines.append(&mut self.first);
            lines.extend((0..AGAIN).map(|_| self.dice.pick(&before).clone()));
            for each in 0..LIVE + LATER {
                number += 1;
                let due = SignedDuration::from_millis(self.dice.below(DUE_WITHIN_MS) as i64);
                lines.push(falls_silent(number, if each < LIVE { due } else { LATER_DUE + due }));
            }
            for line in &lines {
                let event: Value = serde_json::from_str(line).unwrap();
                let name = oracle::name(&event);
                if event["void"] == true {
                    sent.voided.insert(name.clone());
                }
                sent.events.insert(name);
            }
            kafka.produce_all(source, lines.iter().map(|line| (None, None, Some(line.as_bytes()))));
            // Not by way of ingest, either: whoever may write there may err.
            for topic in [source, log] {
                let wrong = format!("{{\"no\":\"event\",\"number\":{number}}}");
                // One that was there from the beginning.
                let partition = Some((number % PARTITIONS as usize) as i32);
                let (partition, offset) = kafka.produce(topic, partition, None, Some(wrong.as_bytes()));
                sent.letters.insert(format!("{topic}/{partition}/{offset}/0"));
            }
            thread::sleep(PAUSE);
        }
        sent
    }
}

/// An engagement of three months ago: silence is due in a while.
fn falls_silent(number: usize, due: SignedDuration) -> String {
    silent_from(&format!("live-{number}"), &format!("live{}.example", number % 50), Timestamp::now() + due)
}

/// An engagement of three months before silence is due.
pub fn silent_from(contact: &str, account: &str, due: Timestamp) -> String {
    let at = due.to_zoned(jiff::tz::TimeZone::UTC).checked_sub(jiff::Span::new().months(3)).unwrap();
    json!({
        "id": contact, "source": "live", "kind": "engagement", "occurred_at": at.timestamp().to_string(),
        "account": account, "contact": contact, "vehicle": "webcast",
    })
    .to_string()
}
