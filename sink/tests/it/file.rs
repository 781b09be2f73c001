use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use touchline_core::output::Topic;
use touchline_sink::file::{FileConfig, FileError, FileSink};
use touchline_sink::{Batch, Change, End, Route, Sink, SinkError, Start};

use crate::kit::{Script, change, cursor_at, eventually, lane, start};

pub const FILES: [&str; 5] = ["alerts.jsonl", "dead_letters.jsonl", "scores.jsonl", "facts.jsonl", "lapses.csv"];
const HEADER: &str = "account,contact,last_engagement_at,lapsed_at,recovered_at\n";

/// Name → content.
pub type Files = BTreeMap<&'static str, String>;

pub fn read_files(dir: &Path) -> Files {
    FILES
        .into_iter()
        .map(|name| (name, fs::read_to_string(dir.join(name)).unwrap_or_else(|_| "missing".into())))
        .collect()
}

pub fn open(dir: &Path) -> FileSink {
    open_as(dir, "feed").unwrap()
}

fn open_as(dir: &Path, feed: &str) -> Result<FileSink, FileError> {
    FileSink::open(FileConfig {
        name: "out".into(),
        dir: dir.into(),
        feed: feed.into(),
        following: false,
        replaces: false,
    })
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Where the sink is in the changes.
pub fn position(sink: &mut FileSink) -> usize {
    let Start::At(cursor) = block_on(sink.claim(&lane(0))).unwrap() else { panic!() };
    cursor.map_or(0, |cursor| u64::from_be_bytes(cursor.as_bytes().try_into().unwrap()) as usize)
}

/// Delivers the next `count` changes.
pub fn deliver(sink: &mut FileSink, changes: &[Change], count: usize) {
    let start = position(sink);
    let end = changes.len().min(start + count);
    let batch = Batch { changes: changes[start..end].to_vec(), next: Some(cursor_at(end)), published_at: None };
    block_on(sink.deliver(&lane(0), &batch)).unwrap();
}

pub fn finish(mut sink: FileSink, changes: &[Change]) {
    deliver(&mut sink, changes, changes.len());
    block_on(sink.close()).unwrap();
}

/// What the files should be, the simple way.
pub fn expected(changes: &[Change]) -> Files {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let of = |topic| changes.iter().filter(move |change| change.topic == topic);
    let appended =
        |topic| of(topic).filter_map(|it| it.value.as_deref()).map(|line| text(line) + "\n").collect::<String>();
    let latest = |topic| {
        let rows: BTreeMap<_, _> = of(topic).map(|change| (&change.key, change.value.as_deref())).collect();
        rows.into_values().flatten().map(|line| text(line) + "\n").collect::<String>()
    };
    let facts = latest(Topic::Facts);
    let mut lapses: Vec<[String; 5]> = Vec::new();
    for fact in facts.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if fact["fact"] == "lapse_episode" {
            let column = |name| fact[name].as_str().unwrap_or_default().to_owned();
            lapses.push(["account", "contact", "last_engagement_at", "lapsed_at", "recovered_at"].map(column));
        }
    }
    lapses.sort();
    let lapses = lapses.iter().map(|row| row.join(",") + "\n").collect::<String>();
    [
        ("alerts.jsonl", alerts(of(Topic::Alerts))),
        ("dead_letters.jsonl", appended(Topic::DeadLetters)),
        ("scores.jsonl", latest(Topic::Scores)),
        ("facts.jsonl", facts),
        ("lapses.csv", HEADER.to_owned() + &lapses),
    ]
    .into()
}

