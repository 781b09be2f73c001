//! Where the files are that had a path before: moved beside it, or copied there, as rotation does.
//!
//! A file that was moved has kept its identity, whatever it is called now; a copy begins as the file did and is called after
//! it. Files that came and went while nobody looked are known by what rotation calls them: the path's name with digits
//! in it. What has been compressed is not looked into.

use std::fs::{self, DirEntry};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::formats::Format;
use crate::input::{Input, InputError};
use crate::position::{FileId, FilePosition};

/// Where a file is that had been read to some position.
pub(super) enum Whereabouts {
    /// It has the path's name, still or again.
    Here,
    /// It goes on here.
    Beside(Box<Input>),
    /// Nowhere; or compressed, or it had been empty.
    Gone,
}

/// The directory of a path that is followed.
pub(super) struct Beside<'a> {
    path: &'a Path,
    format: Option<Format>,
    /// Files that are taken already.
    taken: Vec<FileId>,
}

impl<'a> Beside<'a> {
    /// What lies beside `path`, which is a canonical one.
    pub(super) fn new(path: &'a Path, format: Option<Format>) -> Beside<'a> {
        Beside { path, format, taken: Vec::new() }
    }

    /// Leaves a file out from now on.
    pub(super) fn take(&mut self, id: FileId) {
        self.taken.push(id);
    }

    /// Finds the file that had been read to `known`. `here` has the path's name, unless it is taken.
    pub(super) fn find(&mut self, known: &FilePosition, here: Option<&Input>) -> Result<Whereabouts, InputError> {
        let id = known.fingerprint.id;
        let here = here.filter(|here| !self.taken.contains(&here.id()) && here.continues(known));
        if here.is_some_and(|here| id.is_none_or(|id| id == here.id())) {
            return Ok(Whereabouts::Here);
        }
        let is_same = |entry: &DirEntry| id.is_some_and(|id| id.inode == entry.ino());
        if let Some(moved) = self.first(known, true, is_same, |found| Some(found) == id)? {
            return Ok(Whereabouts::Beside(Box::new(moved)));
        }
        if known.fingerprint.head_bytes() == 0 {
            // Every file begins as an empty one does.
            return Ok(Whereabouts::Gone);
        }
        if here.is_some() {
            return Ok(Whereabouts::Here);
        }
        Ok(self.copy(known)?.map_or(Whereabouts::Gone, |copy| Whereabouts::Beside(Box::new(copy))))
    }

    /// Finds a copy of the file that had been read to `known`. Nobody writes to a copy: it is not followed.
    pub(super) fn copy(&self, known: &FilePosition) -> Result<Option<Input>, InputError> {
        self.first(known, false, |entry| self.is_called_after(entry), |_| true)
    }

    /// The files that had the path after `last` had been written to the last time, the oldest first.
    pub(super) fn since(&self, last: SystemTime) -> Result<Vec<Input>, InputError> {
        let mut found = Vec::new();
        for entry in self.entries().filter(|entry| self.is_rotated(entry)) {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            if let Ok(modified) = modified
                && modified >= last
                && let Some(input) = self.open(&entry.path(), true, |id| !self.taken.contains(&id))?
            {
                found.push((modified, entry.path(), input));
            }
        }
        found.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
        Ok(found.into_iter().map(|(_, _, input)| input).collect())
    }

    /// The first file that may be meant, is, and goes on where `known` says.
    fn first(
        &self,
        known: &FilePosition,
        follow: bool,
        may_be: impl Fn(&DirEntry) -> bool,
        is: impl Fn(FileId) -> bool,
    ) -> Result<Option<Input>, InputError> {
        for entry in self.entries().filter(may_be) {
            let found = self.open(&entry.path(), follow, |id| is(id) && !self.taken.contains(&id))?;
            if let Some(mut found) = found.filter(|found| found.continues(known))
                && found.skip_to(known)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A file of text, if it is one; what cannot be opened is none.
    fn open(&self, path: &Path, follow: bool, is: impl Fn(FileId) -> bool) -> Result<Option<Input>, InputError> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() && is(FileId::of(&metadata)) => {}
            _ => return Ok(None),
        }
        match Input::open_as(path, self.path, self.format, follow) {
            Err(InputError::Open { .. } | InputError::Foreign { .. }) => Ok(None),
            opened => Ok(Some(opened?).filter(Input::is_text)),
        }
    }

    /// Everything in the directory but the path itself. A directory that cannot be read has nothing to offer.
    fn entries(&self) -> impl Iterator<Item = DirEntry> {
        let entries = self.path.parent().and_then(|dir| fs::read_dir(dir).ok());
        entries.into_iter().flatten().flatten().filter(|entry| entry.path() != self.path)
    }

    /// Whether a name begins as the path's does: `events.jsonl.1`, `events-20240305.jsonl`, `events.jsonl.before`.
    fn is_called_after(&self, entry: &DirEntry) -> bool {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str());
        stem.is_some_and(|stem| entry.file_name().to_str().is_some_and(|name| name.starts_with(stem)))
    }

    /// Whether a name is what rotation makes of the path's: with a number or a date behind it, or before its ending.
    fn is_rotated(&self, entry: &DirEntry) -> bool {
        let is_number = |part: &str| {
            part.starts_with(['.', '-', '_'])
                && part.contains(|letter: char| letter.is_ascii_digit())
                && part.chars().all(|letter| letter.is_ascii_digit() || ".-_:TZ".contains(letter))
        };
        let number = |name: &str| {
            let (whole, stem) = (self.path.file_name()?.to_str()?, self.path.file_stem()?.to_str()?);
            let before_ending = || name.strip_prefix(stem)?.strip_suffix(&whole[stem.len()..]);
            name.strip_prefix(whole).or_else(before_ending).map(is_number)
        };
        entry.file_name().to_str().and_then(number).unwrap_or(false)
    }
}

/// When a file was written to last.
pub(super) fn written(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// The name under which a path is known that may have no file now.
pub(super) fn known_as(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    path.canonicalize().ok().or_else(|| dir.canonicalize().ok().map(|dir| dir.join(name)))
}
