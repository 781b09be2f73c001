//! `touchline dead-letters replay`: letters are given to where they failed, once more.
//!
//! | stage | goes to | as |
//! |---|---|---|
//! | `ingest` | its source's topic, the same partition | its bytes |
//! | `process` | the topic of events | ingest would have it: canonical, by account |
//! | `sink NAME` | that sink, and no other | [`mod@super::feed`] says |
//!
//! What ingest or the processor refuses once more becomes another letter. The same bytes are given back once in a run, so
//! that runs in vain do not multiply them.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use serde::Serialize;
use sha2::{Digest, Sha256};
use touchline_core::record::Record;
use touchline_ingest::formats::canonical::Decoded;
use touchline_ingest::kafka::partition;
use touchline_ingest::{Decoder, Identity, Zones};

use super::letter::Letter;
use super::returns::{Returned, Returns};
use super::rounds::Round;
use super::{Choice, Office, ReplayArgs};
use crate::report::{counted, grouped};
use crate::telemetry;

/// Of what could not be given back, what is listed; the rest is counted.
const LISTED: usize = 50;
/// Hashes of what has been given back, about 50 MB of them; what comes again behind them is given back again.
const REMEMBERED: usize = 1_000_000;
/// Headers of a letter that are its record's, and not the letter's own.
const KEPT_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// What could not be given back: where it came from, and why.
#[derive(Default, Serialize)]
pub(crate) struct Failures {
    pub total: u64,
    listed: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    from: String,
    why: String,
}

impl Failures {
    /// Why the first of them failed.
    pub fn why(&self) -> &str {
        self.listed.first().map_or("nobody knows why", |failure| &failure.why)
    }

    pub fn add(&mut self, from: String, why: String) {
        self.add_many(1, from, why);
    }

    pub fn add_many(&mut self, count: u64, from: String, why: String) {
        self.total += count;
        if count > 0 && self.listed.len() < LISTED {
            self.listed.push(Failure { from, why });
        }
    }

    fn append(&mut self, other: Failures) {
        self.total += other.total;
        self.listed.extend(other.listed);
        self.listed.truncate(LISTED);
    }
}

/// What has come of it.
#[derive(Default, Serialize)]
pub(super) struct Report {
    /// Letters that were meant.
    pub chosen: u64,
    /// Given back, and acknowledged.
    pub given_back: u64,
    /// The same bytes had been given back in this run.
    pub repeated: u64,
    /// A later change has taken their place.
    pub superseded: u64,
    /// Not given back.
    pub failed: Failures,
    is_dry_run: bool,
}

