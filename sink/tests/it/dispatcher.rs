use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use touchline_core::output::Topic;
use touchline_sink::{Batch, Dispatcher, End, Event, Outcome, Rejected, Route, SinkError};

use crate::kit::{
    Behaviour, Gate, Patient, Script, Scripted, Stored, change, cursor_at, eventually, lane, scores, start,
};

/// Far more than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(20);

fn route(script: &Arc<Script>, name: &'static str, topics: &[Topic], behaviour: Behaviour) -> (Route, Stored) {
    let stored = Stored::default();
    (Route { sink: Scripted::new(name, &stored, behaviour), feed: script.feed(topics) }, stored)
}

/// How far the one lane of a dispatcher's one sink is acknowledged.
fn acknowledged(dispatcher: &Dispatcher) -> Option<usize> {
    let (_, progress) = dispatcher.progress().next().unwrap();
    let progress = progress.borrow();
    progress.lanes.get(&lane(0))?.acknowledged.as_ref().map(crate::kit::index_of)
}

/// Takes every batch, and keeps its thread for so long.
fn blocking(time: Duration) -> Behaviour {
    Box::new(move |_| {
        std::thread::sleep(time);
        Ok(())
    })
}

fn end(outcome: &Outcome) -> &'static str {
    match outcome.end {
        End::Closed => "closed",
        End::Failed(_) => "failed",
        End::Abandoned => "abandoned",
    }
}

/// A feed of so many scores and one sink: what it has stored at the end, what became dead letters, how it ended.
struct Case {
    scores: u64,
    behaviour: Behaviour,
    stored: Vec<u64>,
    rejected: Vec<u64>,
    end: &'static str,
}

fn check(name: &str, case: Case) {
    let feed = Script::counting(case.scores);
    let (route, stored) = route(&feed, "one", &[Topic::Scores], case.behaviour);
    let outcomes = start(vec![route]).finish(PATIENCE);
    let [outcome] = &outcomes[..] else { panic!("{name}: {outcomes:?}") };
    assert_eq!(end(outcome), case.end, "{name}: {outcome:?}");
    assert_eq!(*stored.closed.lock().unwrap(), case.end == "closed", "{name}");
    assert_eq!(*stored.sequences.lock().unwrap(), case.stored, "{name}");
    let rejected: Vec<u64> = feed.rejected.lock().unwrap().iter().map(|(_, sequence, _)| *sequence).collect();
    assert_eq!(rejected, case.rejected, "{name}");
    let acknowledged = outcome.progress.lanes.get(&lane(0)).and_then(|lane| lane.acknowledged.clone());
    assert_eq!(acknowledged, stored.cursor(), "{name}");
    assert_eq!(outcome.progress.delivered, case.stored.len() as u64, "{name}");
    assert_eq!(outcome.progress.rejected, case.rejected.len() as u64, "{name}");
    assert!(outcome.progress.ended, "{name}");
    if case.end == "closed" {
        let all = (case.scores > 0).then(|| cursor_at(case.scores as usize));
        assert_eq!(acknowledged, all, "{name}: the cursor is at the feed's end");
        assert_eq!(outcome.progress.failing, None, "{name}");
    }
}

fn these(batch: &Batch, bad: fn(u64) -> bool) -> Vec<Rejected> {
    let bad = batch.changes.iter().enumerate().filter(|(_, change)| bad(change.sequence));
    bad.map(|(position, _)| Rejected { position, reason: "odd".to_owned() }).collect()
}

#[test]
fn what_a_sink_says_is_what_is_done() {
    let all = |count| (0..count).collect::<Vec<u64>>();
    let closed = |scores, behaviour| Case { scores, behaviour, stored: all(scores), rejected: vec![], end: "closed" };
    check("nothing", closed(0, Box::new(|_| Ok(()))));
    check("many batches", closed(10_000, Box::new(|_| Ok(()))));
    let mut failures = 3;
    check(
        "failing for a while",
        closed(
            10,
            Box::new(move |_| {
                failures -= i32::from(failures > 0);
                if failures > 0 { Err(SinkError::Retry("away".into())) } else { Ok(()) }
            }),
        ),
    );
    let odd = |sequence| sequence % 2 == 1;
    check(
        "these are rejected",
        Case {
            scores: 10,
            behaviour: Box::new(move |batch| match these(batch, odd) {
                rejected if rejected.is_empty() => Ok(()),
                rejected => Err(SinkError::RejectThese(rejected)),
            }),
            stored: vec![0, 2, 4, 6, 8],
            rejected: vec![1, 3, 5, 7, 9],
            end: "closed",
        },
    );
    let poison = |sequence: u64| [0, 77, 78, 5_000, 5_999].contains(&sequence);
    check(
        "some are rejected, and the sink cannot tell which",
        Case {
            scores: 6_000,
            behaviour: Box::new(move |batch| match these(batch, poison).is_empty() {
                true => Ok(()),
                false => Err(SinkError::RejectSome("a bad one".into())),
            }),
            stored: (0..6_000).filter(|sequence| !poison(*sequence)).collect(),
            rejected: vec![0, 77, 78, 5_000, 5_999],
            end: "closed",
        },
    );
    let failed = |behaviour| Case { scores: 10, behaviour, stored: vec![], rejected: vec![], end: "failed" };
    check("fatal", failed(Box::new(|_| Err(SinkError::fatal("no such table")))));
    check("panic", failed(Box::new(|_| panic!("a test panics"))));
    let nonsense = || SinkError::RejectThese(vec![Rejected { position: 99, reason: String::new() }]);
    check("rejecting nothing", failed(Box::new(move |_| Err(nonsense()))));
}

