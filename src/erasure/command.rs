//! `touchline erase`: the front door for who wants to be forgotten.
//!
//! It writes what any source could have written, a profile that says `deleted`, for every account that the contact is
//! known in; then it waits until the processor and each sink have done what follows from it, and says what is left where,
//! and until when. Nothing is marked: run again, it asks once more, and everybody erases once more.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::message::Message;
use serde::Serialize;
use touchline_core::erasure::ErasureKey;
use touchline_core::event::lower_if_email;
use touchline_core::notice::Notice;
use touchline_core::output::{Topic, key_parts};
use touchline_ingest::kafka::partition;

use super::kept::{self, Kept};
use super::key;
use crate::cli::{Misconfigured, Usage};
use crate::cluster::Reader;
use crate::config::{self, Config};
use crate::dead_letters::returns::{Returned, Returns};
use crate::{kafka, telemetry};

/// Between two looks at what has come of it.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// What these events say as their source.
const SOURCE: &str = "touchline";
/// Where what follows from an erasure is published.
const OUTPUTS: [Topic; 3] = [Topic::Alerts, Topic::Scores, Topic::Facts];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The contact, as its events name it
    contact: String,
    /// Its account; without it all that the contact is known in
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// Wait so many seconds for everybody to have done it
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
    /// Say in which accounts it would be erased, and erase nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What has come of it.
#[derive(Serialize)]
struct Report {
    contact: String,
    /// When it was asked for.
    erased_at: Timestamp,
    is_dry_run: bool,
    erasures: Vec<Erasure>,
    sinks: Vec<SinkState>,
    /// Everybody has done it.
    is_done: bool,
    /// What holds the name for a while yet.
    kept: Vec<Kept>,
    /// Where something of it is to be seen.
    #[serde(skip)]
    published: Vec<Topic>,
}

/// Of one account.
#[derive(Clone, Serialize)]
struct Erasure {
    account: String,
    /// What the contact is known by from here on: it stands in every receipt.
    id: String,
    /// Facts that were taken back; none while the processor has not come so far.
    facts: Option<u64>,
    /// Behind what a reader of each topic must have read to know of it.
    #[serde(skip)]
    places: BTreeMap<(Topic, i32), i64>,
}

#[derive(Serialize)]
struct SinkState {
    name: String,
    is_done: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let config = config::load(&options.config)?;
    let desk = Desk::open(&config)?;
    if config.processor.publish.is_empty() {
        bail!(Misconfigured("[processor] publish is empty: nothing would tell whether it has been done".to_owned()));
    }
    let normal = |name: &String| lower_if_email(Cow::Borrowed(name)).into_owned();
    let contact = normal(&options.contact);
    let accounts = match &options.account {
        Some(account) => BTreeSet::from([normal(account)]),
        None => desk.accounts(&contact, options.json)?,
    };
    if accounts.is_empty() {
        bail!(Usage(format!(
            "no contact {contact} is known in {}: is it spelled as in its events? With --account nothing is looked up, \
             and whatever comes of it later is kept out",
            config.topics.scores
        )));
    }
    let erasure = |account: String| {
        let id = desk.key.name(&account, &contact);
        Erasure { account, id, facts: None, places: BTreeMap::new() }
    };
    let mut report = Report {
        erased_at: Timestamp::now(),
        is_dry_run: options.dry_run,
        erasures: accounts.into_iter().map(erasure).collect(),
        sinks: Vec::new(),
        is_done: false,
        kept: Vec::new(),
        contact,
        // Markers of transactions come to one partition after the other.
        published: OUTPUTS.into_iter().filter(|topic| config.processor.publish.contains(topic)).collect(),
    };
    if !options.dry_run {
        let until = Instant::now() + Duration::from_secs(options.wait);
        let before = desk.ends()?;
        desk.ask(&report)?;
        desk.wait_for_processor(&mut report, before, until)?;
        desk.wait_for_sinks(&mut report, until)?;
        report.kept = kept::kept(&config, &desk.client, Timestamp::now());
    }
    report.write(options.json)?;
    Ok(if report.is_done || report.is_dry_run { ExitCode::SUCCESS } else { ExitCode::from(crate::cli::INTERNAL) })
}

/// Where it is asked, and looked.
struct Desk<'a> {
    config: &'a Config,
    client: ClientConfig,
    reader: Reader,
    key: ErasureKey,
}

type Ends = BTreeMap<Topic, BTreeMap<i32, i64>>;

