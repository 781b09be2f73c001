use std::collections::{HashMap, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sink::Cursor;

const NOTHING: [u64; 0] = [];
const S: Duration = Duration::from_secs(1);
/// More attempts than any change of a test needs to be accepted.
const PAUSES: [Duration; 3] = [S, Duration::from_secs(2), Duration::from_secs(4)];

fn window() -> Window {
    Window::new(Schedule::new(PAUSES.to_vec()), Endpoint::new(4))
}

fn lane(number: usize) -> Lane {
    Lane::new(format!("alerts/{number}"))
}

/// The alert at a place of a lane.
fn alert(sequence: u64, key: &str, backlog: Option<u64>) -> Change {
    let mut value = json!({"id": key, "rule": "lapse", "change": "opened", "sequence": sequence, "score": 50.0});
    if let Some(tick) = backlog {
        value["tick"] = json!(format!("2024-01-{:02}T00:00:00Z", tick + 1));
        value["backlog"] = json!(true);
    }
    Change { sequence, topic: Topic::Alerts, key: key.into(), value: Some(value.to_string().into_bytes()) }
}

fn batch(changes: Vec<Change>, next: Option<u64>) -> Batch {
    Batch { changes, next: next.map(|next| Cursor::new(next.to_be_bytes())), published_at: None }
}

fn failure(fault: Fault) -> Failure {
    Failure { fault, reason: "no".into(), said: String::new(), retry_after: None }
}

/// The sequences that a message is about.
fn sequences(message: &Message) -> Vec<u64> {
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    let data = &body["data"];
    let sequence = |alert: &Value| alert["sequence"].as_u64().unwrap();
    data["alerts"].as_array().map_or_else(|| vec![sequence(data)], |alerts| alerts.iter().map(sequence).collect())
}

/// A window with a clock, and receivers that do what a test says.
struct Rig {
    window: Window,
    now: Instant,
    on_their_way: Vec<(Ticket, Message)>,
}

impl Rig {
    fn new() -> Rig {
        Rig { window: window(), now: Instant::now(), on_their_way: Vec::new() }
    }

    /// One batch of these alerts on lane 0, numbered from `first`.
    fn admit(&mut self, first: u64, keys: &[&str]) {
        let changes: Vec<_> = (first..).zip(keys).map(|(sequence, key)| alert(sequence, key, None)).collect();
        let next = first + changes.len() as u64;
        self.window.admit(&lane(0), &batch(changes, Some(next)), self.now);
    }

    /// Starts all that can be; the sequences of all that is on its way.
    fn started(&mut self) -> Vec<u64> {
        while let Some(attempt) = self.window.start(self.now) {
            self.on_their_way.push((attempt.ticket, attempt.message));
        }
        let mut all: Vec<u64> = self.on_their_way.iter().flat_map(|(_, message)| sequences(message)).collect();
        all.sort_unstable();
        all
    }

    fn finish(&mut self, sequence: u64, outcome: Result<(), Failure>) -> Option<String> {
        let at = self.on_their_way.iter().position(|(_, message)| sequences(message).contains(&sequence)).unwrap();
        let (ticket, _) = self.on_their_way.remove(at);
        self.window.finish(ticket, outcome, self.now)
    }

    fn wait(&mut self, time: Duration) -> &mut Rig {
        self.now += time;
        self
    }

    /// What has been told: the sequences rejected, and through where it has come.
    fn news(&mut self) -> (Vec<u64>, Option<u64>) {
        let (mut rejected, mut through) = (Vec::new(), None);
        while let Some(news) = self.window.news() {
            rejected.extend(news.rejected.iter().map(|(change, _)| change.sequence));
            through = news.through.map(|it| u64::from_be_bytes(it.as_bytes().try_into().unwrap())).or(through);
        }
        (rejected, through)
    }
}

#[test]
fn a_refused_change_holds_up_its_own_key_only() {
    let mut rig = Rig::new();
    rig.admit(0, &["a", "b", "a", "c"]);
    assert_eq!(rig.started(), [0, 1, 3]);
    assert_eq!(rig.finish(0, Err(failure(Fault::Refused))), Some("no".to_owned()));
    rig.finish(1, Ok(()));
    rig.finish(3, Ok(()));
    assert_eq!(rig.started(), NOTHING);
    assert_eq!(rig.news(), (vec![], None));
    rig.admit(4, &["d", "a"]);
    assert_eq!(rig.started(), [4]);
    rig.finish(4, Ok(()));
    // Attempts after one second, two more, and four more.
    for pause in PAUSES {
        assert_eq!(rig.started(), NOTHING);
        assert_eq!(rig.wait(pause).started(), [0]);
        rig.finish(0, Err(failure(Fault::Refused)));
    }
    assert_eq!(rig.news(), (vec![0], None));
    assert_eq!(rig.started(), [2]);
    rig.finish(2, Ok(()));
    assert_eq!(rig.news(), (vec![], Some(4)));
    assert_eq!(rig.started(), [5]);
    rig.finish(5, Ok(()));
    assert_eq!(rig.news(), (vec![], Some(6)));
    assert_eq!((rig.window.waiting(), rig.window.wakes_at()), (0, None));
}

#[test]
fn while_nothing_gets_through_one_is_tried_at_a_time() {
    let mut rig = Rig::new();
    rig.window.schedule = Schedule::new(vec![5 * S, 300 * S, 1_800 * S]);
    rig.admit(0, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(rig.started(), [0, 1, 2, 3]);
    for sequence in 0..4 {
        rig.finish(sequence, Err(failure(Fault::Unavailable)));
    }
    assert!(rig.window.is_down());
    assert_eq!(rig.started(), NOTHING);
    // One after the other: those whose schedule runs when they are due, those that have not been tried between.
    let mut tried = Vec::new();
    for _ in 0..12 {
        let wakes_at = rig.window.wakes_at().unwrap();
        assert!(wakes_at - rig.now <= if tried.is_empty() { 5 * S } else { 30 * S }, "{:?}", wakes_at - rig.now);
        rig.now = wakes_at;
        let started = rig.started();
        assert_eq!(started.len(), 1);
        rig.finish(started[0], Err(failure(Fault::Unavailable)));
        assert_eq!(rig.started(), NOTHING);
        tried.extend(started);
    }
    let times = |sequence| tried.iter().filter(|it| **it == sequence).count();
    assert!((0..6).all(|sequence| times(sequence) >= 1), "{tried:?}");
    assert!(tried[6..].iter().collect::<HashSet<_>>().len() == 6, "in turn: {tried:?}");
    // The first that gets through brings all others, at first a few at once.
    rig.now = rig.window.wakes_at().unwrap();
    for at_once in [1, 2, 3] {
        let started = rig.started();
        assert_eq!(started.len(), at_once);
        for sequence in started {
            rig.finish(sequence, Ok(()));
            assert!(!rig.window.is_down());
        }
        // A success allows one more.
        assert!(rig.window.endpoint.allowed() > at_once);
    }
    assert_eq!(rig.news(), (vec![], Some(6)));
}

#[test]
fn an_endless_outage_uses_up_few_schedules_at_a_time() {
    let mut rig = Rig::new();
    rig.admit(0, &["a", "b", "c", "d", "e", "f"]);
    let began = rig.now;
    let mut given_up = Vec::new();
    while given_up.len() < 6 {
        for sequence in rig.started() {
            rig.finish(sequence, Err(failure(Fault::Unavailable)));
        }
        given_up.extend(rig.news().0.into_iter().map(|sequence| (sequence, rig.now - began)));
        rig.now = rig.window.wakes_at().unwrap_or(rig.now);
    }
    let first: HashSet<u64> = given_up[..4].iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(first, HashSet::from([0, 1, 2, 3]));
    assert!(given_up[3].1 <= 7 * S && given_up[4].1 > 7 * S, "{given_up:?}");
}

#[test]
fn a_single_change_notices_within_half_a_minute_that_the_receiver_is_back() {
    let mut rig = Rig::new();
    rig.window.schedule = Schedule::new(vec![5 * S, 300 * S, 300 * S]);
    rig.admit(0, &["a"]);
    for _ in 0..10 {
        assert_eq!(rig.started(), [0]);
        rig.finish(0, Err(failure(Fault::Unavailable)));
        let wakes_at = rig.window.wakes_at().unwrap();
        assert!(wakes_at - rig.now <= 30 * S);
        rig.now = wakes_at;
    }
    assert_eq!(rig.news(), (vec![], None));
    // Another one need not wait: a single failing change proves nothing.
    rig.admit(1, &["b"]);
    assert!(rig.started().contains(&1));
}

#[test]
fn a_receiver_is_given_the_time_that_it_asks_for() {
    let mut rig = Rig::new();
    rig.admit(0, &["a", "b", "c", "d", "e"]);
    assert_eq!(rig.started(), [0, 1, 2, 3]);
    rig.finish(0, Err(Failure { retry_after: Some(3 * S), ..failure(Fault::Throttled) }));
    rig.finish(1, Ok(()));
    rig.finish(2, Ok(()));
    assert_eq!(rig.started(), [3]);
    rig.finish(3, Ok(()));
    assert_eq!(rig.wait(2 * S).started(), NOTHING);
    assert_eq!(rig.window.wakes_at(), Some(rig.now + S));
    assert_eq!(rig.wait(S).started(), [0, 4]);
    rig.finish(4, Ok(()));
    // The same with a refusal concerns that change alone.
    rig.finish(0, Err(Failure { retry_after: Some(60 * S), ..failure(Fault::Refused) }));
    rig.admit(5, &["f"]);
    assert_eq!(rig.started(), [5]);
    rig.finish(5, Ok(()));
    assert_eq!(rig.wait(59 * S).started(), NOTHING);
    assert_eq!(rig.wait(S).started(), [0]);
    // To be asked for less costs no attempt, but the schedule's time runs.
    rig.finish(0, Err(Failure { retry_after: Some(S), ..failure(Fault::Throttled) }));
    assert_eq!(rig.news(), (vec![0], Some(6)));
}

#[test]
fn one_that_is_refused_does_not_keep_a_window_of_delivered_ones_for_long() {
    let mut rig = Rig::new();
    rig.admit(0, &["refused"]);
    rig.started();
    rig.finish(0, Err(failure(Fault::Refused)));
    let last = WINDOW_CHANGES as u64 - 1;
    for first in 1..last {
        rig.admit(first, &["taken"]);
        assert_eq!(rig.started(), [first]);
        rig.finish(first, Ok(()));
    }
    assert_eq!((rig.window.room(), rig.news()), (1, (vec![], None)));
    rig.admit(last, &["taken"]);
    assert_eq!((rig.window.room(), rig.news()), (0, (vec![], None)));
    assert_eq!(rig.started(), [last]);
    assert_eq!(rig.news(), (vec![0], Some(last)));
    assert_eq!(rig.window.room(), ROOM);
}

#[test]
fn a_window_of_pending_ones_has_no_room() {
    let mut rig = Rig::new();
    rig.admit(0, &["same"; WINDOW_CHANGES - 1]);
    assert_eq!(rig.window.room(), 1);
    rig.admit(WINDOW_CHANGES as u64, &["same"]);
    assert_eq!(rig.window.room(), 0);
    assert_eq!(rig.started(), [0]);
    rig.finish(0, Err(failure(Fault::Unavailable)));
    assert_eq!((rig.news(), rig.window.room()), ((vec![], None), 0));
    let large = Change { value: Some(vec![b' '; WINDOW_BYTES]), ..alert(0, "large", None) };
    let mut rig = Rig::new();
    let value = [alert(0, "large", None).value.unwrap(), large.value.unwrap()].concat();
    rig.window.admit(
        &lane(0),
        &batch(vec![Change { value: Some(value), ..alert(0, "large", None) }], Some(1)),
        rig.now,
    );
    assert_eq!(rig.window.room(), 0);
}

#[test]
fn what_cannot_be_sent_is_rejected_at_once() {
    let mut rig = Rig::new();
    let of = |value: Option<&str>, topic| Change { topic, value: value.map(Into::into), ..alert(1, "a", None) };
    let changes = vec![
        of(Some("{"), Topic::Alerts),
        of(Some(r#"{"id":"a.1","rule":"lapse","change":"opened","sequence":1}"#), Topic::Alerts),
        of(None, Topic::Alerts),
        of(Some("nothing"), Topic::Facts),
    ];
    rig.window.admit(&lane(0), &batch(changes, Some(4)), rig.now);
    assert!(rig.window.start(rig.now).is_none());
    let news = rig.window.news().unwrap();
    let reasons: Vec<_> = news.rejected.iter().map(|(_, reason)| reason.split(" at line").next().unwrap()).collect();
    let expected = [
        "not an alert: EOF while parsing an object",
        "not an alert: its id is not made of letters, digits and _",
        "a tombstone is no alert",
        "not a JSON object: expected ident",
    ];
    assert_eq!((reasons, news.through), (expected.to_vec(), Some(Cursor::new(4_u64.to_be_bytes()))));
}

#[test]
fn a_lane_that_is_gone_is_forgotten() {
    let mut rig = Rig::new();
    let changes = vec![alert(0, "a", None), alert(1, "a", None), alert(2, "b", Some(1))];
    for number in 0..2 {
        rig.window.admit(&lane(number), &batch(changes.clone(), Some(3)), rig.now);
    }
    assert_eq!(rig.started(), [0, 0]);
    let gone = rig.window.release(&lane(0));
    assert_eq!((gone.len(), rig.window.waiting()), (1, 3));
    assert_eq!(rig.window.finish(gone[0], Ok(()), rig.now), None);
    rig.on_their_way.retain(|(ticket, _)| *ticket != gone[0]);
    rig.finish(0, Ok(()));
    assert_eq!(rig.wait(RUN_LINGER).started(), [1, 2]);
    rig.finish(1, Ok(()));
    rig.finish(2, Ok(()));
    assert_eq!(rig.news(), (vec![], Some(3)));
    assert_eq!((rig.window.waiting(), rig.window.bytes, rig.window.in_flight), (0, 0, 0));
    assert!(rig.window.queues.is_empty() && rig.window.sendable.is_empty());
}

/// The ids and bodies of all messages of these changes, in batches that end at the cuts.
fn messages(changes: &[Change], cuts: &[usize]) -> BTreeMap<String, Vec<u8>> {
    let mut rig = Rig::new();
    let mut messages = BTreeMap::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([changes.len()]).filter(|end| *end <= changes.len()) {
        if start < end {
            rig.window.admit(&lane(0), &batch(changes[start..end].to_vec(), Some(end as u64)), rig.now);
            start = end;
        }
    }
    rig.wait(RUN_LINGER);
    loop {
        rig.started();
        let Some((_, message)) = rig.on_their_way.first().cloned() else { break };
        rig.finish(sequences(&message)[0], Ok(()));
        messages.insert(message.id, message.body);
    }
    assert_eq!(rig.news(), (vec![], Some(changes.len() as u64)));
    messages
}

#[test]
fn a_backlog_comes_in_digests() {
    let tick = |number| Some(number);
    let changes = vec![
        alert(0, "a", tick(1)),
        alert(1, "b", tick(1)),
        // Another tick, another stretch of sequences, a live alert: each ends a run.
        alert(2, "c", tick(2)),
        alert(digest::SPAN, "d", tick(2)),
        alert(digest::SPAN + 1, "live", None),
        alert(digest::SPAN + 2, "e", tick(2)),
        alert(digest::SPAN + 3, "a", tick(2)),
    ];
    let bodies: Vec<Value> =
        messages(&changes, &[]).values().map(|body| serde_json::from_slice(body).unwrap()).collect();
    let count = |count: u64| bodies.iter().filter(|body| body["data"]["count"] == count).count();
    assert_eq!((bodies.len(), count(1), count(2)), (5, 2, 2));
    let first = bodies.iter().find(|body| body["timestamp"] == "2024-01-02T00:00:00Z").unwrap();
    assert_eq!(first["type"], "alert.digest");
    assert_eq!(first["data"]["counts"], json!({"lapse.opened": 2}));
    assert_eq!(first["data"]["alerts"][1]["id"], "b");
    assert_eq!(first["data"]["omitted"], 0);
}

#[test]
fn the_end_of_a_run_is_not_awaited_for_long() {
    let mut rig = Rig::new();
    rig.window.admit(&lane(0), &batch(vec![alert(0, "a", Some(1))], Some(1)), rig.now);
    rig.wait(RUN_LINGER / 2);
    rig.window.admit(&lane(0), &batch(vec![alert(1, "b", Some(1))], Some(2)), rig.now);
    assert_eq!(rig.started(), NOTHING);
    assert_eq!(rig.window.wakes_at(), Some(rig.now + RUN_LINGER));
    assert_eq!(rig.wait(RUN_LINGER).started(), [0, 1]);
    rig.finish(0, Ok(()));
    // The end of the first batch is inside of the digest: nobody is told of it.
    assert_eq!(rig.news(), (vec![], Some(2)));
}

/// What becomes of a change.
#[derive(Clone, Debug)]
struct Fate {
    key: usize,
    backlog: Option<u64>,
    /// Refused so often before it is taken; more often than the schedule has attempts: never taken.
    refusals: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// Admits so many changes of a lane, as far as there is room; with a cursor, or more follows.
    Admit(usize, usize, bool),
    /// Ends an attempt that is on its way.
    Finish(usize),
    Wait(u64),
    /// Nothing gets through, or all does.
    Outage(bool),
    /// Forgets everything, or one lane, and goes on from what has been remembered.
    Crash,
    Release(usize),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let refusals = prop_oneof![6 => Just(0_usize), 2 => 1..3_usize, 1 => Just(99)];
    let fate = (0..4_usize, proptest::option::weighted(0.4, 0..2_u64), refusals);
    vec(fate.prop_map(|(key, backlog, refusals)| Fate { key, backlog, refusals }), 0..30)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2_usize, 1..6_usize, any::<bool>()).prop_map(|(lane, count, ends)| Step::Admit(lane, count, ends)),
        8 => (0..4_usize).prop_map(Step::Finish),
        4 => (0..2_500_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Outage),
        1 => Just(Step::Crash),
        1 => (0..2_usize).prop_map(Step::Release),
    ];
    vec(step, 0..120)
}

/// A receiver, a feed and what they have seen.
struct World {
    rig: Rig,
    fates: [Vec<Fate>; 2],
    /// Where reading goes on, and from where it would after a crash.
    read: [usize; 2],
    remembered: [usize; 2],
    settled: HashSet<(usize, u64)>,
    refusals: HashMap<String, usize>,
    bodies: HashMap<String, Vec<u8>>,
    is_out: bool,
}

impl World {
    fn changes(&self, lane: usize) -> Vec<Change> {
        let change = |(place, fate): (usize, &Fate)| {
            // Ids tell the lanes apart, and sequences are sparse, so that digests list all that they are about.
            alert(100 * place as u64, &format!("l{lane}k{}", fate.key), fate.backlog)
        };
        self.fates[lane].iter().enumerate().map(change).collect()
    }

    fn admit(&mut self, number: usize, count: usize, ends: bool) {
        let changes = self.changes(number);
        let start = self.read[number];
        let end = changes.len().min(start + count.min(self.rig.window.room()));
        if start < end {
            self.read[number] = end;
            let next = (ends || end == changes.len()).then_some(end as u64);
            self.rig.window.admit(&lane(number), &batch(changes[start..end].to_vec(), next), self.rig.now);
        }
    }

    /// The place of each change in a message.
    fn places(message: &Message) -> Vec<(usize, u64)> {
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let data = &body["data"];
        let alerts = data["alerts"].as_array().cloned().unwrap_or_else(|| vec![data.clone()]);
        let lane = |alert: &Value| usize::from(alert["id"].as_str().unwrap().starts_with("l1"));
        alerts.iter().map(|alert| (lane(alert), alert["sequence"].as_u64().unwrap() / 100)).collect()
    }

    fn key(&self, (lane, place): (usize, u64)) -> (usize, usize) {
        (lane, self.fates[lane][place as usize].key)
    }

    fn start(&mut self) {
        self.rig.started();
        let mut keys = HashSet::new();
        for (_, message) in &self.rig.on_their_way {
            let body = self.bodies.entry(message.id.clone()).or_insert_with(|| message.body.clone());
            assert_eq!(*body, message.body, "one id, two messages");
            let places = World::places(message);
            let of_message: HashSet<_> = places.iter().map(|place| self.key(*place)).collect();
            for key in of_message {
                assert!(keys.insert(key), "two messages of one key are on their way");
            }
            for (lane, place) in &places {
                let mut before = (0..*place).map(|before| (*lane, before));
                let is_open = |it: &(usize, u64)| self.key(*it) == self.key((*lane, *place)) && !places.contains(it);
                assert!(before.all(|it| !is_open(&it) || self.settled.contains(&it)), "out of order");
            }
        }
    }

    fn finish(&mut self, pick: usize) {
        if self.rig.on_their_way.is_empty() {
            return;
        }
        let (ticket, message) = self.rig.on_their_way.remove(pick % self.rig.on_their_way.len());
        let places = World::places(&message);
        let refusals = places.iter().map(|(lane, place)| self.fates[*lane][*place as usize].refusals).max().unwrap();
        let refused = self.refusals.entry(message.id).or_default();
        let outcome = match (self.is_out, *refused < refusals) {
            (true, _) => Err(failure(Fault::Unavailable)),
            (_, true) => {
                *refused += 1;
                Err(failure(Fault::Refused))
            }
            _ => Ok(()),
        };
        if outcome.is_ok() {
            self.settled.extend(places);
        }
        self.rig.window.finish(ticket, outcome, self.rig.now);
    }

    fn news(&mut self) {
        while let Some(news) = self.rig.window.news() {
            let number = usize::from(news.lane == lane(1));
            for (change, reason) in news.rejected {
                assert!(reason.contains("given up after"), "{reason}");
                self.settled.insert((number, change.sequence / 100));
            }
            let through = news.through.map(|it| u64::from_be_bytes(it.as_bytes().try_into().unwrap()));
            if let Some(through) = through {
                assert!((0..through).all(|place| self.settled.contains(&(number, place))), "past a pending change");
                assert!(self.remembered[number] <= through as usize, "back");
                self.remembered[number] = through as usize;
            }
        }
    }

    fn forget(&mut self, number: usize) {
        let gone = self.rig.window.release(&lane(number));
        self.rig.on_their_way.retain(|(ticket, _)| !gone.contains(ticket));
        self.read[number] = self.remembered[number];
        // What is sent again may be refused again.
        self.settled.retain(|(lane, place)| *lane != number || (*place as usize) < self.remembered[number]);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Admit(lane, count, ends) => self.admit(*lane, *count, *ends),
            Step::Finish(pick) => self.finish(*pick),
            Step::Wait(millis) => self.rig.now += Duration::from_millis(*millis),
            Step::Outage(is_out) => self.is_out = *is_out,
            Step::Crash => (0..2).for_each(|number| self.forget(number)),
            Step::Release(number) => self.forget(*number),
        }
        self.news();
        self.start();
        self.news();
    }

    /// Reads and delivers all.
    fn end(&mut self) {
        self.is_out = false;
        for _ in 0..10_000 {
            (0..2).for_each(|lane| self.step(&Step::Admit(lane, 3, true)));
            while !self.rig.on_their_way.is_empty() {
                self.step(&Step::Finish(0));
            }
            self.rig.now = self.rig.window.wakes_at().map_or(self.rig.now, |at| at.max(self.rig.now));
            if self.rig.window.waiting() == 0 && self.read == self.fates.each_ref().map(Vec::len) {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_order_by_key_and_nothing_is_lost(one in fates(), other in fates(), steps in steps()) {
        let mut world = World {
            rig: Rig::new(),
            fates: [one, other],
            read: [0; 2],
            remembered: [0; 2],
            settled: HashSet::new(),
            refusals: HashMap::new(),
            bodies: HashMap::new(),
            is_out: false,
        };
        for step in &steps {
            world.step(step);
        }
        world.end();
        let ends = world.fates.each_ref().map(Vec::len);
        prop_assert_eq!(world.remembered, ends);
        prop_assert_eq!(world.rig.window.waiting(), 0);
        prop_assert_eq!(world.rig.window.bytes, 0);
        prop_assert!(world.rig.window.queues.is_empty());
    }

    #[test]
    fn messages_are_the_same_however_a_lane_is_cut_into_batches(
        fates in fates(),
        mut cuts in vec(0..30_usize, 0..10),
        mut others in vec(0..30_usize, 0..10),
    ) {
        let place = |(place, fate): (usize, &Fate)| alert(place as u64 * 70, &format!("k{}", fate.key), fate.backlog);
        let changes: Vec<_> = fates.iter().enumerate().map(place).collect();
        prop_assume!(!changes.is_empty());
        cuts.sort_unstable();
        others.sort_unstable();
        prop_assert_eq!(messages(&changes, &cuts), messages(&changes, &others));
    }
}

#[test]
fn who_is_erased_is_not_told_of_afterwards() {
    let named = |sequence: u64, key: &str, contact: &str| {
        let value = json!({"id": key, "rule": "lapse", "change": "opened", "sequence": sequence, "score": 50.0,
            "account": "a.com", "contact": contact});
        Change { sequence, topic: Topic::Alerts, key: key.into(), value: Some(value.to_string().into_bytes()) }
    };
    let notice = |sequence: u64| {
        let value = json!({"id": "0f", "rule": "contact", "change": "erased", "sequence": sequence, "account": "a.com",
            "contact": "jo", "erased_at": "2024-01-01T00:00:00Z", "tick": null});
        Change { sequence, topic: Topic::Alerts, key: b"0f".to_vec(), value: Some(value.to_string().into_bytes()) }
    };
    let mut rig = Rig::new();
    let changes = vec![named(0, "a", "jo"), named(1, "b", "al"), notice(2), named(3, "c", "jo")];
    rig.window.admit(&lane(0), &batch(changes, Some(4)), rig.now);
    assert_eq!(rig.started(), [0, 1, 3]);
    rig.finish(1, Ok(()));
    rig.finish(0, Err(failure(Fault::Refused)));
    assert_eq!(rig.started(), [3]);
    assert_eq!(rig.wait(S).started(), [0, 3]);
    rig.finish(0, Ok(()));
    assert_eq!(rig.started(), [2, 3]);
}
