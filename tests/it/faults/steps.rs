//! Each step of a commit, as the servers see it: whoever asks is cut off or killed before the step, behind it, and just as
//! it hears of it.

use std::sync::mpsc;
use std::thread::sleep;
use std::time::Duration;

use touchline_harness::{Kafka, Moment, Postgres, Struck};

use super::works::Works;
use super::{SESSION, patient, pause, rounds, works_on};

/// What is asked of a broker to read, share, publish and commit: by its number in Kafka's protocol, and whether a processor
/// asks only when it starts.
const REQUESTS: [(i16, &str, bool); 13] = [
    (26, "EndTxn", false),
    (28, "TxnOffsetCommit", false),
    (0, "Produce", false),
    (25, "AddOffsetsToTxn", false),
    (24, "AddPartitionsToTxn", false),
    (22, "InitProducerId", true),
    (8, "OffsetCommit", false),
    (9, "OffsetFetch", true),
    (1, "Fetch", false),
    (11, "JoinGroup", true),
    (14, "SyncGroup", true),
    (12, "Heartbeat", false),
    (10, "FindCoordinator", true),
];
/// Each of them comes within it: where only a start asks, a processor is started.
const COMES_WITHIN: Duration = Duration::from_secs(60);
/// What an alert's change has in it, and nothing else.
const CHANGE: &[u8] = b"\"sequence\":";
/// No client of ours waits so long for the end of a transaction.
const BEYOND_PATIENCE: Duration = Duration::from_secs(12);

#[test]
fn cut_off_killed_or_left_waiting_at_each_step_of_a_commit() {
    let (kafka, proxy) = Kafka::proxied();
    works_on(&kafka).check(9, |works, dice| {
        for round in 0..rounds(14) {
            // The first are the dearest, and always among them.
            let request = if round < 6 { round / 3 } else { dice.below(REQUESTS.len() as u64) as u32 };
            let (number, name, is_at_start) = REQUESTS[request as usize];
            let moment = Moment::ALL[round as usize % 3];
            let struck = proxy.strike(moment, move |asked| asked.get(4..6) == Some(&number.to_be_bytes()));
            if is_at_start {
                let stage = *dice.pick(&works.stages_of("process"));
                works.kill(stage);
                works.start_again(stage);
            }
            let struck = come(&struck, name, works);
            match if round == 0 { 2 } else { dice.below(3) } {
                0 => drop(struck),
                1 => {
                    let stage = works.stage(&client(&struck.request));
                    works.kill(stage);
                    drop(struck);
                    works.start_again(stage);
                }
                // Nobody knows what became of it, and nobody waits any longer.
                _ => {
                    sleep(BEYOND_PATIENCE);
                    drop(struck);
                }
            }
            pause(dice, 500);
        }
    });
}

/// Whoever goes on in its place is told that nothing is certain yet, for longer than a client asks by itself.
#[test]
fn killed_in_a_commit_and_not_started_again() {
    let (kafka, proxy) = Kafka::proxied();
    works_on(&kafka).check(19, |works, dice| {
        for _ in 0..rounds(1) {
            // Much is committed before.
            sleep(Duration::from_secs(5));
            let (end_txn, _, _) = REQUESTS[0];
            let struck = proxy.strike(Moment::Asked, move |asked| {
                asked.get(4..6) == Some(&end_txn.to_be_bytes()) && client(asked).starts_with("process")
            });
            let struck = come(&struck, "the end of a transaction", works);
            let stage = works.stage(&client(&struck.request));
            works.kill(stage);
            drop(struck);
            sleep(SESSION + BEYOND_PATIENCE);
            works.start_again(stage);
            pause(dice, 500);
        }
    });
}

#[test]
fn a_database_cut_off_at_each_step_of_a_commit() {
    let postgres = Postgres::shared();
    let proxy = postgres.proxied();
    let works = Works::start(Kafka::shared(), postgres, proxy.port(), patient());
    works.check(10, |works, dice| {
        for round in 0..rounds(9) {
            let moment = Moment::ALL[round as usize % 3];
            // Of alert changes: nothing that comes later makes up for them.
            let mut is_alerts = false;
            let struck = proxy.strike(moment, move |asked| {
                if asked.starts_with(b"Q") {
                    std::mem::take(&mut is_alerts) && asked.ends_with(b"COMMIT\0")
                } else {
                    is_alerts |= asked.starts_with(b"B") && asked.windows(CHANGE.len()).any(|bytes| bytes == CHANGE);
                    false
                }
            });
            let struck = come(&struck, "COMMIT", works);
            if round % 2 == 0 {
                let stage = works.stage("tables");
                works.kill(stage);
                drop(struck);
                works.start_again(stage);
            }
            pause(dice, 500);
        }
    });
}

#[track_caller]
fn come(struck: &mpsc::Receiver<Struck>, name: &str, works: &Works<'_>) -> Struck {
    struck.recv_timeout(COMES_WITHIN).unwrap_or_else(|_| panic!("nobody asked for {name}{}", works.said()))
}

/// Who has asked.
fn client(request: &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([request[12], request[13]]));
    String::from_utf8(request[14..14 + length].to_vec()).unwrap()
}
