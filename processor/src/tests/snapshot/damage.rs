//! What is lost, torn, changed, foreign or in the way when a state is restored.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::{open, rows};
use super::kit::{Kit, PARTITION, TOPIC, grow, keep_going, names, rows_in};
use crate::snapshot::{arm_disk, arm_store};
use crate::{SCHEMA, SnapshotError, Snapshots};

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 4] = [
    ("is not there", |path| fs::remove_file(path).unwrap()),
    ("has not the size that it should", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("has not the size that it should", |path| drop(fs::write(path, ""))),
    ("is not what was written", |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
];

#[test]
fn a_damaged_file_of_any_kind_leads_to_the_older_snapshot() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 100_000);
    let older = kit.save(&store, 1).unwrap();
    let expected = rows(&store);
    grow(&mut store, 2, 100_000);
    let newer = kit.save(&store, 2).unwrap();

    let kept = kit.files_of(&older);
    let own = kit.files_of(&newer).into_iter().filter(|(_, object)| !kept.values().any(|kept| kept == object));
    let mut paths: Vec<_> = own.map(|(_, object)| (kit.folder().join("files").join(&object), object)).collect();
    assert_eq!(paths.len(), 5, "CURRENT, MANIFEST, OPTIONS, a log and a table: {paths:?}");
    paths.push((kit.folder().join("manifests").join(&newer.name), "the manifest".to_owned()));
    for (path, name) in &paths {
        for (number, (what, damage)) in DAMAGES.iter().enumerate() {
            let good = fs::read(path).unwrap();
            if good.is_empty() && number > 0 {
                // A log of which everything has been flushed. There is nothing in it to damage.
                assert!(name.ends_with(".log"));
                continue;
            }
            damage(path);
            let state = format!("restored-{number}");
            let restored = kit.restore(&state, |_| true).unwrap().unwrap();
            fs::write(path, good).unwrap();
            assert_eq!(restored.listed.name, older.name, "{name}: {what}");
            match (name.as_str(), number) {
                // Without a manifest there is no snapshot.
                ("the manifest", 0) => assert_eq!(restored.passed_over.len(), 0),
                ("the manifest", _) => {
                    assert!(restored.passed_over[0].ends_with("the manifest is not what was written"))
                }
                _ => {
                    assert!(restored.passed_over[0].ends_with(&format!("{name} {what}")), "{:?}", restored.passed_over)
                }
            }
            assert_eq!(rows_in(&kit.state(&state)), expected);
            fs::remove_dir_all(kit.state(&state)).unwrap();
        }
    }
    let restored = kit.restore("whole", |_| true).unwrap().unwrap();
    assert_eq!(restored.listed.name, newer.name);
}

#[test]
fn what_all_snapshots_share_cannot_be_damaged_unnoticed() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 100_000);
    let first = kit.save(&store, 1).unwrap();
    grow(&mut store, 2, 100_000);
    kit.save(&store, 2).unwrap();
    let files = kit.files_of(&first);
    let (_, shared) = files.iter().find(|(name, _)| name.ends_with(".sst")).unwrap();
    for (what, damage) in DAMAGES {
        let path = kit.folder().join("files").join(shared);
        let good = fs::read(&path).unwrap();
        damage(&path);
        let error = kit.restore("b", |_| true).unwrap_err();
        let SnapshotError::Damaged { problems, .. } = &error else { panic!("{error}") };
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().all(|problem| problem.ends_with(&format!("{shared} {what}"))), "{problems:?}");
        assert_eq!(names(&kit.state("")), ["a"]);
        fs::write(path, good).unwrap();
    }
    // A lost table is uploaded again with the next snapshot.
    fs::remove_file(kit.folder().join("files").join(shared)).unwrap();
    kit.save(&store, 3).unwrap();
    assert_eq!(kit.restore("b", |_| true).unwrap().unwrap().listed.offset, 3);
    assert_eq!(rows_in(&kit.state("b")), rows(&store));
}

/// Writes a manifest that says something else, as if it were the newest.
fn rewrite(kit: &Kit, change: impl FnOnce(&mut Value)) {
    let folder = kit.folder().join("manifests");
    let newest = names(&folder).pop().unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(folder.join(newest)).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let hash: String = Sha256::digest(&bytes)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join(format!("0000000009-00000000000000000001-1700000000000-{hash}.json")), bytes).unwrap();
}

