//! Says through which moment a source is complete.
//!
//! Every [`EVERY`]: a mark in `touchline.progress`, whose time stamp is t₀; the ends of the partitions that this process
//! reads, asked for after t₀; and for each partition whose reader has passed such an end a claim through t₀ − `max_delay`.
//! Only two orders matter: the end is sampled after the mark is acknowledged, and the claim is made after the outputs
//! are. How long any of it takes does not.
//!
//! Each source has a thread: one whose brokers do not answer holds back no other.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::Failure;
use super::client::Context;
use super::config::{Config, Source};
use super::progress::{Entry, SourcePartition};
use super::reading::{Owned, Sample};
use super::stop::Stop;
use super::writer::Writer;

/// A quarter of a tick: the age of a claim adds to the delay of every alert.
const EVERY: Duration = Duration::from_millis(250);
/// How long brokers may take to tell ends; they take milliseconds.
const SAMPLED_WITHIN: Duration = Duration::from_secs(5);

/// A partition has become complete through this moment, the source's delay not counted.
pub(super) type Passed = (SourcePartition, Timestamp);

/// Asks brokers where partitions begin and end.
pub(super) struct EndSampler(BaseConsumer<Context<Sampling>>);

/// Has no callbacks.
pub(super) struct Sampling;

impl ConsumerContext for Context<Sampling> {}

impl EndSampler {
    pub(super) fn new(config: &Config) -> Result<EndSampler, Failure> {
        config.end_sampler().create_with_context(Context(Sampling)).map(EndSampler).map_err(Failure::Client)
    }

    /// The offsets for a logical one, in the order of `partitions`: one request a broker.
    fn offsets(&self, partitions: &[SourcePartition], logical: Offset) -> KafkaResult<Vec<Option<i64>>> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for of in partitions {
            list.add_partition_offset(&of.topic, of.partition, logical)?;
        }
        let found = self.0.offsets_for_times(list, SAMPLED_WITHIN)?;
        // Serves its logs.
        self.0.poll(Duration::ZERO);
        let offset = |of: &SourcePartition| match found.find_partition(&of.topic, of.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            // Not told.
            _ => None,
        };
        Ok(partitions.iter().map(offset).collect())
    }

    /// First offset and end of each partition, where they are known.
    fn sample(&self, partitions: &[SourcePartition]) -> KafkaResult<Vec<Option<(i64, i64)>>> {
        let ends = self.offsets(partitions, Offset::End)?;
        let lows = self.offsets(partitions, Offset::Beginning)?;
        Ok(lows.into_iter().zip(ends).map(|(low, end)| low.zip(end)).collect())
    }
}

/// One source's completeness, as far as this process reads it.
pub(super) struct Completeness<'a> {
    pub(super) config: &'a Config,
    pub(super) source: &'a Source,
    pub(super) owned: &'a Owned,
    pub(super) sampler: &'a EndSampler,
    pub(super) writer: &'a Writer,
    /// To the reader.
    pub(super) samples: Sender<Sample>,
    /// From the reader; it hangs up when it ends.
    pub(super) passed: Receiver<Passed>,
}

impl Completeness<'_> {
    /// Runs until told to stop.
    pub(super) fn run(self, stop: Stop<'_>) -> Result<(), Failure> {
        let mut trouble = Trouble::default();
        while !stop.is_set() {
            let next = Instant::now() + EVERY;
            let sampled = self.sample(&stop)?;
            trouble.note(&self.source.name, sampled.err());
            self.claim_until(next)?;
        }
        Ok(())
    }

    /// The inner error: brokers do not tell ends. Nothing is claimed meanwhile.
    fn sample(&self, stop: &Stop<'_>) -> Result<KafkaResult<()>, Failure> {
        let owned = self.owned.of(&self.source.name);
        if owned.is_empty() {
            return Ok(Ok(()));
        }
        let mark = Entry::Mark { instance: self.config.instance.clone(), role: format!("source/{}", self.source.name) };
        let Some(stamp) = self.writer.note_and_wait(&mark, stop)? else { return Ok(Ok(())) };
        let at = self.writer.time(stamp)?;
        let partitions: Vec<_> = owned.iter().map(|(of, ..)| of.clone()).collect();
        let bounds = match self.sampler.sample(&partitions) {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        for ((of, stint, position), bounds) in owned.into_iter().zip(bounds) {
            if let Some((low, end)) = bounds {
                // The reader may have ended.
                let _ = self.samples.send(Sample { stint, of, at, position, low, end });
            }
        }
        Ok(Ok(()))
    }

    /// Publishes what the reader finds complete until it is time for the next sample.
    fn claim_until(&self, next: Instant) -> Result<(), Failure> {
        loop {
            let left = next.saturating_duration_since(Instant::now());
            match self.passed.recv_timeout(left) {
                Ok((of, at)) => {
                    let through = at.saturating_sub(self.source.max_delay).unwrap_or(Timestamp::MIN);
                    // The next claim replaces it, so nobody need wait for this one.
                    drop(self.writer.note(&Entry::Claim { of, through })?);
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(left);
                    return Ok(());
                }
            }
        }
    }
}

/// Tells once that brokers do not answer, and once that they do again.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn note(&mut self, source: &str, error: Option<KafkaError>) {
        match error {
            Some(error) if !self.0 => {
                warn!(source, %error, "the ends of its partitions cannot be told, so the source is not complete");
                self.0 = true;
            }
            None if self.0 => {
                info!(source, "the ends of its partitions are told again");
                self.0 = false;
            }
            _ => {}
        }
    }
}
