use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use touchline_core::output::Topic;
use touchline_sink::{Batch, Dispatcher, End, Outcome, Rejected, Route, SinkError};

use crate::kit::{Behaviour, Script, Scripted, Stored, change, cursor_at, eventually};

/// Far more than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(20);

fn route(name: &'static str, topics: &[Topic], behaviour: Behaviour) -> (Route, Stored) {
    let stored = Stored::default();
    let sink = Scripted { name, stored: stored.clone(), behaviour };
    (Route { sink: Box::new(sink), topics: topics.to_vec() }, stored)
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
    let (route, stored) = route("one", &[Topic::Scores], case.behaviour);
    let outcomes = Dispatcher::start(feed.clone(), vec![route]).unwrap().finish(PATIENCE);
    let [outcome] = &outcomes[..] else { panic!("{name}: {outcomes:?}") };
    assert_eq!(end(outcome), case.end, "{name}: {outcome:?}");
    assert_eq!(*stored.closed.lock().unwrap(), case.end == "closed", "{name}");
    assert_eq!(*stored.sequences.lock().unwrap(), case.stored, "{name}");
    let rejected: Vec<u64> = feed.rejected.lock().unwrap().iter().map(|(_, sequence, _)| *sequence).collect();
    assert_eq!(rejected, case.rejected, "{name}");
    assert_eq!(outcome.progress.acknowledged, *stored.cursor.lock().unwrap(), "{name}");
    assert_eq!(outcome.progress.delivered, case.stored.len() as u64, "{name}");
    assert_eq!(outcome.progress.rejected, case.rejected.len() as u64, "{name}");
    assert!(outcome.progress.ended, "{name}");
    if case.end == "closed" {
        let all = (case.scores > 0).then(|| cursor_at(case.scores as usize));
        assert_eq!(outcome.progress.acknowledged, all, "{name}: the cursor is at the feed's end");
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
    let (failing, failing_stored) = route("failing", &[Topic::Scores], Box::new(away));
    let (blocking, blocking_stored) = route("blocking", &[Topic::Scores], blocking(Duration::from_millis(300)));
    let (well, well_stored) = route("well", &[Topic::Scores], Box::new(|_| Ok(())));
    let dispatcher = Dispatcher::start(feed, vec![failing, blocking, well]).unwrap();
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
    let (away, _) = route("away", &[Topic::Scores], Box::new(|_| Err(SinkError::Retry("away".into()))));
    let (hanging, _) = route("hanging", &[Topic::Scores], blocking(Duration::from_secs(60)));
    let (well, _) = route("well", &[Topic::Scores], Box::new(|_| Ok(())));
    let dispatcher = Dispatcher::start(Script::counting(10), vec![away, hanging, well]).unwrap();
    let start = Instant::now();
    let outcomes = dispatcher.finish(Duration::from_millis(200));
    assert_eq!(outcomes.iter().map(end).collect::<Vec<_>>(), ["abandoned", "abandoned", "closed"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_sink_that_never_waits_is_abandoned_between_batches() {
    let (route, stored) = route("slow", &[Topic::Scores], blocking(Duration::from_millis(50)));
    let outcomes = Dispatcher::start(Script::counting(50_000), vec![route]).unwrap().finish(Duration::from_millis(60));
    assert_eq!(end(&outcomes[0]), "abandoned");
    eventually("the sink to be dropped", || Arc::strong_count(&stored.cursor) == 1);
    assert!(!*stored.closed.lock().unwrap());
}

#[test]
fn a_sink_goes_on_where_it_left_off_and_follows() {
    let feed = Script::counting(3);
    let (mut route, stored) = route("one", &[Topic::Scores], Box::new(|_| Ok(())));
    *stored.cursor.lock().unwrap() = Some(cursor_at(2));
    route.topics = vec![Topic::Scores, Topic::Facts];
    *feed.failures.lock().unwrap() = 2;
    let mut dispatcher = Dispatcher::start(feed.clone(), vec![route]).unwrap();
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually("it to catch up", || progress.borrow().caught_up);
    for (sequence, topic) in [(3, Topic::Facts), (4, Topic::Alerts), (5, Topic::Scores)] {
        feed.publish(change(sequence, topic, "key", None));
        eventually("it to pass", || progress.borrow().acknowledged == Some(cursor_at(sequence as usize + 1)));
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
    let (route, _) = route("one", &Topic::ALL, Box::new(reject_all));
    let outcomes = Dispatcher::start(feed.clone(), vec![route]).unwrap().finish(PATIENCE);
    assert_eq!(end(&outcomes[0]), "closed");
    assert_eq!(outcomes[0].progress.rejected, 2);
    assert_eq!(*feed.rejected.lock().unwrap(), [("one".to_owned(), 1, "odd".to_owned())]);
}

#[test]
fn dropping_the_dispatcher_ends_its_threads() {
    let (route, stored) = route("one", &[Topic::Scores], Box::new(|_| Err(SinkError::Retry("away".into()))));
    drop(Dispatcher::start(Script::counting(1), vec![route]).unwrap());
    eventually("the sink to be dropped", || Arc::strong_count(&stored.cursor) == 1);
    assert!(!*stored.closed.lock().unwrap());
}
