//! Snapshots, in a folder and on a server that speaks S3.

mod damage;
mod kit;
mod retention;
mod s3;
mod uploads;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use self::kit::{Kit, PARTITION, TOPIC, copy, grow, keep_going, rows_in};
use self::s3::{BUCKET, S3};
use super::worker::{engagement, outcome, run, tick};
use super::{open, rows};
use crate::{SnapshotError, Snapshots};

/// More than one part of an upload.
const LARGE: usize = 20 << 20;

/// A state is saved, changed, saved, restored, changed, saved and restored, and always what it was.
fn round_trip(kit: &Kit) {
    kit.snapshots.probe().unwrap();
    assert_eq!(kit.restore("none", |_| true).unwrap(), None);
    assert!(!kit.state("none").exists());

    let mut lines: Vec<_> = (0..50).map(|number| engagement(number, 0, number as u16, number as i64)).collect();
    lines.push(tick(400));
    run(&kit.state("a"), &Arc::new(lines.clone()), Timestamp::MAX).unwrap();
    let mut store = open(&kit.state("a"));
    kit.save(&store, 50).unwrap();
    kit.restore("fresh", |_| true).unwrap().unwrap();
    drop(store);
    assert_eq!(outcome(&kit.state("fresh")), outcome(&kit.state("a")));

    store = open(&kit.state("fresh"));
    grow(&mut store, 1, LARGE);
    let first = kit.save(&store, 51).unwrap();
    assert_eq!(first.files, first.uploaded_files + 1);
    assert!(first.bytes > first.uploaded_bytes && first.uploaded_bytes > LARGE as u64);
    assert_eq!(kit.save(&store, 51).unwrap().uploaded_files, kit.others(&first));

    grow(&mut store, 2, 1000);
    let second = kit.save(&store, 52).unwrap();
    assert_eq!((second.files, second.uploaded_files), (first.files + 1, kit.others(&second) + 1));
    let saved = rows(&store);
    let restored = kit.restore("b", |_| true).unwrap().unwrap();
    assert_eq!((restored.listed.offset, restored.listed.generation), (52, 0));
    assert_eq!((&restored.position, restored.bytes), (&store.position().unwrap().unwrap(), second.bytes));
    assert_eq!(restored.listed.name, second.name);
    assert_eq!(restored.passed_over, Vec::<String>::new());
    assert_eq!(rows_in(&kit.state("b")), saved);

    let mut store = open(&kit.state("b"));
    grow(&mut store, 3, 1000);
    let third = kit.save(&store, 53).unwrap();
    assert_eq!((third.files, third.uploaded_files), (second.files + 1, kit.others(&third) + 1));
    let saved = rows(&store);
    kit.restore("c", |_| true).unwrap().unwrap();
    assert_eq!(rows_in(&kit.state("c")), saved);
    let older = kit.restore("d", |listed| listed.offset < 53).unwrap().unwrap();
    assert_eq!(older.listed.name, second.name);
}

#[test]
fn goes_round_in_a_folder() {
    round_trip(&Kit::new());
}

#[test]
fn goes_round_on_s3_which_may_be_away() {
    let objects = TempDir::new().unwrap();
    let mut server = S3::start(&objects.path().join("objects"));
    let url = format!("s3://{BUCKET}/some/prefix/");
    let kit = Kit::on(Snapshots::with(&url, TOPIC, 4, server.env()).unwrap());
    round_trip(&kit);
    kit.snapshots.sweep(PARTITION, &kit.save(&open(&kit.state("c")), 54).unwrap()).unwrap();
    assert_eq!(kit.snapshots.list(PARTITION).unwrap().len(), 6);

    server.down();
    assert!(kit.snapshots.list(PARTITION).unwrap_err().is_transient());
    assert!(kit.save(&open(&kit.state("c")), 55).unwrap_err().is_transient());
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let restored = scope.spawn(|| {
            let progress = |progress: &crate::RestoreProgress| {
                let _ = tell.send(progress.waits_for.is_some());
                ControlFlow::Continue(())
            };
            kit.snapshots.restore(PARTITION, &kit.state("e"), |_| true, progress)
        });
        while !told.recv_timeout(Duration::from_secs(60)).unwrap() {}
        server.up();
        assert_eq!(restored.join().unwrap().unwrap().unwrap().listed.offset, 54);
    });
    assert_eq!(rows_in(&kit.state("e")), rows_in(&kit.state("c")));

    let wrong = Snapshots::with("s3://no-such-bucket", TOPIC, 4, server.env()).unwrap();
    for error in [wrong.probe().unwrap_err(), kit.save_to(&wrong, &open(&kit.state("c")), 1).unwrap_err()] {
        assert!(matches!(error, SnapshotError::Refused { .. }) && !error.is_transient(), "{error:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Rows into a directory, flushed or not.
    Grow(usize, bool),
    /// The directory is closed and opened.
    Reopen(usize),
    /// A copy of one, as from a backup, in place of another.
    Copy(usize, usize),
    Save(usize),
    /// The state of some snapshot in place of a directory.
    Restore(usize, usize),
}

/// Directories that have common ancestors, and the same numbers for different tables.
const DIRECTORIES: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let directory = || 0..DIRECTORIES;
    prop_oneof![
        5 => (directory(), any::<bool>()).prop_map(|(directory, flush)| Op::Grow(directory, flush)),
        1 => directory().prop_map(Op::Reopen),
        2 => (directory(), directory()).prop_map(|(from, to)| Op::Copy(from, to)),
        5 => directory().prop_map(Op::Save),
        3 => (any::<usize>(), directory()).prop_map(|(number, to)| Op::Restore(number, to)),
    ]
}

