//! Who this process is, for Kafka: a name that it has again after a restart.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::error::ProcessError;

/// The name, held as long as this lives: no other process has this stage in this state directory meanwhile.
#[derive(Debug)]
pub struct Instance {
    name: String,
    _lock: File,
}

impl Instance {
    /// Takes the state directory, which is made if it is not there. The first time it gets a name at random: a process that
    /// restarts is the same member of its group, and ends the transaction that its predecessor left open.
    pub fn take(dir: &Path, stage: &str) -> Result<Instance, ProcessError> {
        let failed = |source| ProcessError::Directory { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(format!("instance.{stage}")))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ProcessError::InUse { path: dir.to_owned(), stage: stage.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let name = name(&mut file).map_err(failed)?;
        Ok(Instance { name, _lock: file })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn name(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let name = text.trim();
    if name.len() == NAME_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(name.to_owned());
    }
    let name = format!("{:016x}{:016x}", crate::store::random(), crate::store::random());
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    Ok(name)
}

/// 128 bits.
const NAME_CHARS: usize = 32;