/// Runs the command.
pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let office = Office::open(&args.config)?;
    let choice = Choice { stage: args.stage.clone(), from: args.from.clone() };
    let bar = telemetry::bar(None, "letters", args.json);
    let mut postman = Postman::new(&office, args.dry_run)?;
    office.read(|message| {
        bar.inc(1);
        match Letter::read(message) {
            Some(letter) if choice.takes(&letter) => postman.take(letter, message),
            _ => Ok(()),
        }
    })?;
    let report = postman.finish()?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?
    } else {
        report.print(&mut out)?
    }
    if report.failed.total > 0 {
        bail!("{} could not be given back", counted(report.failed.total, "dead letter", "dead letters"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings letters back.
struct Postman<'a> {
    office: &'a Office,
    decoder: Decoder,
    /// `None` in a dry run.
    returns: Option<Returns>,
    round: Round,
    /// Hashes of what has been given back, with where to.
    seen: HashSet<[u8; 32]>,
    /// Of topics of sources.
    partitions: BTreeMap<String, Vec<i32>>,
    report: Report,
}

impl<'a> Postman<'a> {
    fn new(office: &'a Office, is_dry_run: bool) -> Result<Postman<'a>> {
        let config = &office.config;
        let zones = config.sources.iter().map(|source| (source.name.clone(), source.timezone.clone()));
        Ok(Postman {
            office,
            decoder: Decoder { zones: Zones::new(zones), identity: Identity::new(config.internal.iter().cloned()) },
            returns: if is_dry_run { None } else { Some(Returns::new(&office.client)?) },
            round: Round::default(),
            seen: HashSet::new(),
            partitions: BTreeMap::new(),
            report: Report { is_dry_run, ..Report::default() },
        })
    }

    fn take(&mut self, letter: Letter, message: &BorrowedMessage<'_>) -> Result<()> {
        self.report.chosen += 1;
        let origin = letter.origin();
        let taken = match &*letter.stage {
            "ingest" => self.return_to_source(&letter, message)?,
            "process" => self.return_to_events(&letter)?,
            _ if letter.sink().is_some() => self.keep_for_sink(letter)?,
            other => Err(format!("stage {other} is not known to this version")),
        };
        taken.unwrap_or_else(|why| self.report.failed.add(origin, why));
        Ok(())
    }

    /// Its bytes, to where they came from.
    fn return_to_source(&mut self, letter: &Letter, message: &BorrowedMessage<'_>) -> Result<Result<(), String>> {
        let topic = &letter.topic;
        if !self.office.config.sources.iter().any(|source| source.topics.contains(topic)) {
            return Ok(Err(format!("no [[source]] reads topic {topic}")));
        }
        if let Some(cut) = letter.cut() {
            return Ok(Err(format!("{cut}: send it again from where it was made")));
        }
        let there = match self.partitions.get(topic) {
            Some(there) => there,
            None => self.partitions.entry(topic.clone()).or_insert(self.office.reader.partitions(topic)?),
        };
        if there.is_empty() {
            return Ok(Err(format!("there is no topic {topic} any more")));
        }
        // What it was in line with, it is in line with again.
        let partition = letter.partition.filter(|partition| there.contains(partition));
        let (key, value, headers) = (letter.key.as_deref(), &letter.raw, kept_headers(message));
        self.send(letter.origin(), Returned { topic, partition, key, value, headers })?;
        Ok(Ok(()))
    }

    /// What ingest would have made of it.
    fn return_to_events(&mut self, letter: &Letter) -> Result<Result<(), String>> {
        if let Some(cut) = letter.cut() {
            return Ok(Err(format!("{cut}: send it again from where it was made")));
        }
        let event = match self.decoder.decode(&letter.raw, Timestamp::now()) {
            Ok(Decoded::Record(Record::Event(event))) => event,
            Ok(Decoded::Record(_)) => return Ok(Err("ticks and rules are made anew, and not given back".to_owned())),
            Ok(Decoded::Internal) => return Ok(Err("it is of our own people, who are not tracked".to_owned())),
            Err(reject) => return Ok(Err(format!("it would be refused again: {reject}"))),
        };
        let mut value = Vec::new();
        event.write_canonical(&mut value);
        let (topics, key) = (&self.office.config.topics, event.account.as_bytes());
        let (topic, partition) = (&topics.events, Some(partition(key, topics.partitions)));
        self.send(letter.origin(), Returned { topic, partition, key: Some(key), value: &value, headers: None })?;
        Ok(Ok(()))
    }

    fn keep_for_sink(&mut self, letter: Letter) -> Result<Result<(), String>> {
        let added = self.round.add(&self.office.config, letter);
        if self.round.is_full() {
            self.deliver()?;
        }
        Ok(added)
    }

    fn deliver(&mut self) -> Result<()> {
        if self.report.is_dry_run {
            self.report.given_back += std::mem::take(&mut self.round).len() as u64;
            return Ok(());
        }
        self.round.deliver(&self.office.config, &self.office.client, &mut self.report)
    }

    fn send(&mut self, origin: String, returned: Returned<'_>) -> Result<()> {
        let hash = Sha256::new().chain_update(returned.topic).chain_update([0]).chain_update(returned.value).finalize();
        if self.seen.contains(&<[u8; 32]>::from(hash)) {
            self.report.repeated += 1;
            return Ok(());
        }
        if self.seen.len() < REMEMBERED {
            self.seen.insert(hash.into());
        }
        match &self.returns {
            Some(returns) => returns.send(origin, returned),
            None => {
                self.report.given_back += 1;
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Result<Report> {
        self.deliver()?;
        if let Some(returns) = self.returns {
            let outcome = returns.finish()?;
            self.report.given_back += outcome.acknowledged;
            self.report.failed.append(outcome.refused);
        }
        Ok(self.report)
    }
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let done = if self.is_dry_run { "would be given back" } else { "given back" };
        let (chosen, given_back) = (counted(self.chosen, "dead letter", "dead letters"), grouped(self.given_back));
        writeln!(out, "{chosen}: {given_back} {done}, {} not", grouped(self.failed.total))?;
        if self.repeated > 0 {
            writeln!(out, "{} had the same bytes as another, which was enough", grouped(self.repeated))?;
        }
        if self.superseded > 0 {
            writeln!(
                out,
                "{} were left as they are: a later change of the same key has taken their place",
                grouped(self.superseded)
            )?;
        }
        for failure in &self.failed.listed {
            let (from, why) =
                (super::list::plain(&failure.from, usize::MAX), super::list::plain(&failure.why, usize::MAX));
            writeln!(out, "not given back: {from}: {why}")?;
        }
        if self.failed.total > self.failed.listed.len() as u64 {
            writeln!(out, "… and others")?;
        }
        Ok(())
    }
}

/// What the record was sent with, as far as letters keep it.
fn kept_headers(message: &BorrowedMessage<'_>) -> Option<OwnedHeaders> {
    let kept = message.headers()?.iter().filter(|header| KEPT_HEADERS.contains(&header.key));
    kept.fold(None, |headers, header| Some(headers.unwrap_or_else(OwnedHeaders::new).insert(header)))
}