fn check(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let kit = Kit::new();
    let path = |directory: usize| kit.state(&directory.to_string());
    let mut stores: Vec<_> = (0..DIRECTORIES).map(|directory| Some(open(&path(directory)))).collect();
    let mut saved = Vec::new();
    let replace = |stores: &mut Vec<_>, directory: usize, make: &dyn Fn(&std::path::Path)| {
        stores[directory] = None;
        std::fs::remove_dir_all(path(directory)).unwrap();
        make(&path(directory));
        stores[directory] = Some(open(&path(directory)));
    };
    for (number, op) in ops.into_iter().enumerate() {
        match op {
            Op::Grow(directory, flush) => {
                let store = stores[directory].as_mut().unwrap();
                grow(store, number as u64, 100);
                if flush {
                    store.flush().unwrap();
                }
            }
            Op::Reopen(directory) => {
                stores[directory] = None;
                stores[directory] = Some(open(&path(directory)));
            }
            Op::Copy(from, to) if from != to => {
                stores[from] = None;
                replace(&mut stores, to, &|to| copy(&path(from), to));
                stores[from] = Some(open(&path(from)));
            }
            Op::Copy(..) => {}
            Op::Save(directory) => {
                let store = stores[directory].as_ref().unwrap();
                saved.push((kit.save(store, number as u64).unwrap().name, rows(store)));
            }
            Op::Restore(number, to) => {
                let Some((name, _)) = saved.get(number % saved.len().max(1)) else { continue };
                replace(&mut stores, to, &|to| {
                    let restored = kit.snapshots.restore(PARTITION, to, |listed| listed.name == *name, keep_going);
                    assert_eq!(restored.unwrap().unwrap().listed.name, *name);
                });
            }
        }
    }
    for (number, (name, rows)) in saved.iter().enumerate() {
        let directory = format!("restored-{number}");
        kit.restore(&directory, |listed| listed.name == *name).unwrap().unwrap();
        prop_assert_eq!(&rows_in(&kit.state(&directory)), rows);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_snapshot_is_what_it_was_made_of(ops in prop::collection::vec(op(), 10..30)) {
        check(ops)?;
    }
}

#[test]
fn tables_of_one_number_and_different_content_are_different_objects() {
    let kit = Kit::new();
    let mut origin = open(&kit.state("origin"));
    grow(&mut origin, 1, 100);
    kit.save(&origin, 1).unwrap();
    kit.restore("branch", |_| true).unwrap().unwrap();
    // Opening takes some numbers: of both the same.
    drop(origin);
    let mut origin = open(&kit.state("origin"));
    let mut branch = open(&kit.state("branch"));
    grow(&mut origin, 2, 100);
    grow(&mut branch, 3, 100);
    let (of_origin, of_branch) = (kit.save(&origin, 2).unwrap(), kit.save(&branch, 3).unwrap());
    let (left, right) = (kit.files_of(&of_origin), kit.files_of(&of_branch));
    let clashes = left
        .iter()
        .filter(|(name, object)| name.ends_with(".sst") && right.get(*name).is_some_and(|other| other != *object));
    assert_ne!(clashes.count(), 0, "the test shows nothing: {left:?} {right:?}");
    for (offset, store) in [(2, &origin), (3, &branch)] {
        let directory = format!("restored-{offset}");
        kit.restore(&directory, |listed| listed.offset == offset).unwrap().unwrap();
        assert_eq!(rows_in(&kit.state(&directory)), rows(store));
    }
}

#[test]
fn says_what_is_wrong_with_a_url() {
    let check = |url: &str, env: &[(&str, &str)], expected: &str| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let error = Snapshots::with(url, TOPIC, 4, env).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.is_transient());
    };
    let region = &[("AWS_REGION", "eu-central-1")][..];
    check("/var/lib/snapshots", &[], "write file:///folder or s3://bucket/prefix");
    check("gs://bucket", region, "write file:///folder or s3://bucket/prefix");
    check("file://snapshots", &[], "three slashes and its whole path: file:///snapshots");
    check("file:///dev/null/snapshots", &[], "the folder cannot be made");
    check("s3://", region, "is no name of a bucket");
    check("s3://Bucket", region, "is no name of a bucket");
    check("s3://bucket/some//prefix", region, "empty path segment");
    check("s3://bucket", &[], "set AWS_REGION");
    for (url, env) in [
        ("s3://bucket", region),
        ("s3://bucket/prefix/", region),
        ("s3://bucket/prefix", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")]),
    ] {
        let keys = [("AWS_ACCESS_KEY_ID", "known"), ("AWS_SECRET_ACCESS_KEY", "hush")];
        let env = env.iter().chain(&keys).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let shown = format!("{:?}", Snapshots::with(url, TOPIC, 4, env).unwrap());
        assert!(shown.contains(url.trim_end_matches('/')) && !shown.contains("hush"), "{shown}");
    }
}

#[test]
fn http_is_spoken_only_where_the_endpoint_says_so() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let endpoint = format!("https://{}", server.local_addr().unwrap());
    let env = [
        ("AWS_ENDPOINT_URL", &*endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let snapshots = Snapshots::with("s3://bucket", TOPIC, 4, env.into_iter()).unwrap();
    let heard = thread::spawn(move || {
        use std::io::Read;
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let (mut connection, _) = loop {
            match server.accept() {
                Ok(connection) => break connection,
                Err(_) => assert!(std::time::Instant::now() < deadline, "nobody connects"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        connection.set_nonblocking(false).unwrap();
        let mut first = [0; 1];
        connection.read_exact(&mut first).unwrap();
        first[0]
    });
    assert!(snapshots.list(PARTITION).unwrap_err().is_transient());
    // The first byte of a TLS handshake; not the G of GET.
    assert_eq!(heard.join().unwrap(), 22);
}