impl<'a> Desk<'a> {
    fn open(config: &'a Config) -> Result<Desk<'a>> {
        let client = kafka::client(config)?;
        let reader = Reader::new(&client, &format!("{}.erase", config.topics.prefix))?;
        Ok(Desk { key: key(config)?, config, client, reader })
    }

    /// The accounts that a score of the contact stands in.
    fn accounts(&self, contact: &str, is_quiet: bool) -> Result<BTreeSet<String>> {
        let topic = &self.config.topics.scores;
        let from = self.reader.partitions(topic)?.into_iter().map(|partition| (partition, 0)).collect();
        let bar = telemetry::bar(None, "scores", is_quiet);
        let mut accounts = BTreeSet::new();
        self.reader.read(topic, &from, |message| {
            bar.inc(1);
            let names = message.key().and_then(names).filter(|(_, of)| of == contact);
            if let Some((account, _)) = names {
                match message.payload() {
                    Some(_) => _ = accounts.insert(account),
                    None => _ = accounts.remove(&account),
                }
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(accounts)
    }

    /// Where the outputs end now.
    fn ends(&self) -> Result<Ends> {
        let mut ends = Ends::new();
        for topic in OUTPUTS {
            let name = self.config.topics.output(topic);
            ends.insert(topic, self.reader.ends(name)?);
        }
        Ok(ends)
    }

    fn ask(&self, report: &Report) -> Result<()> {
        let producer = Returns::new(&self.client)?;
        for Erasure { account, id, .. } in &report.erasures {
            let at = report.erased_at;
            let event = serde_json::json!({
                "id": format!("erase/{id}/{at}"), "source": SOURCE, "kind": "profile", "occurred_at": at,
                "account": account, "contact": report.contact, "deleted": true,
            });
            let (topics, value) = (&self.config.topics, event.to_string());
            let returned = Returned {
                topic: &topics.events,
                partition: Some(partition(account.as_bytes(), topics.partitions)),
                key: Some(account.as_bytes()),
                value: value.as_bytes(),
                headers: None,
            };
            producer.send(account.clone(), returned)?;
        }
        let outcome = producer.finish()?;
        if outcome.acknowledged < report.erasures.len() as u64 {
            bail!("the brokers have not taken all of it: {}. Run this again", outcome.refused.why());
        }
        Ok(())
    }

    /// Until the processor has published what follows, or the time is over.
    fn wait_for_processor(&self, report: &mut Report, mut ends: Ends, until: Instant) -> Result<()> {
        loop {
            for topic in OUTPUTS {
                let from = ends.entry(topic).or_default();
                // Not from the end that it tells: transactions that are open may hold back what stands before it.
                let mut seen = from.clone();
                self.reader.read(self.config.topics.output(topic), from, |message| {
                    report.see(topic, message);
                    seen.insert(message.partition(), message.offset() + 1);
                    Ok(())
                })?;
                *from = seen;
            }
            if report.is_published() || Instant::now() >= until {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Until every sink has come so far, or the time is over.
    fn wait_for_sinks(&self, report: &mut Report, until: Instant) -> Result<()> {
        let mut readers = Vec::new();
        for sink in &self.config.sinks {
            let group = format!("{}.sink.{}", self.config.topics.prefix, sink.name);
            readers.push((sink, Reader::new(&self.client, &group)?));
        }
        loop {
            report.sinks = Vec::new();
            for (sink, reader) in &readers {
                let is_done = report.is_published() && self.has_passed(sink, reader, report)?;
                report.sinks.push(SinkState { name: sink.name.clone(), is_done });
            }
            report.is_done = report.is_published() && report.sinks.iter().all(|sink| sink.is_done);
            if report.is_done || Instant::now() >= until {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether a sink, whose group the reader is of, has come past all that tells of it.
    fn has_passed(&self, sink: &config::Sink, reader: &Reader, report: &Report) -> Result<bool> {
        let places = report.erasures.iter().flat_map(|erasure| &erasure.places);
        for ((topic, partition), end) in places.filter(|((topic, _), _)| sink.topics.contains(topic)) {
            let name = self.config.topics.output(*topic);
            let committed = reader.committed(name, *partition).with_context(|| format!("sink {}", sink.name))?;
            if committed.is_none_or(|committed| committed < *end) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Report {
    /// Takes note of an output that came after it was asked for.
    fn see<M: Message>(&mut self, topic: Topic, message: &M) {
        let key = message.key().unwrap_or_default();
        for erasure in &mut self.erasures {
            let is_of_it = match topic {
                Topic::Scores => names(key).is_some_and(|it| it == (erasure.account.clone(), self.contact.clone())),
                _ => key == erasure.id.as_bytes(),
            };
            let is_notice = || message.payload().and_then(Notice::of).is_some();
            if !is_of_it || (topic == Topic::Alerts && !is_notice()) {
                continue;
            }
            erasure.places.insert((topic, message.partition()), message.offset() + 1);
            if topic == Topic::Facts {
                erasure.facts = message.payload().and_then(facts);
            }
        }
    }

    fn is_published(&self) -> bool {
        let has = |erasure: &Erasure, topic| erasure.places.keys().any(|(of, _)| *of == topic);
        self.erasures.iter().all(|erasure| self.published.iter().all(|topic| has(erasure, *topic)))
    }

    fn write(&self, is_json: bool) -> Result<()> {
        let mut out = io::stdout();
        if is_json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        for Erasure { account, id, facts, .. } in &self.erasures {
            if self.is_dry_run {
                writeln!(out, "{} of {account} would be erased", self.contact)?;
                continue;
            }
            match facts {
                Some(facts) => writeln!(out, "{} of {account} is erased, with {facts} facts: {id}", self.contact)?,
                None => writeln!(out, "{} of {account} is to be erased: {id}", self.contact)?,
            }
        }
        if self.is_dry_run {
            return Ok(());
        }
        if !self.is_published() {
            writeln!(out, "\nThe processor has not come so far yet; it will. Does it run?")?;
        }
        for sink in &self.sinks {
            writeln!(out, "  sink {:<24} {}", sink.name, if sink.is_done { "done" } else { "not yet; it will" })?;
        }
        writeln!(out, "\nFor a while the name is still in:")?;
        for Kept { what, until, why } in &self.kept {
            match until {
                Some(until) => writeln!(out, "  {what:<32} until {} ({why})", until.strftime("%Y-%m-%d %H:%M UTC"))?,
                None => writeln!(out, "  {what:<32} {why}")?,
            }
        }
        Ok(())
    }
}

/// The account and the contact that the key of a score names.
fn names(key: &[u8]) -> Option<(String, String)> {
    <[String; 2]>::try_from(key_parts(key)).ok().map(|[account, contact]| (account, contact))
}

/// How many facts were taken back, by the fact of it.
fn facts(fact: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(fact).ok()?.get("facts")?.as_u64()
}
