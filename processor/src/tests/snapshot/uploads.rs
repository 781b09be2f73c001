//! Uploads that are interrupted, that meet, and those that nobody waits for.

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{open, rows};
use super::kit::{Kit, PARTITION, grow, names, rows_in, stamp};
use crate::snapshot::arm_store;
use crate::{Event, Saved, SnapshotError, Stamp, Uploader};

/// For what takes no time on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn wherever_an_upload_is_interrupted_the_older_snapshot_is_whole() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 100_000);
    let older = kit.save(&store, 1).unwrap();
    let before = rows(&store);
    // Several tables, of which one takes several parts.
    for number in 2..5 {
        grow(&mut store, number, if number == 3 { 20 << 20 } else { 1000 });
        store.flush().unwrap();
    }
    for good in 0.. {
        arm_store(good, u32::MAX);
        let saved = kit.save(&store, 2);
        arm_store(u32::MAX, 0);
        let state = format!("b{good}");
        let restored = kit.restore(&state, |_| true).unwrap().unwrap();
        match saved {
            Err(error) => {
                assert!(error.is_transient());
                assert_eq!((restored.listed.name, rows_in(&kit.state(&state))), (older.name.clone(), before.clone()));
            }
            Ok(saved) => {
                assert!(good > 12, "{good}");
                assert_eq!((restored.listed.name, rows_in(&kit.state(&state))), (saved.name, rows(&store)));
                break;
            }
        }
        fs::remove_dir_all(kit.state(&state)).unwrap();
    }
}

#[test]
fn what_was_uploaded_before_an_interruption_is_not_uploaded_again() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    for number in 0..6 {
        grow(&mut store, number, 1000);
        store.flush().unwrap();
    }
    // Three others, three lists and looks, three tables.
    arm_store(8, u32::MAX);
    kit.save(&store, 1).unwrap_err();
    arm_store(u32::MAX, 0);
    let tables = |names: Vec<String>| names.into_iter().filter(|name| name.ends_with(".sst")).count();
    let done = tables(names(&kit.folder().join("files")));
    assert!((1..6).contains(&done), "{done}");
    let saved = kit.save(&store, 1).unwrap();
    assert_eq!(saved.uploaded_files, kit.others(&saved) + 6 - done);
    // Nor after a start, once a checkpoint was made.
    kit.save(&store, 2).unwrap();
    drop(store);
    let store = open(&kit.state("a"));
    let saved = kit.save(&store, 3).unwrap();
    assert_eq!(saved.uploaded_files, kit.others(&saved));
    // Without the note of it, all are; and nothing is wrong.
    drop(store);
    fs::write(kit.state("a").join("uploaded.json"), "torn").unwrap();
    let store = open(&kit.state("a"));
    let saved = kit.save(&store, 4).unwrap();
    assert_eq!(saved.uploaded_files, saved.files);
    kit.restore("b", |_| true).unwrap().unwrap();
    assert_eq!(rows_in(&kit.state("b")), rows(&store));
}

#[test]
fn two_processes_at_one_folder_do_each_other_no_harm() {
    let kit = Kit::new();
    let mut origin = open(&kit.state("0"));
    grow(&mut origin, 1, 1000);
    kit.save(&origin, 1).unwrap();
    drop(origin);
    kit.restore("1", |_| true).unwrap().unwrap();
    let rounds = 12;
    let work = |number: u64| {
        let mut store = open(&kit.state(&number.to_string()));
        let mut saved = Vec::new();
        for round in 1..=rounds {
            let offset = round * 2 + number;
            grow(&mut store, offset, 1000);
            if round % 4 == 0 {
                store.db().compact_range::<&[u8], &[u8]>(None, None);
            }
            let made = kit.save(&store, offset).unwrap();
            kit.snapshots.sweep(PARTITION, &made).unwrap();
            saved.push((made.name, rows(&store)));
        }
        saved
    };
    let saved = thread::scope(|scope| {
        let both = [0, 1].map(|number| scope.spawn(move || work(number)));
        both.map(|thread| thread.join().unwrap()).concat()
    });
    assert_eq!(saved.len() as u64, 2 * rounds);
    for (number, (name, rows)) in saved.iter().enumerate() {
        let state = format!("restored-{number}");
        kit.restore(&state, |listed| listed.name == *name).unwrap().unwrap();
        assert_eq!(&rows_in(&kit.state(&state)), rows);
    }
    let furthest = kit.restore("furthest", |_| true).unwrap().unwrap();
    assert_eq!(furthest.listed.offset, rounds * 2 + 1);
}

#[derive(Debug)]
enum Told {
    Saved(Stamp, Saved),
    Failed(Stamp, bool),
}