/// Every alert, but for the contacts that a later notice erases.
fn alerts<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for alert in changes.filter_map(|change| change.value.as_deref()) {
        let value: Value = serde_json::from_slice(alert).unwrap();
        if value["change"] != "erased" {
            lines.push(String::from_utf8(alert.to_vec()).unwrap());
            continue;
        }
        lines.iter_mut().for_each(|line| *line = format!("{:width$}", without(line, &value), width = line.len()));
        let (id, sequence, at) = (&value["id"], &value["sequence"], &value["erased_at"]);
        lines.push(format!(
            r#"{{"id":{id},"rule":"contact","change":"erased","sequence":{sequence},"erased_at":{at}}}"#
        ));
    }
    lines.iter().map(|line| line.to_owned() + "\n").collect()
}

/// What is left of a line.
fn without(line: &str, notice: &Value) -> String {
    let (value, contact): (Value, _) = (serde_json::from_str(line).unwrap(), &notice["contact"]);
    if value["account"] != notice["account"] {
        return line.to_owned();
    }
    let is_whole = notice["account"].as_str().unwrap().strip_prefix('~') == contact.as_str();
    if value["contact"] == *contact || (value["contact"].is_null() && is_whole) {
        return r#"{"change":"erased"}"#.to_owned();
    }
    let Some(listed) = value["contacts"].as_array() else { return line.to_owned() };
    let left: Vec<_> = listed.iter().filter(|one| *one != contact).collect();
    line.replace(&value["contacts"].to_string(), &serde_json::to_string(&left).unwrap()).trim_end().to_owned()
}

pub fn number(mut changes: Vec<Change>) -> Vec<Change> {
    changes.iter_mut().zip(0..).for_each(|(change, number)| change.sequence = number);
    changes
}

fn episode(row: &str) -> Change {
    let [account, contact, last, lapsed, recovered] = row.splitn(5, ',').collect::<Vec<_>>()[..] else {
        panic!("{row}")
    };
    let recovered = if recovered.is_empty() { "null".to_owned() } else { format!("\"{recovered}\"") };
    let key = format!("hash of {account} {contact} {last}");
    let value = format!(
        r#"{{"id":"{key}","fact":"lapse_episode","account":"{account}","contact":"{contact}","last_engagement_at":"{last}","lapsed_at":"{lapsed}","recovered_at":{recovered},"version":1}}"#
    );
    change(0, Topic::Facts, &key, Some(&value))
}

/// What is done to the sink and its directory between batches.
#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    /// The feed repeats the last so many.
    Repeat(usize),
    /// Closed and opened again, as by another run.
    Close,
    /// Dropped and opened again.
    Crash,
    /// Dropped, with lines written that were not recorded yet, and a sorted file half written.
    Torn,
    /// Dropped, and an appended file has lost its end.
    Shortened,
    /// Dropped, and someone has removed the sorted files.
    Removed,
}

fn check(changes: &[Change], steps: &[Step]) {
    let dir = TempDir::new().unwrap();
    let mut sink = open(dir.path());
    for step in steps {
        if let Step::Deliver(count) = step {
            deliver(&mut sink, changes, *count);
            continue;
        }
        if let Step::Repeat(count) = step {
            let end = position(&mut sink);
            let changes = changes[end.saturating_sub(*count)..end].to_vec();
            let batch = Batch { changes, next: Some(cursor_at(end)), published_at: None };
            block_on(sink.deliver(&lane(0), &batch)).unwrap();
            continue;
        }
        if let Step::Close = step {
            block_on(sink.close()).unwrap();
        }
        let position_before = position(&mut sink);
        drop(sink);
        let mut expect_position = position_before;
        match step {
            Step::Torn => {
                for name in ["alerts.jsonl", "dead_letters.jsonl", ".scores.jsonl.new", ".lapses.csv.new"] {
                    let before = fs::read(dir.path().join(name)).unwrap_or_default();
                    fs::write(dir.path().join(name), [&before, &b"{\"torn\":"[..]].concat()).unwrap();
                }
            }
            Step::Shortened => {
                let path = dir.path().join("alerts.jsonl");
                let before = fs::read(&path).unwrap();
                fs::write(&path, &before[..before.len() / 2]).unwrap();
                expect_position = if before.is_empty() { position_before } else { 0 };
            }
            Step::Removed => FILES[2..].iter().for_each(|name| drop(fs::remove_file(dir.path().join(name)))),
            Step::Deliver(_) | Step::Repeat(_) | Step::Close | Step::Crash => {}
        }
        sink = open(dir.path());
        assert_eq!(position(&mut sink), expect_position, "{step:?} of {steps:?}");
        if expect_position < position_before {
            // What is delivered next clears what is not to be trusted.
            deliver(&mut sink, changes, 1);
        }
    }
    finish(sink, changes);
    assert_eq!(read_files(dir.path()), expected(changes), "{steps:?}");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    let mut expected_names = FILES.to_vec();
    expected_names.push(".index");
    expected_names.sort();
    assert_eq!(names, expected_names);
}

