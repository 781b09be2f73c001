//! The model and the random logs, tried on one another: is the model's truth free of order, and do the logs reach all
//! that they should?

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::compare::{assert_same, assert_same_truth};
use super::line::{self, Line, Rules};
use super::logs::{Log, logs, permute, reordered};
use super::naive::{World, run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_truth_of_the_model_has_no_order((log, other) in reordered()) {
        assert_same_truth(&run(&log.lines), &run(&other.lines), &log.lines);
    }

    #[test]
    fn hearing_all_twice_changes_nothing(log in logs()) {
        let doubled: Vec<String> = log.lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
        let mut twice = run(&doubled);
        twice.alerts.iter_mut().for_each(|alert| alert.line /= 2);
        twice.rejected = twice.rejected.iter().filter(|line| *line % 2 == 0).map(|line| line / 2).collect();
        assert_same(&run(&log.lines), &twice, &log.lines);
    }
}

/// A generator that never gets somewhere proves nothing there.
#[test]
fn random_logs_go_everywhere() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..600 {
        let log: Log = logs().new_tree(&mut runner).unwrap().current();
        places(&log.lines).into_iter().for_each(|place| *seen.entry(place).or_default() += 1);
    }
    for place in [
        "lapse opened",
        "lapse escalated",
        "lapse recovered",
        "lapse retracted",
        "lapse closed",
        "lapse opened again",
        "at_risk opened",
        "at_risk recovered",
        "at_risk retracted",
        "at_risk closed",
        "account_lapse opened",
        "account_lapse recovered",
        "account_lapse retracted",
        "account_lapse opened again",
        "backlog",
        "never",
        "active",
        "at_risk",
        "lapsed",
        "tick at due",
        "engagement at due",
        "due at a day that was clamped",
    ] {
        assert!(seen.get(place).is_some_and(|logs| *logs >= 5), "{place} is hardly ever reached: {seen:#?}");
    }
}

/// Where a log gets to.
fn places(log: &[String]) -> BTreeSet<String> {
    let outcome = run(log);
    let mut places: BTreeSet<String> = outcome.scores.values().map(|score| score.state.clone()).collect();
    for alert in &outcome.alerts {
        let again = if alert.change == "opened" && alert.sequence > 1 { " again" } else { "" };
        places.insert(format!("{} {}{again}", alert.rule, alert.change));
        places.extend((alert.change == "opened" && alert.backlog).then(|| "backlog".to_owned()));
    }
    let (mut records, mut ticks, mut rules) = (Vec::new(), BTreeSet::new(), Rules::default());
    for line in log {
        match line::read(line) {
            Line::Event(record) => records.push(*record),
            Line::Tick(through) => _ = ticks.insert(through),
            Line::Rules(new) => rules = new,
            Line::Rejected => {}
        }
    }
    let world = World::new(&records, &rules, ticks.last().copied());
    for who in world.everyone() {
        let times = world.times(&who);
        for last in &times {
            let due = world.due(&who, *last);
            let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).day();
            places.extend(ticks.contains(&due).then(|| "tick at due".to_owned()));
            places.extend(times.contains(&due).then(|| "engagement at due".to_owned()));
            places.extend((day(*last) > day(due) + 1).then(|| "due at a day that was clamped".to_owned()));
        }
    }
    places
}

#[test]
fn permutations_keep_the_last_words() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let log = logs().new_tree(&mut runner).unwrap().current().lines;
        let permuted = permute(&log).new_tree(&mut runner).unwrap().current().lines;
        let sorted = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(sorted(&log), sorted(&permuted));
        assert_same_truth(&run(&log), &run(&permuted), &log);
    }
}
