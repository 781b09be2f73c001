//! What happens to the paths that are followed, while they are, and between two runs.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::beside::{Beside, Whereabouts, known_as, written};
use super::watch::{Before, LEFT, Open, There, Watch, is_passing};
use super::{CLOCK_EVERY, Files, LOOK_EVERY, shorter};
use crate::input::{Input, InputError};
use crate::position::FilePosition;

impl Files {
    /// Opens a path to be followed: what earlier runs had not read of the files that had it, and the one that has it now,
    /// which is `here`.
    pub(super) fn follow(&mut self, path: PathBuf, mut here: Option<Input>) -> Result<(), InputError> {
        let name = here.as_ref().map(|input| input.path().to_owned()).or_else(|| known_as(&path));
        let name = name.unwrap_or_else(|| path.clone());
        let mut earlier = self.position.take(&name);
        // What is surely the same comes before what only begins alike.
        earlier.sort_by_key(|known| known.fingerprint.id != here.as_ref().map(Input::id));
        let mut beside = Beside::new(&name, self.options.format);
        let first = self.open.len();
        let (mut is_here_known, mut last_written) = (false, None);
        for known in earlier {
            match beside.find(&known, here.as_ref())? {
                Whereabouts::Here => {
                    // One that was empty may have been filled and cut since.
                    is_here_known = known.fingerprint.head_bytes() > 0;
                    last_written = last_written.max(known.modified);
                    here = self.go_on(&path, here, &known)?;
                    here.iter().for_each(|here| beside.take(here.id()));
                }
                Whereabouts::Beside(left) => {
                    beside.take(left.id());
                    last_written = last_written.max(written(left.given()));
                    self.push_left(*left, &path);
                }
                Whereabouts::Gone => self.tell_gone(&path, &known),
            }
        }
        here.iter().for_each(|here| beside.take(here.id()));
        // Its name has gone from hand to hand meanwhile.
        let between = last_written.filter(|_| !is_here_known);
        for left in between.map_or(Ok(Vec::new()), |last: SystemTime| beside.since(last))? {
            self.push_left(left, &path);
        }
        let current = here.as_ref().map(Input::id);
        match here {
            Some(here) => self.push(here, None),
            None => self.idle = 0,
        }
        self.current = first.min(self.open.len().saturating_sub(1));
        let before = last_written.filter(|_| current.is_none()).map(|written| {
            let files = self.open.iter().skip(first).map(|open| open.input.id());
            Before { name, written, files: files.collect() }
        });
        self.watches.push(Watch { given: path, current, is_told: false, before });
        Ok(())
    }

    /// Looks which files have the names now: when there is nothing else to do, and every now and then.
    pub(super) fn look_if_time(&mut self) -> Result<(), InputError> {
        if self.patience > 0 || self.watches.is_empty() {
            self.patience = self.patience.saturating_sub(1);
            return Ok(());
        }
        self.patience = CLOCK_EVERY;
        if self.looked_at.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        (0..self.watches.len()).try_for_each(|watch| self.look_at(watch))
    }

    /// The current input has been cut. What is left of it stands in its copy, if somebody has made one; else it has ended.
    pub(super) fn cut(&mut self) -> Result<(), InputError> {
        let open = &mut self.open[self.current];
        let known = open.input.position().filter(|_| open.left.is_none());
        let copy = known.map_or(Ok(None), |known| {
            let mut beside = Beside::new(&known.fingerprint.path, self.options.format);
            self.open.iter().for_each(|open| beside.take(open.input.id()));
            beside.copy(&known)
        })?;
        let open = &mut self.open[self.current];
        let Some(copy) = copy else {
            open.input.close();
            return Ok(());
        };
        tracing::info!("{} was cut: its rest is read from {}", open.input.given().display(), copy.given().display());
        // Where the file would have ended, its copy does: whoever waits for that end waits on.
        open.left = Some((Instant::now(), copy.read()));
        let last = written(copy.given());
        let cut = std::mem::replace(&mut open.input, copy);
        let current = self.current;
        if let Some(written) = last {
            let mut before = Before { name: cut.path().to_owned(), written, files: Vec::new() };
            self.read_between(cut.given(), &mut before)?;
        }
        self.current = current;
        self.begin_again(&cut)
    }

    pub(super) fn tell_cut(&mut self, input: &Input, (bytes, read): (u64, u64)) {
        self.warn(format!(
            "{} was cut to {bytes} bytes after {read} had been read, and there is no copy beside it: it is read from its beginning, and what had been written to it behind that place is missed",
            input.given().display()
        ));
    }

