//! Ctrl-C and SIGTERM: the first drains, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

/// What a shell expects of a command that was interrupted twice (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// The first signal drains: what has been read is finished and delivered. The second ends the process at once, which
/// loses nothing either.
pub fn stop() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            for is_second in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if is_second {
                    exit();
                }
                seen.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(stop)
}

/// Ends the process at once, as one that was interrupted.
pub fn exit() -> ! {
    signal_hook::low_level::exit(INTERRUPTED)
}
