//! Files that are moved, cut, deleted and made anew while their path is followed, and between two runs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::{Duration, Instant, SystemTime};

use touchline_ingest::{Files, FilesPosition, Item, Options};

use crate::kit::{arrived, event, events, gzip, ids, options, told};

/// Whatever takes longer does not come.
const DEADLINE: Duration = Duration::from_secs(60);
const NAME: &str = "events.jsonl";

/// A directory in which a path is followed.
struct Place {
    dir: tempfile::TempDir,
    files: Option<Files>,
    position: FilesPosition,
    warnings: Vec<String>,
}

impl Place {
    fn with(contents: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), contents).unwrap();
        Place { dir, files: None, position: FilesPosition::default(), warnings: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy_and_cut(&self, to: &str) {
        fs::copy(self.path(NAME), self.path(to)).unwrap();
        self.cut();
    }

    /// Tells two files apart for which the clock of a file system is too coarse.
    fn written(&self, hours: i64, name: &str) {
        let hour = Duration::from_secs(3_600 * hours.unsigned_abs());
        let now = SystemTime::now();
        let time = if hours < 0 { now - hour } else { now + hour };
        File::open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    fn cut(&self) {
        File::options().write(true).open(self.path(NAME)).unwrap().set_len(0).unwrap();
    }

    fn files(&mut self) -> &mut Files {
        self.files.get_or_insert_with(|| {
            let options = Options { follow: true, ..options(None) };
            Files::open(&[self.dir.path().join(NAME)], options, self.position.clone()).unwrap()
        })
    }

    /// What is there until nothing more is, looked at twice: what has been rotated shows at the second look.
    fn read(&mut self) -> Vec<String> {
        let (mut found, mut looks) = (Vec::new(), 0);
        while looks < 2 {
            match self.files().next(arrived()).unwrap() {
                Item::Idle => looks += 1,
                Item::End => panic!("it has ended"),
                item => found.push(told(&item)),
            }
        }
        found
    }

    /// Reads a few records, and no further.
    fn read_some(&mut self, records: usize) -> Vec<String> {
        (0..records).map(|_| told(&self.files().next(arrived()).unwrap())).collect()
    }

    /// Ends the run; what it stored is its position.
    fn stop(&mut self) {
        let mut bytes = Vec::new();
        self.files().position().encode(&mut bytes);
        let warnings = self.files().warnings().to_vec();
        self.warnings.extend(warnings);
        self.position = FilesPosition::decode(&bytes).unwrap();
        self.files = None;
    }

    /// The warnings of all runs, with the directory left out.
    fn warnings(&mut self) -> String {
        self.stop();
        self.warnings.join("; ").replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn a_file_that_is_moved_is_read_to_its_end_and_then_the_new_one() {
    let mut place = Place::with(&events(0, 3));
    assert_eq!(place.read_some(2), ids(0, 2));
    place.rename(NAME, "events.jsonl.1");
    place.append(NAME, events(5, 7));
    // A writer that has not heard of it yet.
    place.append("events.jsonl.1", events(3, 5) + &event("e9")[..50]);
    assert_eq!(place.read(), ids(2, 7));
    place.append("events.jsonl.1", format!("{}\n", &event("e9")[50..]));
    place.append(NAME, events(7, 9));
    let mut found = place.read();
    found.sort();
    assert_eq!(found, ids(7, 10));
    assert_eq!(place.warnings(), "");
    assert!(place.read().is_empty(), "all is known to a later run");
}

#[test]
fn a_file_that_is_moved_before_another_is_there() {
    let mut place = Place::with(&events(0, 2));
    assert_eq!(place.read(), ids(0, 2));
    place.rename(NAME, "events.jsonl.1");
    assert!(place.read().is_empty());
    let ends = place.files().sample_ends().unwrap().unwrap();
    assert!(place.files().has_passed(&ends), "time goes on while there is nothing to read");
    place.append(NAME, events(2, 4));
    assert_eq!(place.files().sample_ends().unwrap(), None, "a file that has not been looked into holds the clock");
    assert_eq!(place.read(), ids(2, 4));
    let ends = place.files().sample_ends().unwrap().unwrap();
    assert!(place.files().has_passed(&ends));
}

#[test]
fn a_file_that_was_moved_away_and_comes_back() {
    let mut place = Place::with(&events(0, 2));
    assert_eq!(place.read(), ids(0, 2));
    place.rename(NAME, "away");
    assert!(place.read().is_empty());
    place.rename("away", NAME);
    place.append(NAME, events(2, 4));
    assert_eq!(place.read(), ids(2, 4));
}

#[test]
fn a_file_that_is_deleted_and_made_anew() {
    let mut place = Place::with(&events(0, 2));
    assert_eq!(place.read_some(1), ids(0, 1));
    fs::remove_file(place.path(NAME)).unwrap();
    assert_eq!(place.read(), ids(1, 2), "its open handle still has it");
    place.append(NAME, events(2, 4));
    assert_eq!(place.read(), ids(2, 4));
}

#[test]
fn a_name_that_goes_to_many() {
    let mut place = Place::with("");
    let mut found = Vec::new();
    for turn in 0..40 {
        place.append(NAME, events(turn * 3, turn * 3 + 3));
        found.extend(place.read());
        place.rename(NAME, &format!("events.jsonl.{turn}"));
        if turn % 7 == 0 {
            place.stop();
        }
    }
    place.append(NAME, "");
    found.extend(place.read());
    assert_eq!(found, ids(0, 120));
    assert_eq!(place.warnings(), "");
    assert!(place.position.files().len() <= 18, "those that are done with are forgotten");
}

#[test]
fn names_that_go_to_two_between_two_looks() {
    let mut place = Place::with(&events(0, 2));
    assert_eq!(place.read(), ids(0, 2));
    for turn in (0..20).step_by(4) {
        place.rename(NAME, &format!("events.jsonl.{turn}"));
        place.append(NAME, events(turn + 2, turn + 4));
        place.rename(NAME, &format!("events.jsonl.{}", turn + 1));
        place.append(NAME, events(turn + 4, turn + 6));
        assert_eq!(place.read(), ids(turn + 2, turn + 6));
    }
    // So with copies.
    place.copy_and_cut("events.jsonl.30");
    place.append(NAME, events(50, 52));
    place.copy_and_cut("events.jsonl.31");
    place.append(NAME, events(52, 54));
    assert_eq!(place.read(), ids(50, 54));
    assert_eq!(place.warnings(), "");
}

#[test]
fn a_file_that_lost_its_name_ends_when_it_grows_no_more() {
    let place = Place::with(&format!("{}{}", events(0, 1), &event("e1")[..50]));
    let options = Options { follow: true, left_for: Duration::from_millis(300), ..options(None) };
    let mut files = Files::open(&[place.path(NAME)], options, FilesPosition::default()).unwrap();
    assert_eq!(told(&files.next(arrived()).unwrap()), "e0");
    place.rename(NAME, "events.jsonl.1");
    place.append(NAME, events(2, 3));
    let (started, mut found) = (Instant::now(), Vec::new());
    while found.len() < 2 {
        assert!(started.elapsed() < DEADLINE, "{found:?}");
        match files.next(arrived()).unwrap() {
            Item::Idle => std::thread::sleep(touchline_ingest::files::POLL),
            item => found.push(told(&item)),
        }
    }
    assert_eq!(found[0], "e2");
    assert!(found[1].starts_with("dead letter, line 2 "), "the rest of the line never came: {found:?}");
    assert!(matches!(files.next(arrived()).unwrap(), Item::Idle));
    assert_eq!(files.position().files().len(), 1);
}

#[test]
fn a_file_that_is_cut_is_read_from_its_beginning() {
    let start = &event("e9")[..50];
    for again in [events(5, 6), events(5, 60)] {
        let mut place = Place::with(&format!("{}{start}", events(0, 3)));
        assert_eq!(place.read(), ids(0, 3));
        place.cut();
        place.append(NAME, &again);
        let found = place.read();
        assert!(found[0].starts_with("dead letter, line 4 "), "the rest of the line never came: {found:?}");
        assert_eq!(found[1..], ids(5, 5 + again.lines().count()));
        let warnings = place.warnings();
        let (bytes, read) = (again.len(), events(0, 3).len() + start.len());
        let expect = format!("events.jsonl was cut to {bytes} bytes after {read} had been read, and there is no copy");
        assert!(warnings.starts_with(&expect), "{warnings}");
        assert!(place.read().is_empty());
    }
}

#[test]
fn what_is_left_of_a_file_that_is_cut_is_read_in_its_copy() {
    let line = event("e3");
    let (start, rest) = line.split_at(50);
    for again in [events(6, 7), events(6, 60)] {
        let mut place = Place::with(&format!("{}{start}", events(0, 3)));
        assert_eq!(place.read(), ids(0, 3));
        let ends = place.files().sample_ends().unwrap().unwrap();
        place.append(NAME, format!("{rest}\n{}", events(4, 6)));
        place.copy_and_cut("events.jsonl.1");
        place.append(NAME, &again);
        assert_eq!(place.files().sample_ends().unwrap(), None, "a file that is cut has no end");
        assert_eq!(told(&place.files().next(arrived()).unwrap()), "e3");
        assert!(place.files().has_passed(&ends));
        assert_eq!(place.read(), ids(4, 6 + again.lines().count()));
        assert_eq!(place.warnings(), "");
        assert!(place.read().is_empty());
    }
}

/// A run reads two of four events, something happens, and the next run reads what is there then.
#[track_caller]
fn check_stopped(what: &str, harm: impl FnOnce(&Place), expect: Vec<String>, warning: &str) {
    let mut place = Place::with(&events(0, 4));
    assert_eq!(place.read_some(2), ids(0, 2), "{what}");
    place.stop();
    harm(&place);
    let mut found = place.read_some(1);
    // Stopped again at once.
    place.stop();
    found.extend(place.read());
    assert_eq!(found, expect, "{what}");
    let warnings = place.warnings();
    assert!(warnings.starts_with(warning) && warning.is_empty() == warnings.is_empty(), "{what}: {warnings}");
    place.append(NAME, events(90, 91));
    assert_eq!(place.read(), ids(90, 91), "{what}");
}

#[test]
fn what_happened_between_two_runs() {
    check_stopped("nothing", |_| {}, ids(2, 4), "");
    check_stopped(
        "moved",
        |place| {
            place.rename(NAME, "events.jsonl.1");
            place.append("events.jsonl.1", events(4, 6));
            place.append(NAME, events(6, 8));
        },
        ids(2, 8),
        "",
    );
    check_stopped("moved, and nothing new", |place| place.rename(NAME, "anything"), ids(2, 4), "");
    check_stopped(
        "moved again and again",
        |place| {
            place.rename(NAME, "events.jsonl.3");
            place.append("events.jsonl.2", events(4, 6));
            place.append("events.jsonl.1", events(6, 8));
            place.append(NAME, events(8, 10));
            place.written(1, "events.jsonl.1");
        },
        ids(2, 10),
        "",
    );
    check_stopped(
        "moved, with dates and beside others",
        |place| {
            place.append("events.bak.jsonl", events(70, 72));
            place.append("other.jsonl", events(72, 74));
            place.append("events.jsonl.5.gz", gzip(events(74, 76).as_bytes()));
            place.rename(NAME, "events-20240305.jsonl");
            place.append("events-20240306.jsonl", events(4, 6));
            place.append(NAME, events(6, 8));
        },
        ids(2, 8),
        "",
    );
    check_stopped(
        "copied and cut",
        |place| {
            place.copy_and_cut("events.jsonl.1");
            place.append(NAME, events(4, 6));
        },
        ids(2, 6),
        "",
    );
    check_stopped(
        "copied and cut, and longer than before",
        |place| {
            place.copy_and_cut("events.jsonl.1");
            place.append(NAME, events(4, 40));
        },
        ids(2, 40),
        "",
    );
    check_stopped(
        "deleted and made anew",
        |place| {
            fs::remove_file(place.path(NAME)).unwrap();
            place.append(NAME, events(4, 6));
        },
        ids(4, 6),
        &format!(
            "events.jsonl is another file than the one of which an earlier run had read {} bytes",
            events(0, 2).len()
        ),
    );
    check_stopped(
        "compressed",
        |place| {
            fs::write(place.path("events.jsonl.1.gz"), gzip(&fs::read(place.path(NAME)).unwrap())).unwrap();
            fs::remove_file(place.path(NAME)).unwrap();
            place.append(NAME, events(4, 6));
        },
        ids(4, 6),
        "events.jsonl is another file",
    );
    check_stopped(
        "put back from a copy",
        |place| {
            fs::copy(place.path(NAME), place.path("copy")).unwrap();
            place.rename("copy", NAME);
            place.append(NAME, events(4, 6));
        },
        ids(2, 6),
        "",
    );
}

#[test]
fn an_empty_file_that_filled_and_moved_between_two_runs() {
    let mut place = Place::with("");
    assert!(place.read().is_empty());
    place.stop();
    place.append(NAME, events(0, 2));
    place.rename(NAME, "events.jsonl.1");
    place.append(NAME, events(2, 4));
    assert_eq!(place.read(), ids(0, 4));
}

#[test]
fn an_empty_file_that_filled_and_was_cut_between_two_runs() {
    let mut place = Place::with(&events(0, 2));
    assert_eq!(place.read(), ids(0, 2));
    place.copy_and_cut("events.jsonl.1");
    assert!(place.read().is_empty());
    place.stop();
    place.append(NAME, events(2, 4));
    place.rename("events.jsonl.1", "events.jsonl.2");
    place.written(-1, "events.jsonl.2");
    place.copy_and_cut("events.jsonl.1");
    place.append(NAME, events(4, 6));
    assert_eq!(place.read(), ids(2, 6));
}

#[test]
fn positions_of_before() {
    let mut place = Place::with(&events(0, 4));
    assert_eq!(place.read_some(2), ids(0, 2));
    place.stop();
    let mut bytes = Vec::new();
    place.position.encode(&mut bytes);
    // Version 1 had no identity, which stands behind the path, and no time.
    let path = 4 + place.position.files()[0].fingerprint.path.as_os_str().len();
    bytes.drain(1 + path..1 + path + 24);
    bytes[0] = 1;
    place.position = FilesPosition::decode(&bytes).unwrap();
    assert_eq!(place.read(), ids(2, 4));
}

#[test]
fn a_file_that_is_not_there_yet() {
    let place = Place::with("");
    let missing = place.path("later.jsonl");
    let options = Options { follow: true, ..options(None) };
    let mut files = Files::open(from_ref(&missing), options.clone(), FilesPosition::default()).unwrap();
    assert!(matches!(files.next(arrived()).unwrap(), Item::Idle));
    fs::write(&missing, events(0, 1)).unwrap();
    assert_eq!(told(&files.next(arrived()).unwrap()), "e0");
    let refused = |name: &str| {
        let Err(errors) = Files::open(&[place.path(name)], options.clone(), FilesPosition::default()) else {
            panic!("{name} is taken")
        };
        errors[0].to_string()
    };
    assert!(refused("nowhere/later.jsonl").ends_with("later.jsonl cannot be opened"));
    assert!(refused("later").contains("does not tell its format"));
}

#[test]
fn rows_keep_their_header() {
    const HEADER: &str = "id,source,kind,occurred_at,account,contact,vehicle\n";
    let row = |id: usize| format!("e{id},crm,engagement,2024-03-05,acme,ann,call\n");
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("events.csv");
    let options = Options { follow: true, ..options(None) };
    let mut position = FilesPosition::default();
    let mut found = Vec::new();
    for turn in 0..4 {
        fs::write(path, format!("{HEADER}{}", row(turn * 2))).unwrap();
        let mut files = Files::open(&[path.to_owned()], options.clone(), position).unwrap();
        loop {
            match files.next(arrived()).unwrap() {
                Item::Idle => break,
                item => found.push(told(&item)),
            }
        }
        position = files.position().clone();
        File::options().append(true).open(path).unwrap().write_all(row(turn * 2 + 1).as_bytes()).unwrap();
        fs::rename(path, dir.path().join(format!("events.csv.{turn}"))).unwrap();
    }
    let mut files = Files::open(&[path.to_owned()], options, position).unwrap();
    found.push(told(&files.next(arrived()).unwrap()));
    assert_eq!(found, ids(0, 8));
}
