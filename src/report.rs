//! What a run has found, for people and for machines.

mod chart;
pub mod resources;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::{Timestamp, Unit, tz::TimeZone};
use serde_json::json;
use touchline_core::keys::{self, table};
use touchline_core::lapse::Standing;
use touchline_core::state::State;
use touchline_processor::Store;

use crate::replay::{Options, Summary};
use crate::telemetry::is_coloured;
use chart::Months;

/// Rows of the table: what a head of sales reads before the meeting begins.
const SHOWN: usize = 15;
/// Contacts that are read at once.
const KEYS: usize = 4096;
/// The widest that a name in the table may be; columns are as wide as what they hold, so that lines seldom wrap.
const NAME_CHARS: usize = 28;

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number, and what it counts.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// Somebody who is silent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Silent {
    /// How long they had talked with us.
    known_s: i64,
    engagements: u64,
    account: String,
    contact: String,
    last: Timestamp,
}

/// How all contacts stand.
#[derive(Default)]
struct Overview {
    contacts: u64,
    never: u64,
    active: u64,
    at_risk: u64,
    lapsed: u64,
    /// The longest relationships among those that are silent.
    silent: Vec<Silent>,
}

/// Writes the report for people.
pub(crate) fn write(out: &mut impl Write, summary: &Summary, options: &Options, store: &mut Store) -> Result<()> {
    let overview = overview(store)?;
    let style = Style { is_coloured: is_coloured(&io::stdout()) };
    write_silent(out, &overview, summary, style)?;
    let lapses = options.out.join("lapses.csv");
    if lapses.exists() {
        let months = read_months(&lapses).with_context(|| format!("{} cannot be read", lapses.display()))?;
        months.write(out, style)?;
    }
    write_run(out, summary, options, style)
}

#[derive(Clone, Copy)]
struct Style {
    is_coloured: bool,
}

