//! One sample, read as its users read it: line by line, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::LazyLock;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{MAX, Options, Summary, generate};

/// Enough events a contact (a hundred) that silence is a matter of lives and not of chance.
const SAMPLE: Options = Options { contacts: 1_000, events: 100_000, seed: 7 };
/// Of the output of 50 contacts, 5,000 events and seed 7. Whoever changes it changes the load that other versions were
/// measured with.
const PINNED: u64 = 0x28d2_532b_c10e_b906;
/// A quarter of a year, at the longest.
const LAPSE: SignedDuration = SignedDuration::from_hours(92 * 24);

struct Sample {
    summary: Summary,
    lines: Vec<String>,
    events: Vec<Value>,
}

static READ: LazyLock<Sample> = LazyLock::new(|| {
    let (bytes, summary) = write(&SAMPLE);
    let lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    let events = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    Sample { summary, lines, events }
});

fn write(options: &Options) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary = generate(options, &mut bytes, &mut |_| {}).unwrap();
    (bytes, summary)
}

/// FNV-1a: any change of a byte shows.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

fn time(event: &Value, field: &str) -> Timestamp {
    text(event, field).parse().unwrap_or_else(|error| panic!("{error} in {event}"))
}

/// The share of the sample's events, in per cent.
fn share(is: impl Fn(&Value) -> bool) -> f64 {
    READ.events.iter().filter(|event| is(event)).count() as f64 * 100.0 / READ.events.len() as f64
}

#[track_caller]
fn check_share(name: &str, percent: std::ops::Range<f64>, is: impl Fn(&Value) -> bool) {
    let share = share(is);
    assert!(percent.contains(&share), "{name}: {share:.2} % is not in {percent:?}");
}

#[test]
fn the_options_decide_every_byte() {
    let options = Options { contacts: 50, events: 5_000, seed: 7 };
    let (bytes, _) = write(&options);
    assert_eq!(checksum(&bytes), PINNED, "the output has changed: {:#018x}", checksum(&bytes));
    assert_eq!(write(&options).0, bytes);
    assert_ne!(write(&Options { seed: 8, ..options }).0, bytes);
}

#[test]
fn there_are_exactly_as_many_lines_as_asked_for() {
    for contacts in [1, 3, 1_000, MAX] {
        for events in [0, 1, 2, 730, 4_321] {
            let (bytes, summary) = write(&Options { contacts, events, seed: 1 });
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!((lines, summary.events, summary.bytes), (events, events, bytes.len() as u64));
        }
    }
}

