//! Kills a process that writes, at any moment, again and again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use tempfile::TempDir;
use touchline_core::output::Topic;
use touchline_sink::file::{FileConfig, FileSink};
use touchline_sink::{Change, Route};

use crate::file::{expected, finish, number, open, position, read_files};
use crate::kit::{Script, eventually, start};

/// Where the process that is to be killed writes.
const DIR: &str = "TOUCHLINE_TEST_CRASH_DIR";
/// Enough that none of the processes gets to the end before it is killed.
const CHANGES: u64 = 200_000;
/// Processes that are killed.
const KILLS: u64 = 8;

fn changes() -> Vec<Change> {
    let change = |number: u64| {
        let topic = Topic::ALL[(number % 4) as usize];
        let key = format!("account{}|{}", number % 97, number % 1_013);
        let value = format!(r#"{{"number":{number},"padding":"{:0>200}"}}"#, number);
        let value = (!number.is_multiple_of(11) || !topic.is_compacted()).then(|| value.into_bytes());
        Change { sequence: 0, topic, key: key.into_bytes(), value }
    };
    number((0..CHANGES).map(change).collect())
}

/// Not a test, but the process that [`a_killed_process_leaves_what_another_completes`] starts.
#[test]
fn the_process_that_is_killed() {
    let Ok(dir) = env::var(DIR) else { return };
    let config =
        FileConfig { name: "out".into(), dir: dir.into(), feed: b"feed".to_vec(), following: true, replaces: false };
    let sink = Box::new(FileSink::open(config).unwrap());
    let feed = Script::of(changes()).feed(&Topic::ALL);
    start(vec![Route { sink, feed }]).finish(Duration::from_secs(60));
}

/// Kills it so long after it has begun to write.
fn start_and_kill(dir: &Path, after: Duration) {
    let alerts = || fs::metadata(dir.join("alerts.jsonl")).map_or(0, |file| file.len());
    let before = alerts();
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_is_killed"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the process to write or end", || alerts() > before || process.try_wait().unwrap().is_some());
    std::thread::sleep(after);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_killed_process_leaves_what_another_completes() {
    let dir = TempDir::new().unwrap();
    let changes = changes();
    let mut before = 0;
    for kill in 0..KILLS {
        // Odd times, to meet the writer in all that it does.
        start_and_kill(dir.path(), Duration::from_micros(3_700 * kill));
        let now = position(&mut open(dir.path()));
        assert!(before <= now, "it went back from {before} to {now}");
        before = now;
    }
    assert!(before > 0, "no process got to do anything");
    finish(open(dir.path()), &changes);
    assert!(read_files(dir.path()) == expected(&changes), "the files differ from those of an undisturbed run");
}