impl Style {
    fn bold(self, text: &str) -> String {
        if self.is_coloured { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(self, text: &str) -> String {
        if self.is_coloured { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn overview(store: &mut Store) -> Result<Overview> {
    let mut overview = Overview::default();
    let mut longest = BinaryHeap::new();
    let (mut from, to) = (vec![table::CONTACT], vec![table::CONTACT + 1]);
    loop {
        let keys = store.contact_keys(&from, &to, KEYS)?;
        let Some(last) = keys.last() else { break };
        from = keys::after(last);
        for key in &keys {
            let Some(contact) = store.take_contact(key)? else { continue };
            let (account, name) = keys::names(key)?;
            if !name.is_empty() && contact.entries > 0 {
                overview.contacts += 1;
                match contact.standing {
                    Standing::Never => overview.never += 1,
                    Standing::Active => overview.active += 1,
                    Standing::AtRisk => overview.at_risk += 1,
                    Standing::Lapsed => overview.lapsed += 1,
                }
                let spans = contact.times.spans();
                if let (Standing::Lapsed, Some(first), Some(last)) = (contact.standing, spans.first()?, spans.last()) {
                    let known_s = last.as_second() - first.as_second();
                    let engagements = contact.tally.engagements;
                    longest.push(Reverse(Silent {
                        known_s,
                        engagements,
                        account: account.into_owned(),
                        contact: name.into_owned(),
                        last,
                    }));
                    if longest.len() > SHOWN {
                        longest.pop();
                    }
                }
            }
            store.keep_contact(key, contact);
        }
    }
    overview.silent = longest.into_sorted_vec().into_iter().map(|Reverse(silent)| silent).collect();
    Ok(overview)
}

fn write_silent(out: &mut impl Write, overview: &Overview, summary: &Summary, style: Style) -> Result<()> {
    let as_of = summary.last_tick.map_or_else(|| "the beginning".to_owned(), day);
    let has = if overview.lapsed == 1 || overview.contacts == 1 { "has" } else { "have" };
    let contacts = counted(overview.contacts, "contact", "contacts");
    let title = format!("{} of {contacts} {has} gone silent", grouped(overview.lapsed));
    writeln!(out, "{}, as of {as_of}.", style.bold(&title))?;
    let never = match overview.never {
        0 => String::new(),
        never => format!(", {} never engaged", counted(never, "has", "have")),
    };
    let active = counted(overview.active, "is engaged", "are engaged");
    writeln!(out, "{active}, {} will be silent soon{never}.", grouped(overview.at_risk))?;
    if overview.silent.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", style.bold("The longest relationships that went silent"))?;
    let accounts = widest("account", overview.silent.iter().map(|silent| &silent.account));
    let contacts = widest("contact", overview.silent.iter().map(|silent| &silent.contact));
    let header = format!(
        "{:<accounts$}  {:<contacts$}  {:>9}  {:>11}  {:<10}  {:>10}",
        "account", "contact", "known for", "engagements", "last", "silent for"
    );
    writeln!(out, "{}", style.dim(&header))?;
    for silent in &overview.silent {
        let silence_s = summary.last_tick.map_or(0, |tick| tick.as_second() - silent.last.as_second());
        writeln!(
            out,
            "{:<accounts$}  {:<contacts$}  {:>9}  {:>11}  {:<10}  {:>10}",
            shortened(&silent.account),
            shortened(&silent.contact),
            span(silent.known_s),
            grouped(silent.engagements),
            day(silent.last),
            span(silence_s)
        )?;
    }
    let rest = overview.lapsed.saturating_sub(overview.silent.len() as u64);
    if rest > 0 {
        writeln!(out, "{}", style.dim(&format!("and {} more", grouped(rest))))?;
    }
    Ok(())
}

fn write_run(out: &mut impl Write, summary: &Summary, options: &Options, style: Style) -> Result<()> {
    let read = &summary.read;
    writeln!(
        out,
        "\n{} read in {:.1} s: {} opened, {} in all.",
        counted(read.events, "event", "events"),
        summary.wall.as_secs_f64(),
        counted(summary.done.opened, "lapse alert", "lapse alerts"),
        counted(summary.done.alerts, "alert change", "alert changes")
    )?;
    if read.dead > 0 {
        let reasons: Vec<_> =
            read.reasons.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        writeln!(
            out,
            "{} could not be used ({}); dead_letters.jsonl says why.",
            counted(read.dead, "record", "records"),
            reasons.join(", ")
        )?;
    }
    if summary.done.held > 0 {
        let events = counted(summary.done.held, "event lies", "events lie");
        // What is held goes with a state that is not kept.
        let what = if options.state.is_some() { "held for a later run" } else { "left out" };
        writeln!(out, "{events} after that moment: {what}.")?;
    }
    if read.internal > 0 {
        let events = counted(read.internal, "event", "events");
        writeln!(out, "Not tracked: {events} of internal domains.")?;
    }
    for warning in &summary.warnings {
        writeln!(out, "Note: {warning}.")?;
    }
    if summary.is_stopped {
        writeln!(
            out,
            "Stopped{}{}.",
            if options.follow { "" } else { " before the end" },
            if options.state.is_some() { "; the same command goes on from here" } else { "" }
        )?;
    }
    writeln!(out, "\n{} in {}", style.bold("Files"), options.out.display())?;
    let files = [
        ("alerts.jsonl", "every alert change, in order"),
        ("lapses.csv", "every silence: when it began, when it became a lapse, when it ended"),
        ("scores.jsonl", "the score of each contact and account, with its parts"),
        ("facts.jsonl", "every event as processed, and every lapse: the rows of a warehouse"),
        ("dead_letters.jsonl", "what could not be used, and why"),
    ];
    for (name, what) in files {
        writeln!(out, "  {name:<20}{}", style.dim(what))?;
    }
    Ok(())
}

/// Lapses and recoveries by month, from the file that says so.
fn read_months(path: &Path) -> Result<Months> {
    let mut months = Months::default();
    for line in BufReader::new(File::open(path)?).lines().skip(1) {
        let line = line?;
        // The last two columns are moments, which are never quoted.
        let mut columns = line.rsplitn(3, ',');
        let (recovered, lapsed) = (columns.next(), columns.next());
        months.add(lapsed.and_then(|text| text.parse().ok()), recovered.and_then(|text| text.parse().ok()));
    }
    Ok(months)
}

/// Writes one JSON object for machines.
pub(crate) fn write_json(out: &mut impl Write, summary: &Summary, options: &Options) -> Result<()> {
    let (read, done) = (&summary.read, &summary.done);
    let used = resources::used();
    let object = json!({
        "events": read.events,
        "dead_letters": read.dead,
        "internal": read.internal,
        "held": done.held,
        "alerts": done.opened,
        "alert_changes": done.alerts,
        "published": done.published,
        "as_of": summary.last_tick.map(|tick| tick.to_string()),
        "stopped": summary.is_stopped,
        "out": options.out.display().to_string(),
        "wall_s": summary.wall.as_secs_f64(),
        "cpu_s": used.as_ref().map(|used| used.cpu_s),
        "max_rss_mb": used.as_ref().map(|used| used.max_rss_mb),
        "warnings": summary.warnings,
    });
    writeln!(out, "{object}")?;
    Ok(())
}

fn day(time: Timestamp) -> String {
    TimeZone::UTC.to_datetime(time).date().to_string()
}

/// A span of time as people say it: years and months from a year on, else months or days.
fn span(seconds: i64) -> String {
    const DAY_S: i64 = 86_400;
    const MONTH_DAYS: i64 = 30;
    const YEAR_MONTHS: i64 = 12;
    let days = seconds / DAY_S;
    let months = days * YEAR_MONTHS / 365;
    match months {
        _ if days < 2 * MONTH_DAYS => format!("{days} d"),
        months if months < YEAR_MONTHS => format!("{months} mo"),
        months => format!("{} y {:>2} mo", months / YEAR_MONTHS, months % YEAR_MONTHS),
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARS - 1).chain(['…']).collect()
}

/// The width of a column of names.
fn widest<'a>(title: &str, names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.chars().count().min(NAME_CHARS)).fold(title.len(), usize::max)
}

/// The month of a moment, counted from year 0.
fn month(time: Timestamp) -> i64 {
    let date = TimeZone::UTC.to_datetime(time.round(Unit::Second).unwrap_or(time)).date();
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}