#[test]
fn options_out_of_range_are_refused() {
    for (contacts, events) in [(0, 1), (MAX + 1, 1), (1, MAX + 1)] {
        let error = generate(&Options { contacts, events, seed: 1 }, &mut io::sink(), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn what_the_output_says_is_handed_on() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(generate(&SAMPLE, &mut Full, &mut |_| {}).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn progress_grows_to_the_end() {
    let mut told = Vec::new();
    generate(&SAMPLE, &mut io::sink(), &mut |events| told.push(events)).unwrap();
    assert!(told.is_sorted() && told.len() > 700);
    assert_eq!(told.last(), Some(&SAMPLE.events));
}

#[test]
fn every_line_is_valid() {
    for event in &READ.events {
        let required = match text(event, "kind") {
            "touch" => "channel",
            "engagement" => "vehicle",
            "advocacy" | "value" => "measure",
            "profile" => "owner",
            other => panic!("kind {other}"),
        };
        for field in ["id", "source", "account", required] {
            assert!(!text(event, field).is_empty(), "{field} in {event}");
        }
        assert!(event["contact"].is_string() || event["domain"].is_string(), "{event}");
        assert!(["", "two_way", "one_way", "passive", "machine"].contains(&text(event, "interaction")), "{event}");
        assert!(["", "attended", "planned", "no_show", "cancelled"].contains(&text(event, "status")), "{event}");
        assert!((2023..=2025).contains(&time(event, "occurred_at").to_zoned(TimeZone::UTC).year()), "{event}");
        for field in ["scheduled_for", "last_engagement_at"].into_iter().filter(|field| event[*field].is_string()) {
            time(event, field);
        }
        for field in ["cost", "amount"].into_iter().filter(|field| !event[*field].is_null()) {
            let (whole, cents) = text(event, field).split_once('.').unwrap();
            assert!(whole.parse::<u64>().is_ok() && cents.len() == 2 && !text(event, "currency").is_empty(), "{event}");
        }
        assert!(text(event, "status") != "planned" || event["scheduled_for"].is_string(), "{event}");
    }
}

#[test]
fn the_mix_is_that_of_a_real_programme() {
    let is = |field: &'static str, value: &'static str| move |event: &Value| text(event, field) == value;
    check_share("engagements", 65.0..72.0, is("kind", "engagement"));
    check_share("touches", 26.0..32.0, is("kind", "touch"));
    check_share("profiles", 1.0..3.0, is("kind", "profile"));
    check_share("advocacy", 0.4..1.2, is("kind", "advocacy"));
    check_share("value", 0.4..1.2, is("kind", "value"));
    check_share("machines", 1.5..4.0, is("interaction", "machine"));
    check_share("answers", 6.0..12.0, |event| event["in_response_to"].is_string());
    check_share("of campaigns", 20.0..35.0, |event| event["campaign"].is_string());
    check_share("at gatherings", 12.0..22.0, |event| {
        text(event, "source") == "events" && event["occasion"].is_string()
    });
    check_share("meetings planned", 0.5..2.5, |event| {
        text(event, "vehicle") == "meeting" && text(event, "status") == "planned"
    });
}

#[test]
fn some_are_late_and_some_come_twice() {
    let mut newest = Timestamp::MIN;
    let mut out_of_order = 0_u64;
    for event in &READ.events {
        let occurred = time(event, "occurred_at");
        if occurred < newest {
            out_of_order += 1;
            assert!(newest.duration_since(occurred) <= SignedDuration::from_hours(7 * 24), "{event}");
        }
        newest = newest.max(occurred);
    }
    let per_mille = |count: u64| count * 1000 / SAMPLE.events;
    assert!((45..80).contains(&per_mille(out_of_order)), "{out_of_order} out of order");
    assert!((45..60).contains(&per_mille(READ.summary.late)), "{:?}", READ.summary);
    assert!((8..12).contains(&per_mille(READ.summary.copies)), "{:?}", READ.summary);

    // A copy is exact; and nothing else shares a record's identity.
    let distinct: BTreeSet<&String> = READ.lines.iter().collect();
    let records = READ.events.iter().map(|event| {
        (
            text(event, "account"),
            text(event, "contact"),
            text(event, "occurred_at"),
            text(event, "source"),
            text(event, "id"),
        )
    });
    assert_eq!(records.collect::<BTreeSet<_>>().len(), distinct.len());
    assert!((8..12).contains(&per_mille(SAMPLE.events - distinct.len() as u64)));
}

#[test]
fn only_the_calendar_revises_and_its_revisions_are_whole() {
    let mut entries: BTreeMap<&str, BTreeMap<u64, &Value>> = BTreeMap::new();
    for event in &READ.events {
        assert_eq!(event["revision"].is_u64(), text(event, "source") == "calendar", "{event}");
        assert!(event["void"].is_null() || event["revision"].is_u64(), "{event}");
        if let Some(revision) = event["revision"].as_u64() {
            entries.entry(text(event, "id")).or_default().insert(revision, event);
        }
    }
    let latest =
        |is: fn(&Value) -> bool| entries.values().filter(|entry| is(entry.values().next_back().unwrap())).count();
    assert!(latest(|event| event["void"] == true) > 10);
    assert!(latest(|event| text(event, "status") == "attended") > 100);
    assert!(latest(|event| text(event, "status") == "cancelled" && event["void"].is_null()) > 10);
    assert!(entries.values().any(|entry| entry.len() == 3));
}

#[test]
fn answers_follow_their_touch() {
    let touches: BTreeMap<&str, &Value> = READ
        .events
        .iter()
        .filter(|event| text(event, "kind") == "touch")
        .map(|event| (text(event, "id"), event))
        .collect();
    for event in READ.events.iter().filter(|event| event["in_response_to"].is_string()) {
        // A touch that is late may come after the last day.
        let Some(touch) = touches.get(text(event, "in_response_to")) else { continue };
        let delay = time(event, "occurred_at").duration_since(time(touch, "occurred_at"));
        assert!(delay.is_positive() && delay < SignedDuration::from_hours(12 * 24), "{event} {touch}");
        assert_eq!((&event["contact"], &event["campaign"]), (&touch["contact"], &touch["campaign"]));
        if text(event, "interaction") == "machine" {
            assert!(delay < SignedDuration::from_mins(2) && text(touch, "channel") == "email");
        }
    }
}

#[test]
fn gatherings_bring_many_contacts_together() {
    let mut gatherings: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in READ.events.iter().filter(|event| text(event, "source") == "events" && event["occasion"].is_string()) {
        let (occasion, contact) = (text(event, "occasion"), text(event, "contact"));
        let id = text(event, "id");
        assert!(id == format!("{occasion}#{contact}") || id == format!("{occasion}-registration#{contact}"), "{event}");
        gatherings.entry(occasion).or_default().insert(contact);
    }
    assert!(gatherings.values().filter(|contacts| contacts.len() >= 10).count() > 100);
}

#[test]
fn campaigns_come_in_bursts() {
    let mut bursts: BTreeMap<&str, (Timestamp, Timestamp, u64)> = BTreeMap::new();
    for event in READ.events.iter().filter(|event| text(event, "kind") == "touch" && event["campaign"].is_string()) {
        let sent = time(event, "occurred_at");
        let (first, last, count) = bursts.entry(text(event, "campaign")).or_insert((sent, sent, 0));
        (*first, *last, *count) = (sent.min(*first), sent.max(*last), *count + 1);
    }
    assert!(bursts.values().filter(|(_, _, touches)| *touches >= 100).count() > 20);
    // Within one day of each contact's, but for those who were away over the weekend.
    assert!(bursts.values().all(|(first, last, _)| last.duration_since(*first) < SignedDuration::from_hours(72)));
}

#[test]
fn people_call_in_office_hours_where_the_contact_is() {
    let zones: BTreeMap<&str, TimeZone> = READ
        .events
        .iter()
        .filter(|event| event["timezone"].is_string() && event["contact"].is_string())
        .map(|event| (text(event, "contact"), TimeZone::get(text(event, "timezone")).unwrap()))
        .collect();
    assert!(zones.len() > 500);
    let calls =
        READ.events.iter().filter(|event| text(event, "vehicle") == "call" && event["in_response_to"].is_null());
    for event in calls {
        let Some(zone) = zones.get(text(event, "contact")) else { continue };
        let local = time(event, "occurred_at").to_zoned(zone.clone());
        assert!(!matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday), "{event}");
        assert!((8..18).contains(&local.hour()), "{event} at {local}");
    }
}

#[test]
fn lives_fade_end_and_come_back() {
    let mut engaged: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for event in READ.events.iter().filter(|event| text(event, "kind") == "engagement") {
        let by_person = !matches!(text(event, "interaction"), "passive" | "machine");
        if by_person && matches!(text(event, "status"), "" | "attended") {
            engaged.entry(text(event, "contact")).or_default().push(time(event, "occurred_at"));
        }
    }
    let end: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let (mut returned, mut silent, mut steady) = (0, 0, 0);
    for times in engaged.values_mut() {
        times.sort_unstable();
        let gap = times.windows(2).any(|pair| pair[1].duration_since(pair[0]) > LAPSE);
        let quiet = times.last().is_some_and(|last| end.duration_since(*last) > LAPSE);
        returned += usize::from(gap);
        silent += usize::from(quiet);
        steady += usize::from(!gap && !quiet);
    }
    for (name, count) in [("returned", returned), ("silent at the end", silent), ("steady", steady)] {
        assert!(count * 100 / engaged.len() > 15, "{count} of {} {name}", engaged.len());
    }
    // The busiest tenth does several times its share.
    let mut counts: Vec<usize> = engaged.values().map(Vec::len).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    assert!(counts.iter().take(counts.len() / 10).sum::<usize>() * 100 / counts.iter().sum::<usize>() > 30);
}

#[test]
fn few_accounts_hold_many_contacts() {
    let mut accounts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in READ.events.iter().filter(|event| event["contact"].is_string()) {
        accounts.entry(text(event, "account")).or_default().insert(text(event, "contact"));
    }
    let alone = accounts.values().filter(|contacts| contacts.len() == 1).count();
    assert!(alone * 100 / accounts.len() > 25, "{alone} of {}", accounts.len());
    assert!(accounts.values().any(|contacts| contacts.len() >= 20));
    let owners: BTreeSet<&str> = READ.events.iter().map(|event| text(event, "owner")).collect();
    assert!(owners.len() > 5);
}
