//! Webhooks and PostgreSQL behind `replay --follow`: real ones, which fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use touchline_harness::Postgres;

use crate::community::text;
use crate::follow::{ago, count};
use crate::harness::{Dice, Place, Running};
use crate::log::engagement;
use crate::receiver::Receiver;

const COMMAND: &str = "replay h.jsonl --follow --config all.toml --state state --out out --json";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A followed file, a receiver of alerts and tables.
struct Corridor {
    place: Place,
    receiver: Receiver,
    url: String,
}

impl Corridor {
    fn new(receiver: Receiver) -> Corridor {
        let url = Postgres::shared().database();
        let config = format!(
            "[processor]\ncommit_interval = \"1ms\"\n\
             [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{}\"\nsecret = \"file:secret\"\n\
             allow_private = true\n\
             [[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"alerts\", \"scores\", \"facts\"]\nurl = \"{url}\"\n",
            receiver.url()
        );
        let place = Place::with(&[("all.toml", &*config), ("secret", SECRET), ("h.jsonl", "")]);
        Corridor { place, receiver, url }
    }

    fn append(&self, lines: &[String]) {
        self.place.append("h.jsonl", text(lines));
    }

    /// The rows of a query; none before the tables are there.
    fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let postgres = Postgres::shared();
        let is_there = "select to_regclass('touchline.facts') is not null";
        let is_there = postgres.query(&self.url, is_there)[0][0].as_deref() == Some("t");
        if is_there { postgres.query(&self.url, sql) } else { Vec::new() }
    }

    fn rows(&self, table: &str) -> usize {
        let counted = self.query(&format!("select count(*) from touchline.{table}"));
        counted.first().map_or(0, |row| row[0].as_ref().unwrap().parse().unwrap())
    }

    fn opened(&self) -> usize {
        count(&self.place, "out/alerts.jsonl", r#""rule":"lapse","change":"opened""#)
    }

    /// Waits until every sink has what the file sink has.
    fn until_delivered(&self, run: &mut Running, opened: usize) {
        run.until("the alerts in the file", || self.opened() == opened);
        let changes = count(&self.place, "out/alerts.jsonl", "\"id\"");
        run.until("the alerts in the table", || self.rows("alert_changes") == changes);
    }

    fn stop(&self, run: Running) -> Value {
        run.signal("TERM");
        run.ended().ok().json()
    }

    /// The tables hold what the files do, once.
    #[track_caller]
    fn check_tables(&self) {
        let alerts = self.place.objects("out/alerts.jsonl");
        let told: BTreeSet<String> =
            alerts.iter().map(|alert| format!("{}/{}", alert["id"], alert["sequence"])).collect();
        assert_eq!(told.len(), alerts.len());
        let rows = self.query("select '\"' || id || '\"/' || sequence from touchline.alert_changes");
        assert_eq!(rows.len(), told.len());
        assert_eq!(rows.into_iter().flatten().flatten().collect::<BTreeSet<_>>(), told);
        for table in ["scores", "facts"] {
            assert_eq!(self.rows(table), self.place.objects(&format!("out/{table}.jsonl")).len(), "{table}");
        }
    }

    /// The receiver has every alert, each under one id.
    #[track_caller]
    fn check_messages(&self) {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, body) in self.receiver.taken() {
            ids.entry(id).or_default().insert(body);
        }
        assert!(ids.values().all(|bodies| bodies.len() == 1), "an id is the name of one message: {ids:?}");
        let bodies: Vec<&String> = ids.values().flatten().collect();
        for alert in self.place.objects("out/alerts.jsonl") {
            let (id, sequence) = (alert["id"].to_string(), format!("\"sequence\":{}", alert["sequence"]));
            let has = |body: &&&String| body.contains(&id) && body.contains(&sequence);
            assert!(bodies.iter().any(|body| has(&body)), "{alert} has not arrived");
        }
    }
}

/// An engagement four months ago: a lapse.
fn lapsed(id: usize, contact: &str) -> String {
    engagement(&id.to_string(), &ago(4), contact)
}

