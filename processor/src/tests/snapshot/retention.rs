//! What goes, and what stays although nothing seems to need it.

use std::fs::{self, File};

use std::time::Duration;

use super::super::{open, rows};
use super::kit::{Kit, PARTITION, grow, names, rows_in};
use crate::snapshot::{DAY, HALF_DAY};
use crate::{Saved, Store};

const MINUTE: Duration = Duration::from_secs(60);

/// Lets everything in the partition's folder become older.
fn pass(kit: &Kit, time: Duration) {
    for folder in ["files", "manifests"] {
        for entry in fs::read_dir(kit.folder().join(folder)).unwrap().map(|entry| entry.unwrap()) {
            let modified = entry.metadata().unwrap().modified().unwrap();
            File::options().write(true).open(entry.path()).unwrap().set_modified(modified - time).unwrap();
        }
    }
}

/// A snapshot that shares no table with one before.
fn save_anew(kit: &Kit, store: &mut Store, offset: u64) -> Saved {
    grow(store, offset, 1000);
    store.flush().unwrap();
    store.db().compact_range::<&[u8], &[u8]>(None, None);
    kit.save(store, offset).unwrap()
}

fn manifests(kit: &Kit) -> Vec<String> {
    names(&kit.folder().join("manifests"))
}

/// Whether all files of a snapshot are there.
fn is_whole(kit: &Kit, files: &std::collections::BTreeMap<String, String>) -> bool {
    files.values().all(|object| kit.folder().join("files").join(object).exists())
}

#[test]
fn two_stay_and_what_they_need_and_what_is_of_the_last_day() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    let saved: Vec<_> = (1..=3).map(|offset| save_anew(&kit, &mut store, offset)).collect();
    let files: Vec<_> = saved.iter().map(|saved| kit.files_of(saved)).collect();
    let names: Vec<_> = saved.iter().map(|saved| saved.name.clone()).collect();
    let check = |newest: &Saved, left: &[String], whole: &[bool]| {
        kit.snapshots.sweep(PARTITION, newest).unwrap();
        assert_eq!(manifests(&kit), left);
        assert_eq!(files.iter().map(|files| is_whole(&kit, files)).collect::<Vec<_>>(), whole);
    };
    // The first has been superseded just now.
    check(&saved[2], &names, &[true, true, true]);
    pass(&kit, DAY - MINUTE);
    let fourth = save_anew(&kit, &mut store, 4);
    let with = |first: usize, more: &[&Saved]| {
        names[first..].iter().cloned().chain(more.iter().map(|saved| saved.name.clone())).collect::<Vec<_>>()
    };
    check(&fourth, &with(0, &[&fourth]), &[true, true, true]);
    // The second and third have now been there for a day: two that are further than the first.
    pass(&kit, 2 * MINUTE);
    let fifth = save_anew(&kit, &mut store, 5);
    check(&fifth, &with(1, &[&fourth, &fifth]), &[false, true, true]);
    pass(&kit, 2 * DAY);
    let sixth = save_anew(&kit, &mut store, 6);
    // Of those of today there is one alone, so the two before stay.
    check(&sixth, &[&fourth, &fifth, &sixth].map(|saved| saved.name.clone()), &[false, false, false]);
    for (number, saved) in [&fourth, &fifth, &sixth].into_iter().enumerate() {
        kit.restore(&number.to_string(), |listed| listed.name == saved.name).unwrap().unwrap();
    }
    assert_eq!(rows_in(&kit.state("2")), rows(&store));
    let expected: std::collections::BTreeSet<_> =
        [&fourth, &fifth, &sixth].iter().flat_map(|saved| kit.files_of(saved).into_values()).collect();
    assert_eq!(super::kit::names(&kit.folder().join("files")), expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn what_an_upload_has_left_goes_once_it_is_a_day_old() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    let files = kit.folder().join("files");
    kit.save(&store, 1).unwrap();
    // A file without a manifest, and what a killed process leaves of one.
    fs::write(files.join("orphan-000001.sst"), "x").unwrap();
    fs::write(files.join("orphan-000002.sst#1"), "x").unwrap();
    let orphans = || names(&files).into_iter().filter(|name| name.starts_with("orphan")).count();
    kit.snapshots.sweep(PARTITION, &save_anew(&kit, &mut store, 2)).unwrap();
    assert_eq!(orphans(), 2);
    pass(&kit, DAY);
    kit.snapshots.sweep(PARTITION, &save_anew(&kit, &mut store, 3)).unwrap();
    assert_eq!(orphans(), 0);
    assert_eq!(kit.restore("b", |_| true).unwrap().unwrap().listed.offset, 3);
}

