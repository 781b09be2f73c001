//! Realistic load by the million: two years of a company's relationship marketing as canonical JSON Lines.
//!
//! *Contract.* The options decide every byte, on every machine and in every version: tests pin a checksum, and all that
//! decides is integer arithmetic over a portable generator. Exactly as many lines are written as asked for. They come in
//! the order of arrival, which is that of `occurred_at` but for the 5 % that come late (up to seven days), second copies
//! (1 %), and what people write down when it is over. Records of one source either all carry a `revision` (`calendar`) or
//! none does.
//!
//! *How.* Contacts and accounts are functions of the seed and their number ([`people`]), so memory grows with the events
//! of some days ([`draft::Diary`]) and not with contacts. Day by day a [`programme`] drafts what happens; a [`line`] is
//! a function of its draft.
//!
//! ```text
//! pace ─► programme ─► diary ─► line ─► output: a writer, or a topic
//!            ▲ people, clock, catalogue
//! ```
//!
//! Only an output decides whether the story's moments are those of the lines: one that tells it as news of today
//! ([`kafka`]) moves them.

mod catalogue;
mod clock;
mod draft;
mod draw;
mod json;
pub mod kafka;
mod line;
mod pace;
mod people;
mod programme;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use clock::{Clock, DAYS};
use draft::Draft;
use draw::Families;
use line::{LINE_BYTES, Scribe};
use pace::Pace;
use people::People;
use programme::Programme;

/// Lines are handed on in pieces of about this size: few enough system calls, and still in the processor's cache.
const CHUNK_BYTES: usize = 64 * 1024;

/// The most contacts, and the most events: sums and products of numbers below it stay far from overflow, and writing as many
/// takes days.
pub const MAX: u64 = 1_000_000_000_000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Contacts there are, 1 to [`MAX`]; with few events not all of them show up.
    pub contacts: u64,
    /// Lines to write, 0 to [`MAX`].
    pub events: u64,
    /// Another seed, another history.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
    /// Lines that came some time after what they tell of.
    pub late: u64,
    /// Lines that are the second copy of a line; the first may still be on its way.
    pub copies: u64,
}

/// Where lines go.
pub trait Output {
    /// By how many milliseconds the moments of the next line are moved. It shows up at `arrives` in the story, and the output
    /// may wait until its time has come.
    ///
    /// # Errors
    ///
    /// What went wrong with lines before it.
    fn moved(&mut self, arrives: u64) -> io::Result<i64>;

    /// Looks at the whole lines that there are, and removes those that it takes; at the end, all.
    ///
    /// # Errors
    ///
    /// They cannot be taken.
    fn take(&mut self, lines: &mut Vec<u8>, is_end: bool) -> io::Result<()>;
}

/// A writer gets pieces of whole lines, so it needs no buffer of its own.
struct Pieces<'a>(&'a mut dyn Write);

impl Output for Pieces<'_> {
    fn moved(&mut self, _: u64) -> io::Result<i64> {
        Ok(0)
    }

    fn take(&mut self, lines: &mut Vec<u8>, is_end: bool) -> io::Result<()> {
        if lines.len() >= CHUNK_BYTES || is_end {
            self.0.write_all(lines)?;
            lines.clear();
        }
        Ok(())
    }
}

/// Writes the events in pieces of whole lines, as [`tell`] does.
///
/// # Errors
///
/// What `out` says; and `InvalidInput` for options out of their ranges.
pub fn generate(options: &Options, out: &mut dyn Write, on_progress: &mut dyn FnMut(u64)) -> io::Result<Summary> {
    tell(options, &mut Pieces(out), on_progress)
}

/// Hands the events to the output, and tells `on_progress` after each day of the story how many lines there are so far.
///
/// # Errors
///
/// What `out` says; and `InvalidInput` for options out of their ranges.
pub fn tell(options: &Options, out: &mut dyn Output, on_progress: &mut dyn FnMut(u64)) -> io::Result<Summary> {
    if options.contacts == 0 || options.contacts > MAX || options.events > MAX {
        let message = format!("cannot generate load: --contacts takes 1 to {MAX}, and --events up to {MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let families = Families::new(options.seed);
    let clock = Clock::new().map_err(io::Error::other)?;
    let people = People::new(options.contacts, families);
    let mut programme = Programme::new(&people, &clock, Pace::new(options.events), families);
    let scribe = Scribe::new(&people, families);

    let mut summary = Summary::default();
    let mut lines = Vec::with_capacity(CHUNK_BYTES + LINE_BYTES);
    for _ in 0..DAYS {
        let page = programme.live(summary.events);
        // On the last day there may be more than was asked for.
        let room = options.events - summary.events;
        for draft in page.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
            let moved = out.moved(draft.arrives)?;
            let before = lines.len();
            scribe.write(draft, moved, &mut lines);
            summary.count(draft, lines.len() - before);
            out.take(&mut lines, false)?;
        }
        on_progress(summary.events);
    }
    out.take(&mut lines, true)?;
    Ok(summary)
}

impl Summary {
    fn count(&mut self, draft: &Draft, bytes: usize) {
        self.events += 1;
        self.bytes += bytes as u64;
        self.copies += u64::from(draft.copy);
        self.late += u64::from(draft.arrives > draft.occurred && !draft.copy);
    }
}
