//! What is done to the clocks of the machines. Time is what the broker says of its own records, so they do not matter.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{rounds, works};
use crate::harness::Place;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/clock.c");
/// Seconds: an hour off, in both directions, or right.
const OFF: [&str; 3] = ["3600", "-3600", "0"];

#[test]
fn clocks_that_are_an_hour_off_and_jump() {
    works().check(17, |works, dice| {
        let library = preloaded(&works.deployment.place);
        let file = |number: usize| format!("clock-{number}");
        for number in 0..works.stages() {
            works.kill(number);
            works.deployment.place.write(&file(number), OFF[number % OFF.len()]);
            let clock = works.deployment.place.path(&file(number));
            works.start_under(number, &format!("LD_PRELOAD={library} CLOCK_OFF={}", clock.display()));
        }
        for _ in 0..rounds(10) {
            sleep(Duration::from_secs(1));
            let number = dice.below(works.stages() as u64) as usize;
            works.deployment.place.write(&file(number), dice.pick(&OFF));
        }
        let is_off = |line: &str| {
            let at = line.split(' ').next().and_then(|word| word.parse::<Timestamp>().ok());
            at.is_some_and(|at| at.duration_since(Timestamp::now()).abs() > SignedDuration::from_mins(30))
        };
        assert!(works.said().lines().any(is_off), "the time is right everywhere: {}", works.said());
    });
}

fn preloaded(place: &Place) -> String {
    let library = place.path("clock.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", SOURCE, "-o"]).arg(&library).status();
    assert!(compiled.unwrap().success(), "{SOURCE} does not compile");
    library.display().to_string()
}
