//! A directory that is to be written.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Finding;

/// With less than this RocksDB cannot even rewrite a table of some size.
const ROOM: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Whether it can be written, or made, and the room there is. Leaves nothing behind.
pub(super) fn probe(what: &str, dir: &Path) -> Finding {
    let name = dir.display();
    let there = match dir
        .ancestors()
        .map(|up| if up.as_os_str().is_empty() { Path::new(".") } else { up })
        .find(|up| up.exists())
    {
        Some(there) if there.is_dir() => there,
        Some(file) => return Finding::failed(what, format!("{} is not a directory: name another", file.display())),
        None => return Finding::failed(what, format!("{name} cannot be made: nothing above it exists")),
    };
    if let Err(error) = write(there) {
        let advice = "give touchline's user the right to, or name another directory";
        return Finding::failed(what, format!("{} cannot be written ({error}): {advice}", there.display()));
    }
    let state = if there == dir { "can be written" } else { "will be made" };
    match free(there) {
        Ok(bytes) if bytes < ROOM => {
            Finding::warning(what, format!("{name} {state}, but only {} MiB are free there: make room", bytes / MIB))
        }
        Ok(bytes) => Finding::ok(what, format!("{name} {state}; {} GiB free", bytes / ROOM)),
        Err(error) => Finding::ok(what, format!("{name} {state}; how much is free cannot be told ({error})")),
    }
}

fn write(dir: &Path) -> io::Result<()> {
    // Several probes may come to the same directory.
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".touchline-check-{}-{number}", std::process::id()));
    File::create_new(&path)?;
    fs::remove_file(&path)
}

/// Bytes that are free for users there.
fn free(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
