//! What is measured on: two shapes, because a figure says as much of the load as of the program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use touchline::generate::{self, generate};
use touchline_ingest::lines::{Framed, Framing, Lines};

/// Of all loads.
const SEED: u64 = 1;

/// The shape of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `touchline generate`: two years of accounts of every size, people who fade and return, corrections, a tick before
    /// each event. With few events a contact, nearly all of them end a silence or begin one.
    Real,
    /// What other stream processors have been measured on: eight months, contacts drawn alike, twenty an account,
    /// 70 % engagements (a tenth of them by machines) and 30 % touches, 5 % up to a week late, 1 % twice, a tick a day.
    Even,
}

/// So many contacts and events.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub shape: Shape,
    pub contacts: u64,
    pub events: u64,
}

/// A state that fits into memory, and one that does not: where a design shows what it is worth. Other stream processors
/// have been measured on these two.
pub const EVEN: [Load; 2] = [
    Load { shape: Shape::Even, contacts: 200_000, events: 3_000_000 },
    Load { shape: Shape::Even, contacts: 2_000_000, events: 4_000_000 },
];

impl Load {
    /// `real:200000:2000000`; without a shape it is even.
    pub fn from_text(text: &str) -> Option<Load> {
        let (shape, numbers) = match text.split_once(':')? {
            ("real", numbers) => (Shape::Real, numbers),
            ("even", numbers) => (Shape::Even, numbers),
            _ => (Shape::Even, text),
        };
        let (contacts, events) = numbers.split_once(':')?;
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        Some(Load { shape, contacts: number(contacts)?, events: number(events)? })
    }

    pub fn title(self) -> &'static str {
        match self.shape {
            Shape::Real => "real (touchline generate)",
            Shape::Even => "even (drawn alike, daily ticks)",
        }
    }

    /// Writes the load, as JSON Lines; returns how many bytes.
    pub fn write(self, path: &Path) -> Result<u64> {
        let mut file = File::create_new(path)?;
        match self.shape {
            Shape::Real => {
                let options = generate::Options { contacts: self.contacts, events: self.events, seed: SEED };
                generate(&options, &mut file, &mut |_| ())?;
            }
            Shape::Even => even(self, &mut BufWriter::new(&mut file))?,
        }
        Ok(file.metadata()?.len())
    }
}

/// Calls `take` with each line of a load; returns how many there are.
pub fn each_line(load: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let (mut lines, mut count) = (Lines::new(File::open(load)?, Framing::Lines, 0, 1), 0);
    loop {
        match lines.next(&mut 0)? {
            Framed::Record(_) => take(lines.bytes())?,
            Framed::End => return Ok(count),
            framed => bail!("the load is damaged: {framed:?}"),
        }
        count += 1;
    }
}

const VEHICLES: [&str; 8] =
    ["conference", "roundtable", "webcast", "virtual_meeting", "community", "newsletter", "whitepaper", "email"];
const CONTENTS: [&str; 4] = ["solution", "strategy", "product", "technical"];
const CHANNELS: [&str; 5] = ["email", "phone", "post", "social", "ad"];
const DAY: SignedDuration = SignedDuration::from_hours(24);
const WEEK_S: u64 = 7 * 86_400;
/// Second copies are drawn from so many recent lines.
const RECENT: usize = 1000;

fn even(load: Load, out: &mut impl Write) -> Result<()> {
    let start: Timestamp = "2024-01-01T00:00:00Z".parse()?;
    let span_s = 244 * DAY.as_secs();
    let mut words = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut below = |limit: u64| ((u128::from(words.next_u64()) * u128::from(limit)) >> 64) as u64;
    let mut recent: Vec<String> = Vec::with_capacity(RECENT);
    let week = SignedDuration::from_secs(WEEK_S as i64);
    // On the first line, because that is what makes it a log with ticks of its own.
    writeln!(out, r#"{{"kind":"tick","through":"{}"}}"#, start - week)?;
    let mut tick = start;
    for n in 0..load.events {
        let now = start + SignedDuration::from_secs(span_s * n as i64 / load.events as i64);
        // A week behind: whoever is late is not too late.
        while now - week >= tick {
            writeln!(out, r#"{{"kind":"tick","through":"{tick}"}}"#)?;
            tick += DAY;
        }
        if n > 0 && below(100) == 0 {
            writeln!(out, "{}", recent[below(recent.len() as u64) as usize])?;
            continue;
        }
        let contact = below(load.contacts);
        let account = contact / 20;
        let late_s = if below(20) == 0 { below(WEEK_S) } else { 0 };
        let at = now - SignedDuration::new(late_s as i64, -(below(1000) as i32) * 1_000_000);
        let content = CONTENTS[(n % 4) as usize];
        let names = format!(
            r#"{{"id":"e{n:010}","source":"bench","occurred_at":"{at:.3}","account":"a{account:06}","contact":"c{contact:07}""#
        );
        let line = if below(10) < 7 {
            let interaction = match (below(10), below(2)) {
                (0, _) => "machine",
                (_, 0) => "one_way",
                _ => "two_way",
            };
            let (vehicle, minutes) = (VEHICLES[(n % 8) as usize], 5 + n % 55);
            format!(
                r#"{names},"kind":"engagement","vehicle":"{vehicle}","interaction":"{interaction}","content":"{content}","minutes":{minutes}}}"#
            )
        } else {
            let (channel, campaign, cost) = (CHANNELS[(n % 5) as usize], n % 4 + 1, n % 40);
            format!(
                r#"{names},"kind":"touch","channel":"{channel}","campaign":"q{campaign}-launch","content":"{content}","cost":"{cost}.{:02}"}}"#,
                n % 100
            )
        };
        writeln!(out, "{line}")?;
        if recent.len() < RECENT { recent.push(line) } else { recent[n as usize % RECENT] = line }
    }
    writeln!(out, r#"{{"kind":"tick","through":"{tick}"}}"#)?;
    Ok(out.flush()?)
}
