//! What stands in the tables after which changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use touchline_core::output::Topic;
use touchline_sink::{Change, Sink, SinkError};

use super::changes::{alert, change, fact, notice, score, tombstone};
use super::place::{Place, batch, block_on, deliver};
use crate::kit::lane;

/// The changes in one batch, and in a batch each, make these rows of a query.
fn check(changes: &[Change], sql: &str, expected: &[&str]) {
    for size in [changes.len(), 1] {
        let place = Place::new();
        block_on(async {
            let mut sink = place.sink();
            sink.claim(&lane(0)).await.unwrap();
            for part in changes.chunks(size) {
                sink.deliver(&lane(0), &batch(part, 0)).await.unwrap();
            }
        });
        assert_eq!(place.ask(sql), expected, "in batches of {size}: {changes:?}");
    }
}

#[test]
fn columns_hold_what_records_say() {
    let touch = r#""title":"Hello \"you\" ü","by":"ann","campaign":"spring","cost":"12.50","currency":"EUR","channel":"email","vehicle":{"of":"its own"},"amount":"12 EUR","#;
    check(
        &[fact("a", 7, "touch", touch)],
        "select key, version, fact, id, source, account, contact, occurred_at at time zone 'UTC', title, by, campaign, cost, \
         currency, channel, vehicle, amount, record #>> '{vehicle,of}', record ->> 'amount' from facts",
        &[
            r#"a|7|touch|a|crm|acme.com|jo@acme.com|2024-03-05 00:00:00|Hello "you" ü|ann|spring|12.50|EUR|email|-|-|its own|12 EUR"#,
        ],
    );
    check(
        &[fact(
            "a",
            1,
            "value",
            r#""measure":"order","ref":"o-1","stage":null,"amount":"-123456789012345678901234567890.10","quantity":2.5,"#,
        )],
        "select measure, ref, stage, amount, quantity from facts",
        &["order|o-1|-|-123456789012345678901234567890.10|2.5"],
    );
    check(
        &[fact("a", 1, "engagement", r#""scheduled_for":"2024-04-05T06:07:08.123456789Z","minutes":1e2,"score":5,"#)],
        "select scheduled_for at time zone 'UTC', minutes, score, record ->> 'scheduled_for' from facts",
        &["2024-04-05 06:07:08.123457|100|-|2024-04-05T06:07:08.123456789Z"],
    );
    let episode = r#"{"id":"e","fact":"lapse_episode","account":"acme.com","contact":"jo","last_engagement_at":"2024-01-01T00:00:00Z","lapsed_at":"2024-04-01T00:00:00Z","recovered_at":null,"version":562949953421313}"#;
    check(
        &[change(Topic::Facts, "e", Some(episode))],
        "select version, occurred_at, last_engagement_at at time zone 'UTC', lapsed_at at time zone 'UTC', recovered_at from facts",
        &["562949953421313|-|2024-01-01 00:00:00|2024-04-01 00:00:00|-"],
    );
    let of_account = r#"{"account":"acme.com","contact":null,"score":26.55153544792737,"parts":{"unknown":3.08},"half_life_days":60.0,"as_of":"2022-05-10T02:47:23Z","last_engagement_at":null,"touches_since":null,"due":null,"engagements":6,"state":"never","version":24}"#;
    check(
        &[change(Topic::Scores, "acme.com", Some(of_account))],
        "select key, contact, score, parts, half_life_days, touches_since, engagements, state, due from scores",
        &[r#"acme.com|-|26.55153544792737|{"unknown": 3.08}|60|-|6|never|-"#],
    );
    check(
        &[alert(
            "a",
            1,
            "opened",
            r#""owner":"ann","segment":"gold","due":"2024-04-01T00:00:00Z","late_s":-5,"backlog":true,"#,
        )],
        "select id, sequence, change, is_open, owner, segment, late_s, backlog, tick, score from alerts",
        &["a|1|opened|t|ann|gold|-5|t|-|63.2"],
    );
}

#[test]
fn the_newest_stands_and_tombstones_delete() {
    let versions = "select key, version from facts";
    let (old, new) = (fact("a", 1, "touch", ""), fact("a", 2, "touch", ""));
    check(&[old.clone(), new.clone()], versions, &["a|2"]);
    check(&[new.clone(), old.clone()], versions, &["a|2"]);
    check(&[old.clone(), new.clone(), tombstone(Topic::Facts, "a")], versions, &[]);
    check(&[new.clone(), tombstone(Topic::Facts, "a"), old.clone()], versions, &["a|1"]);
    check(&[tombstone(Topic::Facts, "a"), fact("b", 1, "touch", "")], versions, &["b|1"]);
    // Of two alike the later: it comes from the same lane.
    let titled = |title| fact("a", 1, "touch", &format!(r#""title":"{title}","#));
    check(&[titled("x"), titled("y")], "select title from facts", &["y"]);
    // A correction may make something else of a fact.
    check(
        &[fact("a", 1, "touch", r#""channel":"email","#), fact("a", 2, "engagement", r#""vehicle":"web","#)],
        "select fact, channel, vehicle from facts",
        &["engagement|-|web"],
    );
    let (old, new) = (score("acme.com|jo", 1, ""), score("acme.com|jo", 2, ""));
    check(&[new, old], "select key, version from scores", &["acme.com|jo|2"]);
    let both = "select 'now', id, sequence, change from alerts union all select 'was', id, sequence, change from alert_changes order by 1, 2, 3";
    let (opened, recovered) = (alert("a", 1, "opened", ""), alert("a", 2, "recovered", ""));
    let expected = ["now|a|2|recovered", "was|a|1|opened", "was|a|2|recovered"];
    check(&[opened.clone(), recovered.clone()], both, &expected);
    check(&[recovered.clone(), opened.clone(), recovered.clone()], both, &expected);
    check(
        &[opened.clone(), recovered.clone(), alert("b", 1, "opened", ""), tombstone(Topic::Alerts, "a")],
        both,
        &["now|b|1|opened", "was|b|1|opened"],
    );
    check(&[recovered, tombstone(Topic::Alerts, "a"), opened], both, &["now|a|1|opened", "was|a|1|opened"]);
}

/// One change that cannot be a row: where that is seen, and what a person reads.
fn check_rejected(bad: Change, reason: &str) {
    let place = Place::new();
    let changes = [fact("before", 1, "touch", ""), bad, fact("behind", 1, "touch", "")];
    let told = block_on(async {
        let mut sink = place.sink();
        let told = match deliver(&mut sink, &lane(0), &changes).await {
            Err(SinkError::RejectThese(rejected)) => {
                assert_eq!(rejected.iter().map(|it| it.position).collect::<Vec<_>>(), [1], "{rejected:?}");
                rejected[0].reason.clone()
            }
            Err(SinkError::RejectSome(_)) => match sink.deliver(&lane(0), &batch(&changes[1..2], 1)).await {
                Err(SinkError::RejectSome(source)) => super::faults::chain(&*source),
                other => panic!("alone it is {other:?}"),
            },
            other => panic!("{other:?} instead of {reason:?}"),
        };
        sink.deliver(&lane(0), &batch(&[changes[0].clone(), changes[2].clone()], 3)).await.unwrap();
        told
    });
    assert!(told.contains(reason), "{told:?} instead of {reason:?}");
    assert_eq!(place.ask("select key from facts order by key"), ["before", "behind"]);
}

#[test]
fn what_cannot_be_stored_is_rejected_with_the_reason() {
    let titled = |title: &str| fact("a", 1, "touch", &format!(r#""title":"{title}","#));
    check_rejected(titled(r"a\u0000b"), "NUL");
    check_rejected(titled(r"\\\u0000"), "NUL");
    check_rejected(change(Topic::Facts, "a\0", None), "NUL");
    check_rejected(fact("a", 1, "touch", r#""of_its_own":"\ud800","#), "surrogate");
    check_rejected(fact("a", 1, "touch", r#""of_its_own":1e999999,"#), "numeric");
    check_rejected(
        fact("a", 1, "engagement", &format!(r#""minutes":{},"#, "9".repeat(129))),
        "`minutes` cannot be stored: it must be a number",
    );
    check_rejected(
        fact("a", 1, "engagement", r#""scheduled_for":"-000001-01-01T00:00:00Z","#),
        "`scheduled_for` cannot be stored: it must be a time",
    );
    check_rejected(
        fact("a", 1, "engagement", r#""scheduled_for":"2024-99-01T00:00:00Z","#),
        "date/time field value out of range",
    );
    check_rejected(
        change(Topic::Facts, "a", Some(r#"{"fact":"touch","version":9223372036854775808}"#)),
        "`version` cannot be stored: it must be a whole number",
    );
    check_rejected(change(Topic::Facts, "a", Some(r#"{"fact":"touch"}"#)), "it has no `version`");
    check_rejected(change(Topic::Facts, "a", Some("[]")), "not a JSON object");
    check_rejected(change(Topic::Facts, "a", Some("{")), "not a JSON object");
    check_rejected(change(Topic::Scores, "a", Some(r#"{"version":1}"#)), "it has no `account`");
    check_rejected(change(Topic::DeadLetters, "a", Some("{}")), "no table for dead letters");
    // Longer than an entry of an index, and not to be compressed.
    let mut seed = 1_u64;
    let long: String = (0..9_000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (seed >> 33) as u8 % 90)
        })
        .filter(|letter| !['"', '\\'].contains(letter))
        .collect();
    check_rejected(change(Topic::Facts, &long, Some(r#"{"fact":"touch","version":1}"#)), "SQLSTATE 54000");
    // Two backslashes and what looks like an escape; long texts that no index holds.
    check(&[titled(r"\\u0000")], "select title from facts", &[r"\u0000"]);
    check(
        &[alert("a", 1, "opened", &format!(r#""owner":"{long}","#))],
        "select length(owner) > 8000 from alerts",
        &["t"],
    );
}

/// The rows of changes that are applied one by one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    latest: BTreeMap<(&'static str, String), i64>,
    history: BTreeMap<(String, i64), ()>,
}

/// What happens to a key: to a version, or gone.
#[derive(Clone, Debug)]
struct Step {
    topic: Topic,
    key: u8,
    version: Option<i64>,
}

impl Model {
    fn apply(&mut self, step: &Step, key: &str) {
        let latest = (step.topic.name(), key.to_owned());
        match step.version {
            Some(version) => {
                let stands = self.latest.entry(latest).or_insert(version);
                *stands = version.max(*stands);
                if step.topic == Topic::Alerts {
                    self.history.insert((key.to_owned(), version), ());
                }
            }
            None => {
                self.latest.remove(&latest);
                if step.topic == Topic::Alerts {
                    self.history.retain(|(id, _), ()| id != key);
                }
            }
        }
    }

    fn rows(&self) -> Vec<String> {
        let latest = self.latest.iter().map(|((table, key), version)| format!("{table}|{key}|{version}"));
        let history = self.history.keys().map(|(id, sequence)| format!("changes|{id}|{sequence}"));
        let mut rows: Vec<_> = latest.chain(history).collect();
        rows.sort();
        rows
    }
}

fn made(step: &Step, key: &str) -> Change {
    match (step.topic, step.version) {
        (topic, None) => tombstone(topic, key),
        (Topic::Alerts, Some(version)) => alert(key, version, "opened", ""),
        (Topic::Scores, Some(version)) => score(key, version, ""),
        (_, Some(version)) => fact(key, version, "touch", ""),
    }
}

/// Keys are a lane's own, as tombstones demand, but for some that both lanes write.
fn key(step: &Step, lane: usize) -> String {
    match step.version {
        Some(_) if step.key < 3 => format!("both|{}", step.key),
        _ => format!("{lane}|{}", step.key),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topic = prop_oneof![Just(Topic::Alerts), Just(Topic::Scores), Just(Topic::Facts)];
    let step = (topic, 0..6_u8, prop_oneof![3 => (1..6_i64).prop_map(Some), 1 => Just(None)]);
    prop::collection::vec(step.prop_map(|(topic, key, version)| Step { topic, key, version }), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However two lanes interleave and are cut into batches, and whatever is delivered twice.
    #[test]
    fn the_tables_are_a_function_of_what_the_lanes_hold(
        lanes in [steps(), steps()],
        sizes in prop::collection::vec((0..2_usize, 1..9_usize, prop::bool::weighted(0.2)), 1..40),
    ) {
        let place = Place::new();
        let mut expected = Model::default();
        for (number, steps) in (0..).zip(&lanes) {
            steps.iter().for_each(|step| expected.apply(step, &key(step, number)));
        }
        block_on(async {
            let mut sink = place.sink();
            for number in 0..2 {
                sink.claim(&lane(number)).await.unwrap();
            }
            let mut done = [0, 0];
            let rest = [(0, 40, false), (1, 40, false)];
            for (which, size, again) in sizes.into_iter().chain(rest) {
                let steps = &lanes[which][done[which]..];
                let steps = &steps[..size.min(steps.len())];
                let changes: Vec<_> = steps.iter().map(|step| made(step, &key(step, which))).collect();
                done[which] += steps.len();
                for _ in 0..=usize::from(again) {
                    sink.deliver(&lane(which), &batch(&changes, done[which])).await.unwrap();
                }
            }
        });
        let sql = "select 'alerts', id, sequence from alerts union all select 'changes', id, sequence from alert_changes \
                   union all select 'scores', key, version from scores union all select 'facts', key, version from facts";
        let mut found = place.ask(sql);
        found.sort();
        prop_assert_eq!(found, expected.rows());
    }
}

#[test]
fn a_notice_takes_what_comes_before_it() {
    let of_account = |id: &str, contacts: &str| {
        let value = format!(
            r#"{{"rule":"account_lapse","change":"opened","sequence":1,"account":"acme.com","contact":null,"contacts":[{contacts}],"score":1}}"#
        );
        change(Topic::Alerts, id, Some(&value))
    };
    let other = alert("c", 1, "opened", "");
    let other = String::from_utf8(other.value.unwrap()).unwrap().replace("jo@", "al@");
    let changes = [
        alert("a", 1, "opened", ""),
        of_account("of account", r#""al@acme.com","jo@acme.com""#),
        change(Topic::Alerts, "c", Some(&other)),
        alert("a", 2, "closed", ""),
        notice("acme.com", "jo@acme.com", 1),
        notice("acme.com", "nobody", 2),
        // Back again, under an id that was there and one that was not.
        alert("a", 1, "opened", ""),
        alert("b", 1, "opened", ""),
    ];
    let left = "select id, sequence, change, coalesce(contact, record ->> 'contacts') from alerts order by id";
    let expected = [
        "a|1|opened|jo@acme.com",
        "b|1|opened|jo@acme.com",
        "c|1|opened|al@acme.com",
        "of account|1|opened|[\"al@acme.com\"]",
    ];
    check(&changes, left, &expected);
    check(&changes, &left.replace("from alerts", "from alert_changes"), &expected);
    let receipts = "select id, sequence, erased_at at time zone 'UTC', alerts from erasures";
    check(&changes[..5], receipts, &["0f|1|2024-05-01 00:00:00|1"]);
    // The account of one person is that person.
    let own = of_account("own", "").value.unwrap();
    let own = String::from_utf8(own).unwrap().replace("acme.com", "~bo");
    let changes = [change(Topic::Alerts, "own", Some(&own)), notice("~bo", "bo", 1), notice("~bo", "bo", 1)];
    check(&changes, "select alerts, (select count(*) from alerts) from erasures", &["1|0"]);
}