#[test]
fn a_failing_sink_holds_back_no_other() {
    let feed = Script::counting(10_000);
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let away = move |_: &Batch| if open.load(Ordering::SeqCst) { Ok(()) } else { Err(SinkError::Retry("away".into())) };
    let (failing, failing_stored) = route(&feed, "failing", &[Topic::Scores], Box::new(away));
    let (blocking, blocking_stored) = route(&feed, "blocking", &[Topic::Scores], blocking(Duration::from_millis(300)));
    let (well, well_stored) = route(&feed, "well", &[Topic::Scores], Box::new(|_| Ok(())));
    let dispatcher = start(vec![failing, blocking, well]);
    eventually("the well one to deliver all", || well_stored.sequences.lock().unwrap().len() == 10_000);
    assert!(failing_stored.sequences.lock().unwrap().is_empty());
    let failing = dispatcher.progress().find(|(name, _)| *name == "failing").unwrap().1.clone();
    eventually("it to have been tried again", || failing.borrow().retries >= 2);
    assert_eq!(failing.borrow().failing.as_deref(), Some("away"));
    gate.store(true, Ordering::SeqCst);
    let outcomes = dispatcher.finish(PATIENCE);
    assert_eq!(outcomes.iter().map(end).collect::<Vec<_>>(), ["closed", "closed", "closed"]);
    for stored in [failing_stored, blocking_stored] {
        assert_eq!(*stored.sequences.lock().unwrap(), (0..10_000).collect::<Vec<u64>>());
    }
}

