use touchline_core::output::{Outputs, Receipt, Topic};

use crate::Topics;
use crate::outputs::OutputBatch;

/// What the batch holds: (key, value).
fn held(batch: &OutputBatch) -> Vec<(&str, Option<&str>)> {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    batch.iter().map(|output| (text(output.key), output.value.map(text))).collect()
}

#[test]
fn of_one_score_a_batch_holds_the_newest() {
    let mut batch = OutputBatch::new(Topics::ALL);
    let score = |batch: &mut OutputBatch, key: &str, value: Option<&str>, before| {
        batch.publish_latest(Topic::Scores, key.as_bytes(), value.map(str::as_bytes), before)
    };
    let bob = score(&mut batch, "acme|bob", Some("1"), Receipt::default());
    batch.publish(Topic::Alerts, b"id", Some(b"opened"));
    let eve = score(&mut batch, "acme|eve", Some("2"), Receipt::default());
    assert_eq!(score(&mut batch, "acme|bob", Some("300"), bob), bob);
    assert_eq!(score(&mut batch, "acme|eve", None, eve), eve);
    assert_eq!(held(&batch), [("acme|bob", Some("300")), ("id", Some("opened")), ("acme|eve", None)]);
    assert_eq!((batch.len(), batch.scores()), (3, 2));

    // What was handed out for one batch says nothing in another.
    batch.clear();
    let eve = score(&mut batch, "acme|eve", Some("4"), eve);
    score(&mut batch, "acme|bob", Some("5"), bob);
    assert_eq!(held(&batch), [("acme|eve", Some("4")), ("acme|bob", Some("5"))]);

    // Nor is anything replaced by what is not taken.
    batch.mute(true);
    let none = score(&mut batch, "acme|eve", Some("6"), eve);
    batch.mute(false);
    let ann = score(&mut batch, "acme|ann", Some("7"), none);
    assert_ne!(ann, eve);
    assert_eq!(held(&batch), [("acme|eve", Some("4")), ("acme|bob", Some("5")), ("acme|ann", Some("7"))]);
}

#[test]
fn what_nobody_wants_has_no_place() {
    let mut batch = OutputBatch::new([Topic::Alerts].into_iter().collect());
    let nothing = batch.publish_latest(Topic::Scores, b"acme|bob", Some(b"1"), Receipt::default());
    batch.publish(Topic::Alerts, b"id", Some(b"opened"));
    batch.publish_latest(Topic::Scores, b"acme|bob", Some(b"2"), nothing);
    assert_eq!(held(&batch), [("id", Some("opened"))]);
}