fn any_change() -> impl Strategy<Value = Change> {
    let json = |n: u8| format!(r#"{{"n":{n}}}"#);
    let names = prop_oneof![Just("a.com"), Just("a.com.tw"), Just("~b"), Just("b")];
    let episodes = (names.clone(), names, 0..4_u8, any::<bool>(), any::<bool>()).prop_map(
        |(account, contact, year, open, undone)| {
            let recovered = if open { "" } else { "2030-05-01T00:00:00Z" };
            let episode = episode(&format!(
                "{account},{contact},202{year}-01-01T00:00:00Z,202{year}-04-01T00:00:00Z,{recovered}"
            ));
            if undone { Change { value: None, ..episode } } else { episode }
        },
    );
    let latest = (prop_oneof![Just(Topic::Scores), Just(Topic::Facts)], 0..9_u8, proptest::option::of(any::<u8>()))
        .prop_map(move |(topic, key, value)| change(0, topic, &format!("a|{key}"), value.map(json).as_deref()));
    let appended = any::<u8>().prop_map(move |value| change(0, Topic::DeadLetters, "key", Some(&json(value))));
    let people = || (prop_oneof![Just("a.com"), Just("~b")], prop_oneof![Just("b"), Just("say \"c\""), Just("d")]);
    let listed = proptest::collection::btree_set(prop_oneof![Just("b"), Just("d"), Just("say \"c\"")], 0..3);
    let alerts = (people(), proptest::option::of(listed), any::<u8>()).prop_map(|((account, contact), listed, n)| {
        let contact = if listed.is_some() { None } else { Some(contact) };
        let mut value = json!({"account": account, "contact": contact, "score": n});
        if let Some(listed) = listed {
            value["contacts"] = json!(listed);
        }
        change(0, Topic::Alerts, "key", Some(&value.to_string()))
    });
    let notices = (people(), 1..4_u8).prop_map(|((account, contact), sequence)| {
        let value = json!({"id": "0f", "rule": "contact", "change": "erased", "sequence": sequence, "account": account,
            "contact": contact, "erased_at": "2024-01-01T00:00:00Z", "tick": null});
        change(0, Topic::Alerts, "0f", Some(&value.to_string()))
    });
    prop_oneof![2 => episodes, 2 => latest, 1 => appended, 3 => alerts, 1 => notices]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..20_usize).prop_map(Step::Deliver),
        2 => (0..60_usize).prop_map(Step::Repeat),
        1 => Just(Step::Close),
        1 => Just(Step::Crash),
        1 => Just(Step::Torn),
        1 => Just(Step::Shortened),
        1 => Just(Step::Removed),
    ]
}

proptest! {
    // Every step opens a database; this many take seconds.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_are_a_function_of_the_changes(
        changes in proptest::collection::vec(any_change(), 0..120).prop_map(number),
        steps in proptest::collection::vec(any_step(), 0..12),
    ) {
        check(&changes, &steps);
    }
}

