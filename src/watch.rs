//! A thread beside the stages that looks at something now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::warn;

/// How often a stop is looked for.
const STOP_POLL: Duration = Duration::from_millis(100);

/// The thread, which ends when this is dropped or the process is told to stop: its clients are gone before the process is.
pub struct Watch {
    name: &'static str,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `look` every so often. One that takes its time asks now and then whether it is over.
    pub fn start(
        name: &'static str,
        every: Duration,
        stop: Arc<AtomicBool>,
        mut look: impl FnMut(&dyn Fn() -> bool) + Send + 'static,
    ) -> Result<Watch> {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let watch = move || {
            let is_over = || stop.load(Ordering::Relaxed) || seen.load(Ordering::Relaxed);
            let mut looked_at = Instant::now();
            while !is_over() {
                if looked_at.elapsed() >= every {
                    look(&is_over);
                    looked_at = Instant::now();
                }
                thread::sleep(STOP_POLL);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(watch)?;
        Ok(Watch { name, is_over, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!(
                thread = self.name,
                "a thread that only looks at things has panicked, which is a mistake in touchline"
            );
        }
    }
}