#[test]
fn alerts_and_rows_arrive_and_nothing_comes_twice_after_a_crash() {
    let corridor = Corridor::new(Receiver::refusing("nobody at all"));
    let dice = &mut Dice(71);
    let lines: Vec<String> = (0..200).map(|id| lapsed(id, &format!("c{id}"))).collect();
    for part in lines.chunks(20) {
        let mut run = corridor.place.start(COMMAND);
        let before = corridor.opened_before();
        corridor.append(part);
        run.until("something new", || corridor.opened_before() > before);
        std::thread::sleep(Duration::from_millis(dice.below(200)));
        assert!(run.kill());
    }
    let ticks = || count(&corridor.place, "state/journal.jsonl", r#""kind":"tick""#);
    let before = ticks();
    let mut run = corridor.place.start(COMMAND);
    // What is left to deliver may be nothing: it is at work once its clock is.
    run.until("a tick", || ticks() > before);
    corridor.until_delivered(&mut run, lines.len());
    run.until("the last message", || {
        let taken = corridor.receiver.taken();
        let contacts: BTreeSet<String> = taken
            .iter()
            .flat_map(|(_, body)| {
                (0..200).filter(move |id| body.contains(&format!("\"c{id}\""))).map(|id| format!("c{id}"))
            })
            .collect();
        contacts.len() == lines.len()
    });
    corridor.stop(run);
    corridor.check_tables();
    corridor.check_messages();
}

impl Corridor {
    /// As [`Corridor::opened`], of a file that may not be there.
    fn opened_before(&self) -> usize {
        if self.place.exists("out/alerts.jsonl") { self.opened() } else { 0 }
    }
}

#[test]
fn a_receiver_that_is_gone_for_good_leaves_the_others_running() {
    let corridor = Corridor::new(Receiver::gone("opened"));
    corridor.append(&[lapsed(1, "ann")]);
    let mut run = corridor.place.start(COMMAND);
    run.until("the refusal", || !corridor.receiver.refused().is_empty());
    corridor.append(&[lapsed(2, "bob")]);
    corridor.until_delivered(&mut run, 2);
    run.signal("TERM");
    run.ended().failed(70, &["sink hook has stopped", "answered 410 Gone: it wants no more messages, and gets none"]);
    assert_eq!(corridor.receiver.taken().len(), 0);

    // Once it is back, it gets what it has missed.
    corridor.receiver.take_all();
    let mut run = corridor.place.start(COMMAND);
    let has = |name: &str| corridor.receiver.taken().iter().any(|(_, body)| body.contains(name));
    run.until("what was missed", || has("\"ann\"") && has("\"bob\""));
    corridor.stop(run);
    corridor.check_tables();
    corridor.check_messages();
}

#[test]
fn a_receiver_that_does_not_answer_holds_back_nobody() {
    let corridor = Corridor::new(Receiver::hanging("opened"));
    corridor.append(&[lapsed(1, "ann")]);
    let mut run = corridor.place.start(COMMAND);
    run.until("the message", || !corridor.receiver.refused().is_empty());
    for (id, contact) in [(2, "bob"), (3, "cyd"), (4, "dan")] {
        corridor.append(&[lapsed(id, contact)]);
        corridor.until_delivered(&mut run, id);
    }
    // Nor is it waited for.
    let stopped = Instant::now();
    run.signal("TERM");
    let ran = run.ended().ok();
    assert!(stopped.elapsed() < Duration::from_secs(60), "{:?}", stopped.elapsed());
    assert!(ran.err.contains("left before everything was delivered"), "{ran}");
    assert_eq!(ran.json()["stopped"], true);
    assert!(corridor.place.exists("out/lapses.csv"), "the files are whole");

    corridor.receiver.take_all();
    let mut run = corridor.place.start(COMMAND);
    let has = |name: &str| corridor.receiver.taken().iter().any(|(_, body)| body.contains(name));
    run.until("the messages", || ["\"ann\"", "\"bob\"", "\"cyd\"", "\"dan\""].into_iter().all(has));
    corridor.stop(run);
    corridor.check_tables();
    corridor.check_messages();
}

#[test]
fn a_database_that_goes_and_comes_is_waited_for() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let config = format!("[[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"alerts\"]\nurl = \"{url}\"\n");
    let place = Place::with(&[("all.toml", &*config), ("h.jsonl", "")]);
    place.append("h.jsonl", text(&[lapsed(1, "ann")]));
    let mut run = place.start(COMMAND);
    let opened = || count(&place, "out/alerts.jsonl", r#""rule":"lapse","change":"opened""#);
    run.until("the first alert", || opened() == 1);
    postgres.kill();
    place.append("h.jsonl", text(&[lapsed(2, "bob")]));
    run.until("the second alert", || opened() == 2);
    postgres.restart();
    let changes = count(&place, "out/alerts.jsonl", "\"id\"");
    let rows = || {
        let is_there = "select to_regclass('touchline.alert_changes') is not null";
        postgres.query(&url, is_there)[0][0].as_deref() == Some("t")
            && postgres.query(&url, "select count(*) from touchline.alert_changes")[0][0] == Some(changes.to_string())
    };
    run.until("the rows", rows);
    run.signal("TERM");
    run.ended().ok();
}

#[test]
fn a_schema_that_another_state_has_filled_is_refused_with_advice() {
    let corridor = Corridor::new(Receiver::refusing("nobody at all"));
    corridor.append(&[lapsed(1, "ann")]);
    let command = "replay h.jsonl --config all.toml --out out --json";
    corridor.place.run(command).ok();
    let words = [
        "without --state every run is a state of its own",
        "give --state DIR",
        "sink db has filled schema touchline from outbox/",
        "drop schema touchline cascade",
    ];
    corridor.place.run(command).failed(70, &words);
}
