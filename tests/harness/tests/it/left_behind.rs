//! However a test process ends, its servers end with it; and where there are none, it says what to do.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use tempfile::TempDir;
use touchline_harness::{Kafka, Postgres, eventually};

/// Tells the test process that it is the one that is to be killed, and where to tell its servers.
const ADDRESSES: &str = "TOUCHLINE_TEST_ADDRESSES";
/// A broker that is asked to end takes about a second.
const WITHIN: Duration = Duration::from_secs(30);

fn this_process_again() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "left_behind::the_process_that_is_killed", "--nocapture"]);
    command
}

/// Not a test, but the process that the others start.
#[test]
fn the_process_that_is_killed() {
    let Ok(addresses) = env::var(ADDRESSES) else { return };
    let lines = format!("{}\n127.0.0.1:{}\n", Kafka::shared().bootstrap(), Postgres::shared().port());
    fs::write(addresses, lines).unwrap();
    thread::sleep(Duration::from_secs(3_600));
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let addresses = dir.path().join("addresses");
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    // PostgreSQL may run as another user, who has to get there.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut process = this_process_again().env(ADDRESSES, &addresses).env("TMPDIR", &temporary).spawn().unwrap();
    eventually(WITHIN * 4, "its servers run", || addresses.exists() || process.try_wait().unwrap().is_some());
    let addresses = fs::read_to_string(addresses).unwrap();
    let answer = |address: &str| TcpStream::connect(address).is_ok();
    assert_eq!(addresses.lines().count(), 2);
    assert!(addresses.lines().all(answer), "they do not answer: {addresses}");

    process.kill().unwrap();
    process.wait().unwrap();
    eventually(WITHIN, "its servers are gone", || !addresses.lines().any(answer));
    eventually(WITHIN, "their directories are gone", || fs::read_dir(&temporary).unwrap().next().is_none());
}

#[test]
fn a_missing_server_fails_with_a_sentence() {
    let mut process = this_process_again()
        .env(ADDRESSES, "/dev/null")
        .env("JAVA_HOME", "/nowhere")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<String> = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(!process.wait().unwrap().success());
    let sentence = "Kafka needs Java 17 or newer, and there is none: run  scripts/setup.sh test";
    assert!(said.iter().any(|line| line.contains(sentence)), "{said:#?}");
}