#[test]
fn lapses_are_those_of_a_sort_and_scan() {
    // From the episodes of a real community's history: an account that begins like another, months of all lengths.
    let rows = "\
126.com,38933da6ec7aa971,2020-05-25T00:10:43Z,2020-08-25T00:10:43Z,2021-06-28T03:32:06Z
126.com,38933da6ec7aa971,2021-06-28T03:32:06Z,2021-09-28T03:32:06Z,
bloomberg.net,9ffc6b845a32bec2,2019-10-15T04:47:50Z,2020-01-15T04:47:50Z,
confluent.io,cef5005f83f5cb86,2016-04-29T17:51:29Z,2016-07-29T17:51:29Z,2018-03-09T21:57:04Z
gmail.com,1c425927186f779d,2019-01-07T17:21:33Z,2019-04-07T17:21:33Z,2019-07-12T15:06:05Z
gmail.com,4f0571233ae0956f,2016-09-14T17:38:40Z,2016-12-14T17:38:40Z,
gmail.com,8af16def543f9dcc,2018-11-20T17:46:21Z,2019-02-20T17:46:21Z,2023-12-24T20:27:59Z
gmail.com,bc2b868c265a7a88,2018-11-30T00:04:39Z,2019-02-28T00:04:39Z,2019-03-01T00:37:30Z
mail.ru,a0114b2f0e410055,2021-02-05T00:23:35Z,2021-05-05T00:23:35Z,
users.noreply.github.com,3c14ff96a55ca470,2019-06-22T16:26:14Z,2019-09-22T16:26:14Z,2021-03-18T14:27:14Z
users.noreply.github.com,b7d555bae53b9686,2024-07-09T16:53:45Z,2024-10-09T16:53:45Z,
yahoo.com,0e015201075fbe3c,2021-04-13T04:05:49Z,2021-07-13T04:05:49Z,
yahoo.com.tw,98bd15785c65050e,2020-11-25T14:48:02Z,2021-02-25T14:48:02Z,2021-03-13T09:51:35Z
yahoo.com.tw,98bd15785c65050e,2021-03-13T09:51:35Z,2021-06-13T09:51:35Z,
zte.com.cn,a4a3d3db70837856,2017-01-12T19:25:17Z,2017-04-12T19:25:17Z,2017-04-21T04:43:08Z
";
    let mut changes: Vec<Change> = rows.lines().rev().map(episode).collect();
    changes.swap(2, 9);
    let changes = number(changes);
    let dir = TempDir::new().unwrap();
    finish(open(dir.path()), &changes);
    assert_eq!(read_files(dir.path())["lapses.csv"], HEADER.to_owned() + rows);
}

#[test]
fn another_feed_is_written_from_its_beginning_once_it_has_one() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (
        number(vec![change(0, Topic::Alerts, "a", Some("1")), change(0, Topic::Scores, "a", Some("2"))]),
        number(vec![change(0, Topic::DeadLetters, "a", Some("3")), change(0, Topic::Facts, "b", Some("4"))]),
    );
    finish(open_as(dir.path(), "ours").unwrap(), &ours);
    // Opening alone, as by a run that fails for another reason, destroys nothing.
    let mut sink = open_as(dir.path(), "theirs").unwrap();
    assert_eq!(position(&mut sink), 0);
    drop(sink);
    assert_eq!(position(&mut open_as(dir.path(), "ours").unwrap()), 2);
    assert_eq!(read_files(dir.path()), expected(&ours));
    finish(open_as(dir.path(), "theirs").unwrap(), &theirs);
    assert_eq!(read_files(dir.path()), expected(&theirs));
    // Files without an index are nobody's.
    fs::remove_dir_all(dir.path().join(".index")).unwrap();
    finish(open_as(dir.path(), "ours").unwrap(), &ours);
    assert_eq!(read_files(dir.path()), expected(&ours));
    // A feed that has nothing leaves nothing of another.
    let mut sink = open_as(dir.path(), "theirs").unwrap();
    block_on(sink.close()).unwrap();
    assert_eq!(read_files(dir.path()), expected(&[]));
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_a_reason() {
    let told = |error: FileError| {
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        format!("{error}{source}")
    };
    let check = |dir: &Path, words: &str| {
        let error = open_as(dir, "feed").map(|_| ()).map_err(told).unwrap_err();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(&dir.display().to_string()), "{error}");
    };
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    check(&file, "is not a directory");
    check(&file.join("below"), "cannot create the directory");
    let used = root.path().join("used");
    let sink = open(&used);
    check(&used, "is in use by another touchline");
    drop(sink);
    open(&used);
    let taken = root.path().join("taken");
    fs::create_dir_all(taken.join("alerts.jsonl")).unwrap();
    check(&taken, "cannot open");
    let damaged = root.path().join("damaged");
    finish(open(&damaged), &[change(0, Topic::Alerts, "a", Some("1"))]);
    fs::write(damaged.join(".index/CURRENT"), "MANIFEST-999999\n").unwrap();
    check(&damaged, ".index");
}