fn uploader(kit: &Kit) -> (Uploader, Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let on = move |event: Event<'_>| {
        let event = match event {
            Event::Saved { stamp, saved } => Told::Saved(stamp.clone(), saved.clone()),
            Event::Failed { stamp, error } => Told::Failed(stamp.clone(), error.is_transient()),
        };
        // The test may have heard enough.
        let _ = tell.send(event);
    };
    (Uploader::start(kit.snapshots.clone(), &kit.directory.path().join("checkpoints"), on).unwrap(), told)
}

fn next_saved(told: &Receiver<Told>) -> (u64, Saved) {
    let deadline = Instant::now() + SOON;
    loop {
        match told.recv_timeout(deadline - Instant::now()).unwrap() {
            Told::Saved(stamp, saved) => return (stamp.offset, saved),
            Told::Failed(_, is_transient) => assert!(is_transient),
        }
    }
}

#[test]
fn a_worker_waits_for_no_upload() {
    let kit = Kit::new();
    // What a process that was killed has left.
    fs::create_dir_all(kit.directory.path().join("checkpoints/3-0")).unwrap();
    let (uploader, told) = uploader(&kit);
    assert_eq!(names(&kit.directory.path().join("checkpoints")), Vec::<String>::new());
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 1000);
    uploader.checkpoint(&store, stamp(1)).unwrap();
    assert_eq!(next_saved(&told).0, 1);

    let (folder, aside) = (kit.directory.path().join("snapshots"), kit.directory.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    uploader.checkpoint(&store, stamp(2)).unwrap();
    match told.recv_timeout(SOON).unwrap() {
        Told::Failed(failed, true) => assert_eq!(failed, stamp(2)),
        other => panic!("{other:?}"),
    }
    // Newer ones replace what waits; other partitions wait beside it.
    for offset in 3..6 {
        grow(&mut store, offset, 1000);
        uploader.checkpoint(&store, stamp(offset)).unwrap();
    }
    uploader.checkpoint(&store, Stamp { partition: 1, ..stamp(7) }).unwrap();
    let expected = rows(&store);
    // It is uploaded as it was, whatever becomes of the store.
    grow(&mut store, 99, 1000);
    store.db().compact_range::<&[u8], &[u8]>(None, None);
    drop(store);
    fs::rename(&aside, &folder).unwrap();
    let offsets = [next_saved(&told).0, next_saved(&told).0];
    assert!(offsets == [5, 7] || offsets == [7, 5], "{offsets:?}");
    assert_eq!(uploader.drain(Instant::now() + SOON), Vec::<u32>::new());
    assert_eq!(names(&kit.directory.path().join("checkpoints")), Vec::<String>::new());
    kit.restore("b", |_| true).unwrap().unwrap();
    assert_eq!(rows_in(&kit.state("b")), expected);
    assert!(told.recv().is_err(), "each is told once");
}

#[test]
fn drains_until_its_deadline_and_says_what_is_left() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 1000);
    let (first, told) = uploader(&kit);
    for partition in 0..5 {
        first.checkpoint(&store, Stamp { partition, ..stamp(1) }).unwrap();
    }
    assert_eq!(first.drain(Instant::now() + SOON), Vec::<u32>::new());
    drop(first);
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Saved(..))).count(), 5);

    fs::rename(kit.directory.path().join("snapshots"), kit.directory.path().join("aside")).unwrap();
    let (second, _told) = uploader(&kit);
    for partition in [4, 2] {
        second.checkpoint(&store, Stamp { partition, ..stamp(2) }).unwrap();
    }
    let (began, patience) = (Instant::now(), Duration::from_secs(1));
    let mut left = second.drain(began + patience);
    left.sort();
    assert_eq!(left, [2, 4]);
    assert!((patience..patience + Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(names(&kit.directory.path().join("checkpoints")), Vec::<String>::new());
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_dropped() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    grow(&mut store, 1, 1000);
    let directory = kit.directory.path().join("checkpoints/x");
    let checkpoint = store.checkpoint(&directory, stamp(1)).unwrap();
    fs::remove_file(directory.join("CURRENT")).unwrap();
    fs::create_dir(directory.join("CURRENT")).unwrap();
    let error = kit.snapshots.save(&checkpoint).unwrap_err();
    assert!(matches!(error, SnapshotError::Disk { .. }) && !error.is_transient(), "{error}");
    drop(checkpoint);
    assert!(store.checkpoint(&kit.state("a"), stamp(1)).is_err(), "it is already there");
    drop(store);
    assert!(!rows_in(&kit.state("a")).is_empty());
}
