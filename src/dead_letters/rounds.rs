//! Sinks' letters, in rounds that fit into memory: gathered, then delivered by the sinks' own code.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prometheus::Registry;
use rdkafka::ClientConfig;
use touchline_core::output::Topic;
use touchline_sink::{Dispatcher, End, Metrics, Outcome, Route};

use super::feed::{LetterFeed, Place, Refused, Tally, Value, locked};
use super::letter::Letter;
use super::replay::Report;
use crate::config::{self, Config, SinkKind};
use crate::sinks::SinkPlan;

/// Letters of a round, of all sinks together, and their bytes.
const LETTERS: usize = 10_000;
const BYTES: usize = 64 << 20;
/// A receiver that takes nothing is not waited for by its own schedule of days: a person waits for this command.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Nothing delivered and nothing refused for so long: the sink cannot be reached.
const STALLED: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What sinks have refused, until it is delivered.
#[derive(Default)]
pub(super) struct Round {
    /// By sink, topic and partition.
    places: BTreeMap<String, BTreeMap<(String, i32), Place>>,
    letters: usize,
    bytes: usize,
}

impl Round {
    /// Takes a sink's letter in; or says why it cannot be given back.
    pub fn add(&mut self, config: &Config, letter: Letter) -> Result<(), String> {
        let name = letter.sink().unwrap_or_default().to_owned();
        let sink = config.sinks.iter().find(|sink| sink.name == name);
        let sink = sink.ok_or_else(|| format!("there is no [[sink]] {name} any more"))?;
        if matches!(sink.kind, SinkKind::File(_)) {
            return Err(format!("sink {name} is of kind file now, which refuses nothing and has it already"));
        }
        let topic = topic_of(config, sink, &letter.topic)?;
        let partition = letter.partition.ok_or("the letter does not say which partition it came from")?;
        let key = letter.key.ok_or("the letter does not say its key")?;
        self.letters += 1;
        self.bytes += key.len() + letter.raw.len();
        let value = match letter.raw_bytes {
            Some(all) => Value::Cut { kept: letter.raw.len(), all },
            // A record is JSON: where there is nothing, there was a tombstone.
            None => Value::Whole(Some(letter.raw).filter(|raw| !raw.is_empty())),
        };
        let place = self.places.entry(name).or_default().entry((letter.topic.clone(), partition));
        let new = || Place { topic, name: letter.topic, partition, refused: BTreeMap::new() };
        place.or_insert_with(new).refused.insert(letter.offset, Refused { key, value });
        Ok(())
    }

    /// Whether it is time to deliver.
    pub fn is_full(&self) -> bool {
        self.letters >= LETTERS || self.bytes >= BYTES
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.values().flat_map(BTreeMap::values).map(|place| place.refused.len()).sum()
    }

    /// Delivers what has been gathered, and begins anew.
    pub fn deliver(&mut self, config: &Config, client: &ClientConfig, report: &mut Report) -> Result<()> {
        let round = std::mem::take(self);
        let (mut routes, mut tallies) = (Vec::new(), Vec::new());
        for (name, places) in round.places {
            let Some(sink) = config.sinks.iter().find(|sink| sink.name == name) else { continue };
            let reader = super::reader(config, client)?;
            let (feed, tally) = LetterFeed::new(reader, places.into_values().collect())?;
            let sink = SinkPlan::of(&impatient(sink)).open(config.topics.prefix.as_bytes(), true)?;
            routes.push(Route { sink, feed: Box::new(feed) });
            tallies.push(tally);
        }
        if routes.is_empty() {
            return Ok(());
        }
        let dispatcher =
            Dispatcher::start(routes, &Metrics::new(&Registry::new())?).context("the threads of the sinks")?;
        // The sinks end by themselves where their letters do.
        let outcomes = wait(dispatcher);
        outcomes.into_iter().zip(tallies).for_each(|(outcome, tally)| count(&outcome, &tally, report));
        Ok(())
    }
}

/// What the topic of a letter holds, if the sink still reads it.
fn topic_of(config: &Config, sink: &config::Sink, name: &str) -> Result<Topic, String> {
    let found = sink.topics.iter().copied().find(|topic| config.topics.output(*topic) == name);
    found.ok_or_else(|| format!("sink {} does not read topic {name} any more", sink.name))
}

fn impatient(sink: &config::Sink) -> config::Sink {
    let mut sink = sink.clone();
    if let SinkKind::Webhook(webhook) = &mut sink.kind {
        webhook.schedule = Some(PAUSES.to_vec());
    }
    sink
}

/// Until all have ended, or none gets on.
fn wait(mut dispatcher: Dispatcher) -> Vec<Outcome> {
    let (mut done, mut moved_at) = (0, Instant::now());
    while !dispatcher.wait(LOOK) && moved_at.elapsed() < STALLED {
        let now = dispatcher.progress().map(|(_, it)| it.borrow().delivered + it.borrow().rejected).sum();
        if std::mem::replace(&mut done, now) != now {
            moved_at = Instant::now();
        }
    }
    dispatcher.finish(Duration::ZERO)
}

fn count(outcome: &Outcome, tally: &Arc<Mutex<Tally>>, report: &mut Report) {
    let tally = locked(tally);
    let wanted = tally.chosen.saturating_sub(tally.superseded + tally.cut.len() + tally.refused.len()) as u64;
    report.superseded += tally.superseded as u64;
    for (origin, why) in tally.cut.iter().chain(&tally.refused) {
        report.failed.add(origin.clone(), why.clone());
    }
    let why = match &outcome.end {
        End::Closed => {
            report.given_back += wanted;
            return;
        }
        End::Failed(error) => chain(error),
        End::Abandoned => {
            let failing = outcome.progress.failing.clone().unwrap_or_else(|| "it does not say why".to_owned());
            format!("nothing was delivered for {} s: {failing}", STALLED.as_secs())
        }
    };
    let delivered = outcome.progress.delivered.min(wanted);
    report.given_back += delivered;
    report.failed.add_many(wanted - delivered, format!("sink {}", outcome.sink), why);
}

/// An error and its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