#[test]
fn while_following_the_sorted_files_appear_without_a_close() {
    let dir = TempDir::new().unwrap();
    let config = FileConfig {
        name: "out".into(),
        dir: dir.path().into(),
        feed: b"feed".to_vec(),
        following: true,
        replaces: false,
    };
    let feed = Script::counting(3);
    let sink = Box::new(FileSink::open(config).unwrap());
    let dispatcher = start(vec![Route { sink, feed: feed.feed(&Topic::ALL) }]);
    eventually("scores.jsonl", || read_files(dir.path())["scores.jsonl"] == "{}\n{}\n{}\n");
    let outcomes = dispatcher.finish(Duration::from_secs(20));
    assert!(matches!(outcomes[0].end, End::Closed), "{outcomes:?}");
    // What has ended has let go of the directory.
    open(dir.path());
}

#[test]
fn several_lanes_fill_one_directory_each_from_its_own_cursor() {
    let dir = TempDir::new().unwrap();
    let of = |lane: u64| {
        let topic = if lane == 0 { Topic::Alerts } else { Topic::Facts };
        let value = |number| format!(r#"{{"lane":{lane},"number":{number}}}"#);
        number((0..9).map(|number| change(0, topic, &format!("{lane}|{number}"), Some(&value(number)))).collect())
    };
    let lanes: [Vec<Change>; 3] = [of(0), of(1), of(2)];
    for step in 0..9 {
        // Opened anew each time, as after a crash; a lane that is repeated adds nothing.
        let mut sink = open(dir.path());
        for (number, changes) in lanes.iter().enumerate().filter(|(number, _)| step % (number + 1) == 0) {
            let Start::At(cursor) = block_on(sink.claim(&lane(number))).unwrap() else { panic!() };
            let begin = cursor.map_or(0, |cursor| crate::kit::index_of(&cursor));
            let batch = |from: usize| {
                let changes = changes[from..=begin].to_vec();
                Batch { changes, next: Some(cursor_at(begin + 1)), published_at: None }
            };
            block_on(sink.deliver(&lane(number), &batch(begin))).unwrap();
            block_on(sink.deliver(&lane(number), &batch(0))).unwrap();
        }
        block_on(sink.close()).unwrap();
    }
    let delivered: Vec<Change> = [&lanes[0][..], &lanes[1][..5], &lanes[2][..3]].concat();
    assert_eq!(read_files(dir.path()), expected(&delivered));
}

#[test]
fn a_failure_of_the_file_sink_is_fatal() {
    let dir = TempDir::new().unwrap();
    let mut sink = open(dir.path());
    fs::create_dir_all(dir.path().join(".scores.jsonl.new")).unwrap();
    let error = block_on(sink.close()).unwrap_err();
    assert!(matches!(error, SinkError::Fatal(_)), "{error:?}");
}