#[test]
fn a_drain_ends_in_time_whatever_a_sink_does() {
    let feed = Script::counting(10);
    let (away, _) = route(&feed, "away", &[Topic::Scores], Box::new(|_| Err(SinkError::Retry("away".into()))));
    let (hanging, _) = route(&feed, "hanging", &[Topic::Scores], blocking(Duration::from_secs(60)));
    let (well, _) = route(&feed, "well", &[Topic::Scores], Box::new(|_| Ok(())));
    let dispatcher = start(vec![away, hanging, well]);
    let began = Instant::now();
    let outcomes = dispatcher.finish(Duration::from_millis(200));
    assert_eq!(outcomes.iter().map(end).collect::<Vec<_>>(), ["abandoned", "abandoned", "closed"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_sink_that_never_waits_is_abandoned_between_batches() {
    let feed = Script::counting(50_000);
    let (route, stored) = route(&feed, "slow", &[Topic::Scores], blocking(Duration::from_millis(50)));
    let outcomes = start(vec![route]).finish(Duration::from_millis(60));
    assert_eq!(end(&outcomes[0]), "abandoned");
    eventually("the sink to be dropped", || Arc::strong_count(&stored.cursors) == 1);
    assert!(!*stored.closed.lock().unwrap());
}

#[test]
fn a_sink_goes_on_where_it_left_off_and_follows() {
    let feed = Script::counting(3);
    let (route, stored) = route(&feed, "one", &[Topic::Scores, Topic::Facts], Box::new(|_| Ok(())));
    stored.cursors.lock().unwrap().insert(lane(0), cursor_at(2));
    *feed.failures.lock().unwrap() = 2;
    let mut dispatcher = start(vec![route]);
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually("it to catch up", || progress.borrow().caught_up);
    for (sequence, topic) in [(3, Topic::Facts), (4, Topic::Alerts), (5, Topic::Scores)] {
        feed.publish(change(sequence, topic, "key", None));
        eventually("it to pass", || acknowledged(&dispatcher) == Some(sequence as usize + 1));
    }
    assert!(!dispatcher.wait(Duration::ZERO));
    dispatcher.drain();
    assert!(dispatcher.wait(PATIENCE));
    assert_eq!(*stored.sequences.lock().unwrap(), [2, 3, 5]);
    assert_eq!(progress.borrow().retries, 2);
}

#[test]
fn a_rejected_dead_letter_makes_no_other() {
    let dead_letter = change(0, Topic::DeadLetters, "", Some("{}"));
    let feed = Script::of(vec![dead_letter, change(1, Topic::Alerts, "a", Some("{}"))]);
    let reject_all = |batch: &Batch| match these(batch, |_| true) {
        rejected if rejected.is_empty() => Ok(()),
        rejected => Err(SinkError::RejectThese(rejected)),
    };
    let (route, _) = route(&feed, "one", &Topic::ALL, Box::new(reject_all));
    let outcomes = start(vec![route]).finish(PATIENCE);
    assert_eq!(end(&outcomes[0]), "closed");
    assert_eq!(outcomes[0].progress.rejected, 2);
    assert_eq!(*feed.rejected.lock().unwrap(), [("one".to_owned(), 1, "odd".to_owned())]);
}

#[test]
fn dropping_the_dispatcher_ends_its_threads() {
    let feed = Script::counting(1);
    let (route, stored) = route(&feed, "one", &[Topic::Scores], Box::new(|_| Err(SinkError::Retry("away".into()))));
    drop(start(vec![route]));
    eventually("the sink to be dropped", || Arc::strong_count(&stored.cursors) == 1);
    assert!(!*stored.closed.lock().unwrap());
}

#[test]
fn what_is_pending_settles_in_a_window_and_is_remembered() {
    let feed = Script::of(scores(100));
    let (stored, gate) = (Stored::default(), Arc::new(Gate::default()));
    let sink = || Patient::new(&stored, &gate, 8);
    let mut dispatcher = start(vec![Route { sink: sink(), feed: feed.feed(&[Topic::Scores]) }]);
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually("the window to fill", || progress.borrow().in_flight == 8);
    assert_eq!(acknowledged(&dispatcher), None);
    gate.allow(1);
    eventually("the first to be remembered", || acknowledged(&dispatcher) == Some(8));
    assert_eq!((progress.borrow().delivered, progress.borrow().rejected), (4, 4));
    eventually("the window to fill again", || progress.borrow().in_flight == 8);
    // Another process goes on from what was remembered: what was pending is delivered again.
    drop(dispatcher);
    eventually("the sink to be dropped", || Arc::strong_count(&stored.cursors) == 1);
    dispatcher = start(vec![Route { sink: sink(), feed: feed.feed(&[Topic::Scores]) }]);
    dispatcher.drain();
    assert!(!dispatcher.wait(Duration::from_millis(50)), "what is pending is waited for");
    gate.allow(1_000);
    assert!(dispatcher.wait(PATIENCE));
    assert!(*stored.closed.lock().unwrap());
    assert_eq!(stored.sorted(), (0..100).step_by(2).collect::<Vec<_>>());
    let rejected: Vec<_> = feed.rejected.lock().unwrap().iter().map(|it| it.1).collect();
    assert_eq!(rejected, (1..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(feed.remembered.lock().unwrap()[&lane(0)], cursor_at(100));
}

#[test]
fn lanes_move_between_processes_whatever_their_sinks_do() {
    let count = 40_000;
    let ours = Script::in_lanes(3, scores(count));
    let theirs = Script::in_lanes(3, scores(count));
    let stored = Stored::default();
    // Ours fails for ever once it has taken some of everything.
    let mut batches = 0;
    let failing: Behaviour = Box::new(move |_| {
        batches += 1;
        if batches > 4 { Err(SinkError::Retry("away".into())) } else { Ok(()) }
    });
    let well: Behaviour = Box::new(|_| Ok(()));
    let topics = [Topic::Scores];
    let us = start(vec![Route { sink: Scripted::new("one", &stored, failing), feed: ours.feed(&topics) }]);
    let them =
        start(vec![Route { sink: Scripted::new("one", &stored, well), feed: theirs.feed_without_lanes(&topics) }]);
    let progress = us.progress().next().unwrap().1.clone();
    eventually("ours to fail", || progress.borrow().failing.is_some());
    assert_eq!(progress.borrow().lanes.len(), 3);
    for number in [2, 0, 1] {
        ours.order(Event::Revoked(lane(number)));
        eventually("it to let go", || !progress.borrow().lanes.contains_key(&lane(number)));
        theirs.order(Event::Assigned(lane(number)));
    }
    let outcomes = them.finish(PATIENCE);
    assert_eq!(outcomes.iter().map(end).collect::<Vec<_>>(), ["closed"]);
    assert_eq!(stored.sorted(), (0..count).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_lane_that_another_has_claimed_is_claimed_again() {
    let feed = Script::counting(10);
    let (route, stored) = route(&feed, "one", &[Topic::Scores], Box::new(|_| Ok(())));
    let dispatcher = start(vec![route]);
    eventually("it to catch up", || acknowledged(&dispatcher) == Some(10));
    // Somebody who had the lane claims it late, and has stored the next two.
    *stored.epochs.lock().unwrap().get_mut(&lane(0)).unwrap() += 1;
    stored.cursors.lock().unwrap().insert(lane(0), cursor_at(12));
    for number in 10..14 {
        feed.publish(change(number, Topic::Scores, "key", None));
    }
    eventually("it to go on", || acknowledged(&dispatcher) == Some(14));
    assert_eq!(*stored.sequences.lock().unwrap(), (0..10).chain(12..14).collect::<Vec<_>>());
    let outcomes = dispatcher.finish(PATIENCE);
    assert_eq!((end(&outcomes[0]), outcomes[0].progress.retries), ("closed", 1));
}
