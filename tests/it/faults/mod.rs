//! Faults under load, and nothing is lost or said twice: each test does something to a deployment at work, and the
//! conservation oracle then holds what came out against what went in.

#[cfg(target_os = "linux")]
mod clock;
mod disk;
mod servers;
mod steps;
pub mod works;

use std::thread::sleep;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use touchline_harness::{Kafka, Postgres};

use crate::harness::Dice;
use crate::receiver::Receiver;
use works::{Works, silent_from};

/// A process that says nothing for longer is taken for dead, and its partitions go to others.
const SESSION: Duration = Duration::from_secs(6);

/// How often a fault comes: often enough to see that it is survived, or as many times more often as somebody wishes.
fn rounds(short: u32) -> u32 {
    short * std::env::var("TOUCHLINE_FAULTS").map_or(1, |times| times.parse().unwrap())
}

fn works() -> Works<'static> {
    works_on(Kafka::shared())
}

fn works_on(kafka: &Kafka) -> Works<'_> {
    let postgres = Postgres::shared();
    Works::start(kafka, postgres, postgres.port(), patient())
}

fn patient() -> Receiver {
    Receiver::refusing("nothing at all")
}

fn pause(dice: &mut Dice, below_ms: u64) {
    sleep(Duration::from_millis(dice.below(below_ms)));
}

#[test]
fn undisturbed() {
    works().check(1, |_, _| sleep(Duration::from_secs(5)));
}

#[test]
fn every_stage_killed_again_and_again() {
    works().check(2, |works, dice| {
        for _ in 0..rounds(14) {
            pause(dice, 1500);
            let stage = dice.below(works.stages() as u64) as usize;
            works.kill(stage);
            works.start_again(stage);
        }
    });
}

#[test]
fn who_sleeps_longer_than_his_session_wakes_up_fenced() {
    works().check(3, |works, dice| {
        for _ in 0..rounds(2) {
            pause(dice, 2000);
            let stages: Vec<_> = ["ingest", "process"].map(|command| *dice.pick(&works.stages_of(command))).into();
            stages.iter().for_each(|stage| works.signal(*stage, "STOP"));
            sleep(SESSION * 3 / 2);
            stages.iter().for_each(|stage| works.signal(*stage, "CONT"));
        }
    });
}

/// Whole segments fall silent at midnight. Processors are killed while they say so.
#[test]
fn many_silences_at_one_instant() {
    const CONTACTS: u32 = 20_000;
    const ACCOUNTS: u32 = 2_000;
    let mut works = works();
    let due = Timestamp::now() + SignedDuration::from_secs(15);
    let silent = |number| silent_from(&format!("many-{number}"), &format!("many{}.example", number % ACCOUNTS), due);
    works.first = (0..rounds(CONTACTS)).map(silent).collect();
    works.check(23, |works, dice| {
        sleep(due.duration_since(Timestamp::now()).unsigned_abs());
        for _ in 0..rounds(4) {
            pause(dice, 1000);
            let stage = *dice.pick(&works.stages_of("process"));
            works.kill(stage);
            works.start_again(stage);
        }
    });
}

#[test]
fn members_come_and_go() {
    works().check(4, |works, dice| {
        for _ in 0..rounds(12) {
            pause(dice, 1000);
            let stage = dice.below(works.stages() as u64) as usize;
            works.drain(stage);
            pause(dice, 1000);
            works.start_again(stage);
        }
    });
}
