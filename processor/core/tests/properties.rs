//! Properties of the core: it says what an independent, naive model says, on any log.

mod model;
mod sut;

use model::compare::{alerts_difference, numbered, truth_difference};
use model::logs::{Log, logs, permute, reordered};
use model::naive;
use proptest::prelude::*;

/// Enough to find what a first thousand misses now and then; a failing seed is kept and replayed.
const CASES: u32 = 2_000;

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_core_says_what_the_naive_model_says(log in logs()) {
        let (expected, found) = (naive::run(&log.lines), sut::run(&log.lines, sut::Commits::Each));
        prop_assert_eq!(&expected.rejected, &found.rejected, "{}", numbered(&log.lines));
        let difference = truth_difference(&expected, &found).or_else(|| alerts_difference(&expected.alerts, &found.alerts));
        prop_assert_eq!(difference, None, "\n{}", numbered(&log.lines));
    }

    #[test]
    fn the_order_of_arrival_does_not_matter((log, other) in reordered()) {
        let one = sut::run(&log.lines, sut::Commits::Each);
        let two = sut::run(&other.lines, sut::Commits::AtTheEnd);
        prop_assert_eq!(truth_difference(&one, &two), None, "\n{}\nand\n{}", numbered(&log.lines), numbered(&other.lines));
    }

    #[test]
    fn a_record_that_comes_again_changes_nothing((log, again) in logs().prop_flat_map(|log| {
        let events: Vec<_> = log.lines.iter().filter(|line| !line.contains("\"tick\"") && !line.contains("\"rules\"")).cloned().collect();
        (Just(log), permute(&events))
    })) {
        let once = sut::run(&log.lines, sut::Commits::Each);
        let Log { lines: mut twice } = log;
        twice.extend(again.lines);
        let twice_found = sut::run(&twice, sut::Commits::Each);
        prop_assert_eq!(truth_difference(&once, &twice_found), None, "\n{}", numbered(&twice));
        prop_assert_eq!(once.alerts.len(), twice_found.alerts.len(), "\n{}", numbered(&twice));
    }

    #[test]
    fn stored_and_loaded_between_any_records_it_says_the_same(log in logs()) {
        let one = sut::run(&log.lines, sut::Commits::AtTheEnd);
        let two = sut::run(&log.lines, sut::Commits::Stored);
        prop_assert_eq!(truth_difference(&one, &two), None, "\n{}", numbered(&log.lines));
        prop_assert_eq!(one.alerts, two.alerts, "\n{}", numbered(&log.lines));
    }
}