    /// A file that was cut is read from its beginning.
    pub(super) fn begin_again(&mut self, input: &Input) -> Result<(), InputError> {
        self.position.forget(input.path(), input.id());
        let watch = self.watches.iter().position(|watch| watch.current == Some(input.id()));
        if let Some(watch) = watch {
            self.watches[watch].current = None;
            self.look_at(watch)?;
        }
        Ok(())
    }

    fn look_at(&mut self, watch: usize) -> Result<(), InputError> {
        let there = self.watches[watch].look()?;
        if there == There::Same {
            return Ok(());
        }
        let path = self.watches[watch].given.clone();
        let was = self.watches[watch].current.take();
        let mut before = self.watches[watch].before.take();
        if let Some(left) = self.open.iter_mut().find(|open| Some(open.input.id()) == was && open.left.is_none()) {
            left.left = Some((Instant::now(), left.input.read()));
            let (files, known) = (vec![left.input.id()], left.input.position());
            let known = known.and_then(|known| Some((known.fingerprint.path, known.modified?)));
            before = known.map(|(name, written)| Before { name, written, files });
            tracing::info!(
                "{} has been moved, deleted or replaced: what is still written to it is read",
                path.display()
            );
        }
        let here = if there == There::Other { self.open_here(&path)? } else { None };
        // What was being read is read to its end first.
        let (current, was_reading) = (self.current, !self.open.is_empty());
        if let Some(before) = &mut before {
            before.files.extend(here.as_ref().map(Input::id));
            self.read_between(&path, before)?;
        }
        self.current = current;
        let Some(here) = here else {
            // The next may also be gone before it is looked for.
            self.watches[watch].before = before;
            if !std::mem::replace(&mut self.watches[watch].is_told, true) {
                tracing::warn!("{} is not there, or may not be read: it is waited for", path.display());
            }
            return Ok(());
        };
        let id = here.id();
        (self.watches[watch].current, self.watches[watch].is_told) = (Some(id), false);
        if let Some(open) = self.open.iter_mut().find(|open| open.input.id() == id && open.left.is_some()) {
            // It has got its name back.
            open.left = None;
            return Ok(());
        }
        self.push(here, None);
        if was_reading {
            self.current = current;
        }
        Ok(())
    }

    /// Reads the files that have had a name since another had it, and lost it again before anybody looked.
    fn read_between(&mut self, path: &Path, before: &mut Before) -> Result<(), InputError> {
        let mut beside = Beside::new(&before.name, self.options.format);
        self.open.iter().map(|open| open.input.id()).chain(before.files.iter().copied()).for_each(|id| beside.take(id));
        let found = beside.since(before.written)?;
        before.files.extend(found.iter().map(Input::id));
        found.into_iter().for_each(|left| self.push_left(left, path));
        Ok(())
    }

    /// The file that has a name now, if there is one.
    fn open_here(&self, path: &Path) -> Result<Option<Input>, InputError> {
        match Input::open(path, self.options.format, true) {
            Err(InputError::Open { source, .. }) if is_passing(source.kind()) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Goes on where an earlier run stopped; from the beginning, if that is no more.
    fn go_on(&mut self, path: &Path, here: Option<Input>, known: &FilePosition) -> Result<Option<Input>, InputError> {
        let Some(mut here) = here else { return Ok(None) };
        if here.skip_to(known)? {
            return Ok(Some(here));
        }
        self.warn(shorter(path, known));
        self.open_here(path)
    }

    fn push_left(&mut self, left: Input, path: &Path) {
        let moved = left.given().display();
        tracing::info!("{} has been moved to {moved}, which is read to its end first", path.display());
        let read = left.read();
        self.push(left, Some((Instant::now(), read)));
    }

    fn tell_gone(&mut self, path: &Path, known: &FilePosition) {
        // Of a file that was read to its end, or of which nothing was, nothing is missing as far as anybody knows.
        if known.finished.is_none() && known.offset > 0 {
            self.warn(format!(
                "{} is another file than the one of which an earlier run had read {} bytes, and that one is not beside it under another name: what was written to it since has not been read; if it was compressed or moved elsewhere, replay it once by its new name (what is known of it is not counted again)",
                path.display(),
                known.offset,
            ));
        }
    }

    /// Lets the current input, which has nothing more now, end if it has been left and is done with: it has not grown for
    /// long, or is the oldest of too many.
    pub(super) fn close_if_done(&mut self) {
        let left = |open: &Open| open.left.is_some();
        let is_oldest = self.open.iter().position(left) == Some(self.current);
        let is_surplus = is_oldest && self.open.iter().filter(|open| left(open)).count() > LEFT;
        let Some(Open { input, left: Some((since, before)), .. }) = self.open.get_mut(self.current) else { return };
        if *before != input.read() {
            (*since, *before) = (Instant::now(), input.read());
        }
        if is_surplus || since.elapsed() >= self.options.left_for {
            input.close();
        }
    }
}
