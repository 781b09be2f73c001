//! `touchline dead-letters list`: the newest letters, and how many there are of each sort.
//!
//! What is shown comes from records that somebody else has made: nothing in it reaches a terminal as it is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use rdkafka::message::Message;
use serde::Serialize;

use super::letter::Letter;
use super::{Choice, ListArgs, Office};
use crate::report::counted;
use crate::telemetry;

/// Most letters that are shown: what is kept of each is bounded too.
pub(super) const MOST: i64 = 10_000;
/// Of the raw bytes, what machines get; the rest stands in the topic.
const RAW_BYTES: usize = 4 << 10;
/// What people get.
const RAW_SHOWN: usize = 48;
const ERROR_SHOWN: usize = 100;
/// Of an error, what is kept.
const ERROR_CHARS: usize = 2_000;
/// Most sorts of letters that are told apart; there are some dozens of mistakes.
const SORTS: usize = 500;

/// A letter as it is shown.
#[derive(Serialize)]
struct Row {
    at: Option<Timestamp>,
    stage: String,
    from: String,
    error: String,
    /// The beginning, as text.
    raw: String,
    raw_bytes: u64,
}

#[derive(Default)]
struct Listing {
    /// By age and place.
    rows: BTreeMap<(Option<Timestamp>, i32, i64), Row>,
    /// By stage and reason.
    sorts: BTreeMap<(String, String), u64>,
    total: u64,
    /// What is in the topic and no letter.
    foreign: u64,
}

/// Runs the command.
pub(super) fn run(args: &ListArgs) -> Result<ExitCode> {
    let office = Office::open(&args.config)?;
    let choice = Choice { stage: args.stage.clone(), from: Vec::new() };
    let bar = telemetry::bar(None, "letters", args.json);
    let mut listing = Listing::default();
    office.read(|message| {
        match Letter::read(message) {
            Some(letter) if choice.takes(&letter) => {
                listing.add(&letter, (message.partition(), message.offset()), args.limit as usize);
            }
            Some(_) => {}
            None => listing.foreign += 1,
        }
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", listing.json())?
    } else {
        listing.print(&mut out, &office)?
    }
    Ok(ExitCode::SUCCESS)
}

impl Listing {
    fn add(&mut self, letter: &Letter, place: (i32, i64), limit: usize) {
        self.total += 1;
        let mut sort = (letter.stage.clone(), reason(&letter.error));
        if self.sorts.len() >= SORTS && !self.sorts.contains_key(&sort) {
            sort.1 = "others".to_owned();
        }
        *self.sorts.entry(sort).or_default() += 1;
        let raw = letter.raw.get(..RAW_BYTES).unwrap_or(&letter.raw);
        let row = Row {
            at: letter.at,
            stage: letter.stage.clone(),
            from: letter.origin(),
            error: letter.error.chars().take(ERROR_CHARS).collect(),
            raw: String::from_utf8_lossy(raw).into_owned(),
            raw_bytes: letter.raw_bytes.unwrap_or(letter.raw.len() as u64),
        };
        self.rows.insert((letter.at, place.0, place.1), row);
        if self.rows.len() > limit {
            self.rows.pop_first();
        }
    }

    fn json(&self) -> serde_json::Value {
        let sorts = self
            .sorts
            .iter()
            .map(|((stage, reason), count)| serde_json::json!({ "stage": stage, "reason": reason, "count": count }));
        serde_json::json!({
            "total": self.total,
            "foreign": self.foreign,
            "counts": sorts.collect::<Vec<_>>(),
            "letters": self.rows.values().collect::<Vec<_>>(),
        })
    }

    fn print(&self, out: &mut impl Write, office: &Office) -> io::Result<()> {
        let topic = &office.config.topics.dead_letters;
        if self.total == 0 {
            writeln!(out, "no dead letters in {topic}")?;
        } else {
            self.print_rows(out)?;
            let more = self.total - self.rows.len() as u64;
            let shown =
                if more > 0 { format!(", of which the newest {} are shown", self.rows.len()) } else { String::new() };
            writeln!(out, "\n{} in {topic}{shown}", counted(self.total, "dead letter", "dead letters"))?;
            let width = self.sorts.keys().map(|(stage, _)| stage.chars().count()).max().unwrap_or_default();
            for ((stage, reason), count) in &self.sorts {
                writeln!(out, "{count:>8}  {:<width$}  {}", plain(stage, usize::MAX), plain(reason, usize::MAX))?;
            }
        }
        if self.foreign > 0 {
            writeln!(out, "{} there that touchline has not written", counted(self.foreign, "record", "records"))?;
        }
        Ok(())
    }

    fn print_rows(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |of: fn(&Row) -> &str, least: usize| {
            self.rows.values().map(|row| of(row).chars().count()).max().unwrap_or_default().max(least)
        };
        let (stages, origins) = (width(|row| &row.stage, 5), width(|row| &row.from, 4));
        writeln!(out, "{:<20}  {:<stages$}  {:<origins$}  why: what it begins with", "when", "stage", "from")?;
        for row in self.rows.values() {
            let at = row.at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
            let (stage, from) = (plain(&row.stage, usize::MAX), plain(&row.from, usize::MAX));
            let (why, raw) = (plain(&row.error, ERROR_SHOWN), plain(&row.raw, RAW_SHOWN));
            writeln!(out, "{at:<20}  {stage:<stages$}  {from:<origins$}  {why}: {raw}")?;
        }
        Ok(())
    }
}

/// One line without control characters, and no longer than that.
pub(super) fn plain(text: &str, chars: usize) -> String {
    let mut plain: String = String::new();
    for char in text.chars().take(chars) {
        if char.is_control() { plain.extend(char.escape_default()) } else { plain.push(char) }
    }
    if text.chars().nth(chars).is_some() {
        plain.push('…');
    }
    plain
}

/// What letters of the same mistake have in common: the sentence without what it quotes and counts.
fn reason(error: &str) -> String {
    let (mut reason, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    for char in error.chars().take(ERROR_CHARS) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => {
                reason.push_str(if is_quoted { "\"" } else { "\"…" });
                is_quoted = !is_quoted;
            }
            _ if is_quoted => {}
            digit if digit.is_ascii_digit() => {
                if !reason.ends_with('#') {
                    reason.push('#');
                }
            }
            other => reason.push(other),
        }
    }
    plain(&reason, ERROR_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_the_same_mistake_have_the_same_reason() {
        let check = |error: &str, expect: &str| assert_eq!(reason(error), expect);
        check(r#"field `kind` is "ti\"ck"; it takes a kind"#, r#"field `kind` is "…"; it takes a kind"#);
        check("expected ident at column 12", "expected ident at column #");
        check("\u{1b}[31m", r"\u{1b}[#m");
    }
}
