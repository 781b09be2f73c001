use touchline_core::output::{Outputs, Topic};

use crate::Topics;
use crate::outputs::OutputBatch;

/// What the batch holds: (key, value).
fn held(batch: &OutputBatch) -> Vec<(&str, Option<&str>)> {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    batch.iter().map(|output| (text(output.key), output.value.map(text))).collect()
}

fn score(batch: &mut OutputBatch, key: &str, value: Option<&str>) {
    batch.publish(Topic::Scores, key.as_bytes(), value.map(str::as_bytes));
}

#[test]
fn of_one_score_a_batch_holds_the_newest() {
    let mut batch = OutputBatch::new(Topics::ALL);
    score(&mut batch, "acme|bob", Some("1"));
    batch.publish(Topic::Alerts, b"acme|bob", Some(b"opened"));
    score(&mut batch, "acme|eve", Some("2"));
    score(&mut batch, "acme|bob", Some("300"));
    score(&mut batch, "acme|eve", None);
    batch.publish(Topic::Alerts, b"acme|bob", Some(b"recovered"));
    let alerts = [("acme|bob", Some("opened")), ("acme|bob", Some("recovered"))];
    assert_eq!(held(&batch), [("acme|bob", Some("300")), alerts[0], ("acme|eve", None), alerts[1]]);
    assert_eq!((batch.len(), batch.scores()), (4, 2));

    // What was in one batch says nothing in another.
    batch.clear();
    score(&mut batch, "acme|eve", Some("4"));
    score(&mut batch, "acme|bob", Some("5"));
    assert_eq!(held(&batch), [("acme|eve", Some("4")), ("acme|bob", Some("5"))]);

    // Nor is anything replaced by what is not taken.
    batch.mute(true);
    score(&mut batch, "acme|eve", Some("6"));
    batch.mute(false);
    score(&mut batch, "acme|ann", Some("7"));
    assert_eq!(held(&batch), [("acme|eve", Some("4")), ("acme|bob", Some("5")), ("acme|ann", Some("7"))]);
}

#[test]
fn of_many_scores_each_is_found_again() {
    let mut batch = OutputBatch::new(Topics::ALL);
    for round in ["1", "2"] {
        (0..1000).for_each(|number| score(&mut batch, &format!("acme|{number}"), Some(round)));
    }
    assert_eq!(batch.len(), 1000);
    assert!(held(&batch).iter().all(|(_, value)| *value == Some("2")));
}

#[test]
fn what_nobody_wants_has_no_place() {
    let mut batch = OutputBatch::new([Topic::Alerts].into_iter().collect());
    score(&mut batch, "acme|bob", Some("1"));
    batch.publish(Topic::Alerts, b"id", Some(b"opened"));
    score(&mut batch, "acme|bob", Some("2"));
    assert_eq!(held(&batch), [("id", Some("opened"))]);
}