#[test]
fn refuses_what_is_foreign_with_what_to_do() {
    let check = |change: &dyn Fn(&mut Value), expected: &[&str]| {
        let kit = Kit::new();
        let mut store = open(&kit.state("a"));
        grow(&mut store, 1, 100);
        kit.save(&store, 1).unwrap();
        rewrite(&kit, |manifest| change(manifest));
        let error = kit.restore("b", |_| true).unwrap_err();
        assert!(!error.is_transient());
        for expected in expected {
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(names(&kit.state("")), ["a"]);
        // It stands in nobody's way: snapshots are made beside it.
        kit.save(&store, 2).unwrap();
        kit.restore("c", |listed| listed.generation == 0).unwrap().unwrap();
    };
    let schema = format!("has schema 1, this version reads 4 to {SCHEMA}");
    check(&|manifest| manifest["schema"] = json!(1), &[&schema, "start the version that made it", "--from-log-start"]);
    check(&|manifest| *manifest = json!({"format": 2}), &["has format 2, this version reads 1"]);
    check(&|manifest| manifest["partitions"] = json!(64), &["with 64 partitions, and it has 4 now"]);
}

#[test]
fn passes_over_what_is_not_what_it_says() {
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let kit = Kit::new();
        let mut store = open(&kit.state("a"));
        grow(&mut store, 1, 100);
        let good = kit.save(&store, 1).unwrap();
        rewrite(&kit, |manifest| change(manifest));
        let restored = kit.restore("b", |_| true).unwrap().unwrap();
        assert_eq!(restored.listed.name, good.name);
        assert!(restored.passed_over[0].contains(expected), "{:?}", restored.passed_over);
        assert_eq!(names(kit.directory.path()), ["checkpoints", "snapshots", "state"]);
    };
    check(&|manifest| manifest["topic"] = json!("other"), "it is of partition 3 of other");
    check(&|manifest| manifest["partition"] = json!(2), "it is of partition 2 of touchline.events");
    check(&|manifest| manifest["position"] = json!("00"), "another state than its manifest says");
    check(&|manifest| manifest["files"][0]["name"] = json!("../../stray"), "the manifest is not what was written");
    check(&|manifest| manifest["files"] = json!([]), "");
}

#[test]
fn a_full_disk_leaves_nothing_half_done() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 20 << 20);
    kit.save(&store, 1).unwrap();
    let mut failures = 0;
    for good in 0.. {
        arm_disk(good);
        let restored = kit.restore("b", |_| true);
        arm_disk(u32::MAX);
        match restored {
            Ok(_) => break,
            Err(error @ SnapshotError::Full { .. }) => assert!(error.to_string().contains("nothing was left there")),
            Err(other) => panic!("{other}"),
        }
        failures += 1;
        assert_eq!(names(&kit.state("")), ["a"]);
    }
    assert!(failures > 5, "{failures}");
    assert_eq!(rows_in(&kit.state("b")), rows(&store));
}

#[test]
fn a_restore_waits_for_a_store_that_is_away_at_any_point() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 20 << 20);
    kit.save(&store, 1).unwrap();
    let mut good = 0;
    loop {
        let (state, mut waits) = (format!("b{good}"), None);
        arm_store(good, 1);
        let restored = kit.snapshots.restore(
            PARTITION,
            &kit.state(&state),
            |_| true,
            |progress| {
                waits = waits.take().or_else(|| progress.waits_for.clone());
                keep_going(progress)
            },
        );
        arm_store(u32::MAX, 0);
        restored.unwrap().unwrap();
        assert_eq!(rows_in(&kit.state(&state)), rows(&store));
        fs::remove_dir_all(kit.state(&state)).unwrap();
        let Some(said) = waits else { break };
        assert!(said.contains("out of reach"), "{said}");
        good += 1;
    }
    assert!(good > 6, "{good}");
}

#[test]
fn a_folder_that_is_not_mounted_has_not_lost_its_files() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 100);
    kit.save(&store, 1).unwrap();
    let (folder, aside) = (kit.directory.path().join("snapshots"), kit.directory.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    assert!(kit.snapshots.list(PARTITION).unwrap_err().is_transient());
    assert!(kit.snapshots.probe().unwrap_err().is_transient());
    assert!(kit.save(&store, 2).unwrap_err().is_transient());
    assert!(!folder.exists());
    fs::rename(&aside, &folder).unwrap();
    kit.save(&store, 3).unwrap();
    assert_eq!(kit.snapshots.list(PARTITION).unwrap().len(), 2);
}

#[test]
fn can_be_stopped_and_goes_nowhere_where_something_is() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 20 << 20);
    kit.save(&store, 1).unwrap();
    for reports in 0..4 {
        let mut left = reports;
        let stopped = kit.snapshots.restore(
            PARTITION,
            &kit.state("b"),
            |_| true,
            |_| {
                left -= 1;
                if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert!(matches!(stopped, Err(SnapshotError::Stopped)));
        assert_eq!(names(&kit.state("")), ["a"]);
    }
    let occupied = kit.restore("a", |_| true).unwrap_err();
    assert!(matches!(occupied, SnapshotError::Occupied { .. }) && occupied.to_string().contains("put it aside"));

    // What a restore that was killed has left is in nobody's way.
    fs::create_dir_all(kit.state("b.restoring")).unwrap();
    fs::write(kit.state("b.restoring").join("000001.sst"), "torn").unwrap();
    let mut last = None;
    let restored = kit.snapshots.restore(
        PARTITION,
        &kit.state("b"),
        |_| true,
        |progress| {
            last = Some(progress.clone());
            keep_going(progress)
        },
    );
    let last = last.unwrap();
    assert_eq!((last.bytes, last.total), (restored.unwrap().unwrap().bytes, last.bytes));
    assert_eq!(names(&kit.state("")), ["a", "b"]);
    assert_eq!(rows_in(&kit.state("b")), rows(&store));
}

#[test]
fn partitions_and_topics_have_folders_of_their_own() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 100);
    kit.save(&store, 1).unwrap();
    assert_eq!(kit.snapshots.list(PARTITION + 1).unwrap(), []);
    let url = format!("file://{}/snapshots", kit.directory.path().display());
    assert_eq!(Snapshots::open(&url, "other", 4).unwrap().list(PARTITION).unwrap(), []);
    let eight = Snapshots::open(&url, TOPIC, 8).unwrap();
    let error = eight.restore(PARTITION, &kit.state("b"), |_| true, keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::Partitions { found: 4, expected: 8, .. }), "{error}");
}