#[test]
fn where_a_manifest_cannot_be_read_no_file_goes() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    let torn = kit.save(&store, 1).unwrap();
    fs::write(kit.folder().join("manifests").join(&torn.name), "{").unwrap();
    fs::write(kit.folder().join("files").join("orphan-000001.sst"), "x").unwrap();
    let orphan = || kit.folder().join("files").join("orphan-000001.sst").exists();
    pass(&kit, 3 * DAY);
    for offset in 2..4 {
        kit.snapshots.sweep(PARTITION, &save_anew(&kit, &mut store, offset)).unwrap();
        assert!(orphan());
        assert_eq!(manifests(&kit).len(), offset as usize);
    }
    // Until it is superseded itself.
    pass(&kit, DAY);
    kit.snapshots.sweep(PARTITION, &save_anew(&kit, &mut store, 4)).unwrap();
    assert!(!orphan() && !manifests(&kit).contains(&torn.name));
}

#[test]
fn a_snapshot_that_has_lost_a_file_supersedes_nothing() {
    let kit = Kit::new();
    let mut store = open(&kit.state("a"));
    let good = save_anew(&kit, &mut store, 1);
    for offset in 2..5 {
        let broken = save_anew(&kit, &mut store, offset);
        let files = kit.files_of(&broken);
        fs::remove_file(kit.folder().join("files").join(&files["CURRENT"])).unwrap();
    }
    pass(&kit, 2 * DAY);
    kit.snapshots.sweep(PARTITION, &save_anew(&kit, &mut store, 5)).unwrap();
    assert!(manifests(&kit).contains(&good.name));
    assert!(is_whole(&kit, &kit.files_of(&good)));
}

#[test]
fn an_upload_counts_on_nothing_that_may_go_meanwhile() {
    let kit = Kit::new();
    let (mut store, mut other) = (open(&kit.state("a")), open(&kit.state("b")));
    grow(&mut store, 1, 1000);
    let first = kit.save(&store, 1).unwrap();
    let table = |saved: &Saved| {
        let tables: Vec<_> = kit.files_of(saved).into_iter().filter(|(name, _)| name.ends_with(".sst")).collect();
        assert_eq!(tables.len(), 1, "{tables:?}");
        tables[0].1.clone()
    };
    // Two further ones of another process. The table is still there, and young: nobody deletes it today.
    for offset in 2..4 {
        save_anew(&kit, &mut other, offset);
    }
    pass(&kit, HALF_DAY - MINUTE);
    assert_eq!(table(&kit.save(&store, 1).unwrap()), table(&first));
    pass(&kit, 2 * MINUTE);
    let again = kit.save(&store, 1).unwrap();
    assert_ne!(table(&again), table(&first));
    // What a further one names is good at any age.
    kit.restore("c", |listed| listed.name == again.name).unwrap().unwrap();
    pass(&kit, 3 * DAY);
    let furthest = save_anew(&kit, &mut store, 9);
    pass(&kit, 3 * DAY);
    assert_eq!(kit.save(&store, 9).map(|saved| table(&saved)).unwrap(), table(&furthest));
}

#[test]
fn a_zombie_does_not_displace_what_is_further() {
    let kit = Kit::new();
    let (mut store, mut zombie) = (open(&kit.state("a")), open(&kit.state("z")));
    let saved: Vec<_> = (10..12).map(|offset| save_anew(&kit, &mut store, offset)).collect();
    pass(&kit, 2 * DAY);
    for offset in 1..6 {
        let behind = save_anew(&kit, &mut zombie, offset);
        kit.snapshots.sweep(PARTITION, &behind).unwrap();
        assert!(!manifests(&kit).contains(&behind.name), "it is superseded by two as it comes");
    }
    assert_eq!(manifests(&kit), saved.iter().map(|saved| saved.name.clone()).collect::<Vec<_>>());
    assert_eq!(kit.restore("b", |_| true).unwrap().unwrap().listed.offset, 11);
    assert_eq!(rows_in(&kit.state("b")), rows(&store));
}
