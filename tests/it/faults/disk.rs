//! What is done to the disks: to the states of the processors, and to the snapshots.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::works::PARTITIONS;
use super::{rounds, works};
use crate::harness::Dice;

/// Long enough that a snapshot was made, and what is on the disk is more than an empty state.
const A_SNAPSHOT: Duration = Duration::from_secs(12);
/// The files of a state, by the beginning or the end of their names.
const KINDS: [&str; 6] = [".sst", "MANIFEST-", "CURRENT", "OPTIONS-", "IDENTITY", "LOG"];
const INTERNAL: i32 = 70;
/// What is damaged is mostly seen by then.
const SEEN: Duration = Duration::from_secs(5);

#[test]
fn a_flipped_bit_in_a_file_of_each_kind() {
    let mut works = works();
    works.may_end = true;
    works.check(11, |works, dice| {
        for kind in KINDS {
            sleep(A_SNAPSHOT / 4);
            let stage = *dice.pick(&works.stages_of("process"));
            works.kill(stage);
            harm(&works.dir(stage), dice, &mut |name| name.starts_with(kind) || name.ends_with(kind));
            works.start_again(stage);
            works.supervise(SEEN);
            // Nobody has looked at all of it yet.
            works.kill(stage);
            fs::remove_dir_all(works.dir(stage)).unwrap();
            works.start_again(stage);
        }
    });
}

#[test]
fn states_that_are_lost_and_snapshots_that_are_damaged() {
    works().check(12, |works, dice| {
        for round in 0..rounds(3) {
            works.until("there is a snapshot of each partition", |works| {
                let found = with_snapshots(&works.deployment.place.path("snapshots"));
                found >= PARTITIONS as usize
            });
            sleep(A_SNAPSHOT);
            let stage = *dice.pick(&works.stages_of("process"));
            works.kill(stage);
            fs::remove_dir_all(works.dir(stage)).unwrap();
            // The first is restored; without a whole snapshot the log does; then one may be whole, or none.
            if round > 0 {
                let snapshots = works.deployment.place.path("snapshots");
                let mut some = Dice(dice.word());
                harm(&snapshots, dice, &mut |name| {
                    if round == 1 { name.ends_with(".json") } else { some.below(3) == 0 }
                });
            }
            works.start_again(stage);
            if round == 1 {
                works.until("a state is made again from the log", |works| {
                    works.said().contains("the log has its beginning")
                });
            }
            sleep(SEEN);
        }
    });
}

#[test]
fn a_snapshot_store_that_is_away() {
    works().check(13, |works, _| {
        let [store, away] = ["snapshots", "away"].map(|name| works.deployment.place.path(name));
        for _ in 0..rounds(1) {
            sleep(A_SNAPSHOT);
            fs::rename(&store, &away).unwrap();
            // Nothing can be made there.
            fs::write(&store, "").unwrap();
            sleep(A_SNAPSHOT);
            fs::remove_file(&store).unwrap();
            fs::rename(&away, &store).unwrap();
        }
    });
}

#[test]
fn a_disk_that_is_full() {
    works().check(14, |works, dice| {
        let mut full = 0;
        for _ in 0..rounds(1) {
            let stages = [*dice.pick(&works.stages_of("process")), works.stage("files")];
            for stage in stages {
                works.kill(stage);
                works.start_full(stage, 16 << dice.below(3));
            }
            sleep(A_SNAPSHOT);
            for stage in stages {
                match works.has_ended(stage) {
                    Some(ran) => {
                        full += 1;
                        ran.failed(INTERNAL, &["File too large"]);
                    }
                    None => works.kill(stage),
                }
                works.start_again(stage);
            }
        }
        assert!(full > 0, "none was ever full");
    });
}

/// How many folders have a snapshot.
fn with_snapshots(dir: &Path) -> usize {
    let (mut found, mut has_own) = (0, false);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        found += if path.is_dir() { with_snapshots(&path) } else { 0 };
        has_own |= path.extension().is_some_and(|it| it == "json");
    }
    found + usize::from(has_own)
}

/// Flips a bit somewhere in each file below `dir` that is the one.
fn harm(dir: &Path, dice: &mut Dice, is_it: &mut dyn FnMut(&str) -> bool) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            harm(&path, dice, is_it);
        } else if is_it(path.file_name().unwrap().to_str().unwrap()) {
            let mut bytes = fs::read(&path).unwrap();
            if !bytes.is_empty() {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
                fs::write(&path, bytes).unwrap();
            }
        }
    }
}
