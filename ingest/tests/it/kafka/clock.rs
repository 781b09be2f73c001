//! What holds the clock, and what does not. Without section 3 of the design each of these fails.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use touchline_core::rules::Rules;
use touchline_harness::{Kafka, eventually};

use super::kit::{Corridor, Entry, PARTITIONS, Process, WITHIN, event};

/// Longer than several ticks: what stands still for so long is held.
const HELD: f64 = 4.0;

/// Waits until a source has held the clock for a while, while its ticker lives; returns where the clock stands.
#[track_caller]
fn is_held(corridor: &Corridor<'_>, process: &Process, source: &str) -> Timestamp {
    eventually(WITHIN, &format!("{source} holds the clock"), || process.lag(source).is_some_and(|lag| lag > HELD));
    let lag = process.metric("touchline_clock_lag_seconds", None).unwrap();
    assert!(lag > HELD - 1.0, "the clock is only {lag} s behind");
    corridor.log().through().unwrap()
}

#[test]
fn a_stopped_ingest_raises_no_tick_past_what_waits_in_the_source() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 2);
    let ticker = Process::start(corridor.config("a", &["crm"]));
    ticker.is_in_time(&corridor);
    let other = Process::start(corridor.config("b", &["crm"]));
    eventually(WITHIN, "each has a partition", || {
        (0..2).for_each(|partition| corridor.produce("crm", partition, &format!("both-{partition}")));
        let read = |process: &Process| process.metric("touchline_ingest_records_total", Some("event"));
        read(&other) > Some(0.0)
    });
    // Its partition stays its own for as long as a session lasts.
    other.stop();
    (0..2).for_each(|partition| corridor.produce("crm", partition, &format!("waiting-{partition}")));
    let held = is_held(&corridor, &ticker, "crm");
    let arrivals = corridor.arrivals("crm");
    assert!((0..2).any(|partition| held <= arrivals[&format!("waiting-{partition}")]));

    ticker.is_in_time(&corridor);
    assert!(corridor.log().through() > arrivals.values().max().copied());
    assert!(arrivals.keys().all(|id| corridor.log().events().contains_key(&**id)));
    corridor.check_honesty(&["crm"]);
    ticker.stop();
}

#[test]
fn an_idle_source_does_not_hold_the_clock() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 3);
    corridor.source("web", 1);
    corridor.produce("web", 0, "once");
    let mut config = corridor.config("a", &["crm", "web", "nowhere"]);
    config.rules.required = vec!["crm".to_owned(), "web".to_owned()];
    let process = Process::start(config);
    process.is_in_time(&corridor);
    let seen = corridor.log().through();
    eventually(WITHIN, "the clock moves on", || corridor.log().through() > seen);
    assert_eq!((process.lag("nowhere"), process.metric("touchline_ingest_in_flight", None)), (None, Some(0.0)));
    process.stop();
}

#[test]
fn without_a_required_source_the_clock_is_the_brokers() {
    let corridor = Corridor::new(Kafka::shared());
    let mut config = corridor.config("a", &["nowhere"]);
    config.rules.required.clear();
    let process = Process::start(config);
    process.is_in_time(&corridor);
    process.stop();
}

#[test]
fn a_required_source_that_is_not_there_holds_the_clock_until_it_is() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("web", 1);
    let process = Process::start(corridor.config("a", &["crm", "web"]));
    eventually(WITHIN, "one source is complete", || process.lag("web").is_some_and(|lag| lag < 1.0));
    assert_eq!(process.lag("crm"), Some(f64::INFINITY));
    assert_eq!(process.metric("touchline_clock_lag_seconds", None), Some(f64::INFINITY));
    assert_eq!(corridor.log().through(), None);

    corridor.source("crm", 1);
    corridor.produce("crm", 0, "late");
    eventually(WITHIN, "the event is read", || corridor.log().events() == BTreeMap::from([("late", 1)]));
    process.is_in_time(&corridor);
    corridor.check_honesty(&["crm"]);
    process.stop();
}

#[test]
fn partitions_that_are_added_count_as_unread() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 1);
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    corridor.kafka.add_partitions(&corridor.topic("crm"), 3);
    corridor.produce("crm", 2, "new");
    eventually(WITHIN, "the new partition is read", || corridor.log().events().contains_key("new"));
    process.is_in_time(&corridor);
    corridor.check_honesty(&["crm"]);
    process.stop();
}

