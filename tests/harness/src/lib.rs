//! Real servers for tests: Kafka and PostgreSQL, started when they are needed and never left behind; and chance that can be
//! repeated.
//!
//! *Contract.* `shared()` gives a test process its one server, started on first use; `start()` one of the test's own, which
//! it may kill, stop, pause and start again. Tests that share a server do not meet: topics and databases have names of their
//! own. However the process ends, `kill -9` included, its servers end too, and their directories go: each is run by a
//! script of `deploy/dev` as long as a pipe from this process is open.
//!
//! Whatever goes wrong here fails the test with a sentence, a missing server too: nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test kit")]

mod dice;
mod kafka;
mod postgres;
mod proxy;
mod server;
mod tls;

use std::thread;
use std::time::{Duration, Instant};

pub use dice::Dice;
pub use kafka::{Kafka, Record};
pub use postgres::Postgres;
pub use proxy::{Moment, Proxy, Struck};
pub use tls::Certified;

/// How often [`eventually`] looks. What it looks at may be a query to a server.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until the condition holds.
///
/// # Panics
///
/// If it does not within the deadline; the message says what was waited for.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(LOOK_EVERY);
    }
}
