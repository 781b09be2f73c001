//! What is known of the files before they are read, and whose mistake it is if they cannot be.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use touchline_core::record::Record;
use touchline_ingest::{Files, FilesPosition, InputError, Item};
use touchline_processor::WorkerError;

use super::{ReplayError, Ticks};
use crate::cli::Usage;

/// Records of each file that are looked at for ticks and rules. A log has its rules first, or ticks by the second.
const SNIFFED: usize = 20_000;

/// Looks at the files before anything is made: whether they can be read, and whether they are a log.
///
/// # Errors
/// All that is wrong with them, as a mistake of whoever named them.
pub fn look(paths: &[PathBuf], reading: &touchline_ingest::Options, as_of: Option<Timestamp>) -> Result<bool> {
    Files::open(paths, reading.clone(), FilesPosition::default()).map_err(usage)?;
    for path in paths.iter().filter(|path| !is_stream(path)) {
        if is_log(path, reading)? {
            Ticks::History { as_of }.become_log(path).map_err(as_usage)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file has ticks or rules of its own.
fn is_log(path: &PathBuf, reading: &touchline_ingest::Options) -> Result<bool> {
    let position = FilesPosition::default();
    let mut files = Files::open(std::slice::from_ref(path), reading.clone(), position).map_err(usage)?;
    for _ in 0..SNIFFED {
        match files.next(Timestamp::MAX)? {
            Item::Record(taken) if !matches!(taken.record, Record::Event(_)) => return Ok(true),
            Item::End | Item::Idle => break,
            _ => {}
        }
    }
    Ok(false)
}

/// Whether it can be read only once.
pub(super) fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-" || path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

/// Where a tick should have stood.
pub(super) fn looked_at(path: &Path) -> String {
    if is_stream(path) { "its first line".to_owned() } else { format!("its first {SNIFFED} records") }
}

/// What is wrong with the files is a mistake of whoever named them.
pub(super) fn usage(errors: Vec<InputError>) -> anyhow::Error {
    let sentence = |error: InputError| format!("{:#}", anyhow::Error::new(error));
    Usage(errors.into_iter().map(sentence).collect::<Vec<_>>().join("\n       ")).into()
}

/// The same for what shows only when a file is read.
pub fn as_usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let replay = match error.downcast_ref::<WorkerError<ReplayError>>() {
        Some(WorkerError::Journal(error)) => Some(error),
        _ => error.downcast_ref::<ReplayError>(),
    };
    match replay {
        Some(
            ReplayError::TwoClocks { .. }
            | ReplayError::Input(InputError::Header { .. } | InputError::Foreign { .. } | InputError::Format { .. }),
        ) => Usage(format!("{error:#}")).into(),
        _ => error,
    }
}