#[test]
fn an_open_transaction_holds_the_clock_and_its_markers_do_not() {
    let corridor = Corridor::new(Kafka::shared());
    let topic = corridor.source("crm", 1);
    let process = Process::start(corridor.config("a", &["crm"]));
    process.is_in_time(&corridor);
    let writer: BaseProducer =
        corridor.kafka.client().set("transactional.id", corridor.topic("writer")).create().unwrap();
    writer.init_transactions(WITHIN).unwrap();
    for (id, is_kept) in [("kept", true), ("aborted", false)] {
        writer.begin_transaction().unwrap();
        writer.send(BaseRecord::<str, str>::to(&topic).payload(&event("crm", id))).unwrap();
        writer.flush(WITHIN).unwrap();
        is_held(&corridor, &process, "crm");
        if is_kept { writer.commit_transaction(WITHIN) } else { writer.abort_transaction(WITHIN) }.unwrap();
        // Its marker is the last that the partition holds.
        process.is_in_time(&corridor);
    }
    assert_eq!(corridor.log().events(), BTreeMap::from([("kept", 1)]));
    process.stop();

    // So it is for one that begins behind the markers, and one that has them before it.
    for instance in ["a", "b"] {
        let mut config = corridor.config(instance, &["crm"]);
        config.prefix += if instance == "b" { ".new" } else { "" };
        let process = Process::start(config);
        process.is_in_time(&corridor);
        process.stop();
    }
}

#[test]
fn a_delay_is_taken_off() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 1);
    let mut config = corridor.config("a", &["crm"]);
    config.sources[0].max_delay = Duration::from_secs(3_600);
    let process = Process::start(config);
    eventually(WITHIN, "the clock is an hour late", || {
        process.metric("touchline_clock_lag_seconds", None).is_some_and(|lag| (3_600.0..3_601.0).contains(&lag))
    });
    process.stop();
}

#[test]
fn a_second_ticker_does_no_harm() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 1);
    let one = Process::start(corridor.config("a", &["crm"]));
    // Of other groups, so that nothing keeps it from ticking.
    let mut config = corridor.config("b", &["crm"]);
    config.prefix += ".other";
    let two = Process::start(config);
    one.is_in_time(&corridor);
    two.is_in_time(&corridor);
    for id in 0..20 {
        corridor.produce("crm", 0, &id.to_string());
        let seen = corridor.log().through();
        eventually(WITHIN, "the clock moves on", || corridor.log().through() > seen);
    }
    corridor.check_honesty(&["crm"]);
    // Both have read it.
    assert!(corridor.log().events().values().all(|times| *times == 2));
    one.stop();
    two.stop();
}

#[test]
fn the_clock_does_not_go_back_and_rules_come_before_their_ticks() {
    let corridor = Corridor::new(Kafka::shared());
    corridor.source("crm", 1);
    let revisions = |expect: &[u32]| {
        for entries in corridor.log().partitions.values() {
            let (mut revision, mut through) = (None, Timestamp::MIN);
            let mut months = Vec::new();
            for entry in entries {
                match entry {
                    Entry::Rules(number, rules) => {
                        assert!(Some(*number) >= revision && rules.since.is_some());
                        revision = Some(*number);
                        months.push(rules.lapse.months);
                    }
                    Entry::Tick(tick, rules) => {
                        assert!(*rules == revision && *tick >= through, "{entry:?} is behind {revision:?}, {through}");
                        through = *tick;
                    }
                    Entry::Event(_) => {}
                }
            }
            assert_eq!(months, expect);
        }
    };
    let run = |months| {
        let mut config = corridor.config("a", &["crm"]);
        config.rules.lapse.months = months;
        let before = corridor.log().through();
        let process = Process::start(config);
        process.is_in_time(&corridor);
        eventually(WITHIN, "the clock moves on", || corridor.log().through() > before);
        process.stop();
    };
    run(3);
    revisions(&[3]);
    // The same rules are no news, and still come first in each term.
    run(3);
    revisions(&[3, 3]);
    run(2);
    revisions(&[3, 3, 2]);
    let since = |entry: &Entry| if let Entry::Rules(_, rules) = entry { rules.since } else { None };
    for partition in 0..PARTITIONS {
        let log = corridor.log();
        let mut all = log.partitions[&partition].iter().filter_map(since);
        let first = all.next().unwrap();
        assert!(all.all(|since| since == first));
    }
    let newest: Vec<Rules> = corridor.rules();
    assert_eq!(newest.iter().map(|rules| rules.lapse.months).collect::<Vec<_>>(), [3, 2]);
    // The processors know the revisions of a topic that is gone, and would not heed ticks of earlier ones.
    corridor.forget_progress();
    run(2);
    revisions(&[3, 3, 2, 2]);
    run(1);
    revisions(&[3, 3, 2, 2, 1]);
}
