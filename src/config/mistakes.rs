//! What is wrong with a configuration file: all of it, in line order, so that it is mended in one go.
//!
//! A mistake never holds the value of a secret, nor that of a key that is not known.

use std::fmt;
use std::io;

/// All mistakes of one file; never empty. Displays as one line each: `file:line:column: key.path: what, and what to do`.
#[derive(Debug)]
pub struct Mistakes {
    file: String,
    found: Vec<Mistake>,
}

/// One mistake, in its place.
#[derive(Debug)]
struct Mistake {
    /// Line and column from 1, the column in characters; `None` for the file as a whole.
    place: Option<(usize, usize)>,
    /// The key path; empty for the file as a whole.
    key: String,
    what: String,
}

/// A mistake as a reader finds it: at a byte offset of the text.
pub(super) struct Finding {
    pub at: usize,
    pub key: String,
    pub what: String,
}

impl Mistakes {
    /// The file could not be read at all.
    pub(super) fn unreadable(file: &str, error: &io::Error) -> Mistakes {
        let what = format!("cannot be read ({error}); name another file with --config");
        Mistakes { file: file.to_owned(), found: vec![Mistake { place: None, key: String::new(), what }] }
    }

    /// Puts findings into line order and gives each its line and column.
    pub(super) fn locate(file: &str, text: &str, mut findings: Vec<Finding>) -> Mistakes {
        findings.sort_by_key(|finding| finding.at);
        // A secret is looked for among the leaves, and where one is read.
        findings.dedup_by(|later, kept| (&later.key, &later.what) == (&kept.key, &kept.what) && later.at == kept.at);
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        let place = |at: usize| {
            let line = starts.partition_point(|start| *start <= at);
            let start = starts.get(line - 1).copied().unwrap_or_default();
            (line, 1 + text.get(start..at).map_or(0, |before| before.chars().count()))
        };
        let located = |f: Finding| Mistake { place: Some(place(f.at)), key: f.key, what: f.what };
        Mistakes { file: file.to_owned(), found: findings.into_iter().map(located).collect() }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.found.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            f.write_str(&self.file)?;
            if let Some((line, column)) = mistake.place {
                write!(f, ":{line}:{column}")?;
            }
            if !mistake.key.is_empty() {
                write!(f, ": {}", mistake.key)?;
            }
            write!(f, ": {}", mistake.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
