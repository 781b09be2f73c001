//! Where a lane is read from, and where it ends.

use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::KafkaFeed;
use super::config::{KafkaFeedError, fatal, gone, retry};
use super::partition::{cursor_of, offset_of};
use crate::feed::FeedError;
use crate::sink::{Cursor, Lane, Start};

/// Asks again so often whether a topic is there.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How stale the ends of lanes may be while the sink takes nothing.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

impl KafkaFeed {
    /// Reads a lane from where the sink or the group says.
    pub(super) fn begin(&mut self, lane: &Lane, from: &Start) -> Result<Option<Cursor>, FeedError> {
        self.learn()?;
        // One that has been taken away meanwhile is told of next.
        let Some(partition) = self.lanes.get(lane) else { return Ok(None) };
        let wanted = match from {
            Start::At(None) => None,
            Start::At(Some(cursor)) => {
                Some(offset_of(cursor).ok_or_else(|| fatal(KafkaFeedError::Cursor(lane.clone())))?)
            }
            Start::Remembered => partition.committed.as_ref().and_then(|committed| committed.offset),
        };
        self.read_from(lane, wanted)
    }

    /// Reads a lane from there, or from the first that is left.
    fn read_from(&mut self, lane: &Lane, wanted: Option<i64>) -> Result<Option<Cursor>, FeedError> {
        let (Some(client), Some(partition)) = (&self.client, self.lanes.get_mut(lane)) else { return Err(gone()) };
        let (first, end) = client.bounds(partition).map_err(retry)?;
        let offset = match wanted {
            Some(offset) if (first..=end).contains(&offset) => offset,
            Some(offset) if offset < first => {
                let missed = first.abs_diff(offset);
                self.missed += missed;
                error!(
                    group = self.config.group, %lane, offset, first, missed,
                    "retention has removed what this sink had not yet delivered: up to `missed` changes are lost to it. It \
                     goes on at `first`. Give the topic a retention.ms that outlasts the sink's absences; what is lost can \
                     be published again by rebuilding the state"
                );
                first
            }
            Some(offset) => {
                error!(
                    group = self.config.group, %lane, offset, end,
                    "the sink has read further than the topic goes, which must have been made anew: it is read from its \
                     beginning"
                );
                first
            }
            None => first,
        };
        client.read(partition, offset).map_err(retry)?;
        partition.started(offset, end);
        self.is_at_end = false;
        if self.is_paused {
            client.pause([&*partition]).map_err(retry)?;
        }
        Ok(wanted.map(|_| cursor_of(offset)))
    }

    /// Looks which lanes are read from where nothing is, and reads them from where something is.
    pub(super) fn find_way(&mut self) -> Result<(), FeedError> {
        let started = self.lanes.iter().filter(|(_, partition)| partition.is_started);
        let lanes: Vec<(Lane, i64)> = started.map(|(lane, partition)| (lane.clone(), partition.read)).collect();
        self.astray_at = None;
        for (lane, read) in lanes {
            let (Some(client), Some(partition)) = (&self.client, self.lanes.get(&lane)) else { continue };
            if partition.is_ready() {
                // What was read before is handed out first.
                self.astray_at = Some(Instant::now() + ASK_EVERY);
                continue;
            }
            let bounds = client.bounds(partition).map_err(retry);
            let (first, end) = bounds.inspect_err(|_| self.astray_at = Some(Instant::now() + ASK_EVERY))?;
            if !(first..=end).contains(&read) {
                self.read_from(&lane, Some(read))?;
            }
        }
        Ok(())
    }

    /// Tells of a topic that is not there, now and then.
    pub(super) fn ask(&mut self) -> Result<(), FeedError> {
        let (Some(client), Some(_)) = (&self.client, self.ask_at.filter(|at| Instant::now() >= *at)) else {
            return Ok(());
        };
        let mut names = self.config.topics.iter().map(|(_, name)| name);
        self.ask_at = Some(Instant::now() + ASK_EVERY);
        match names.find_map(|name| client.exists(name).map(|exists| (!exists).then_some(name)).transpose()) {
            Some(Ok(name)) => Err(retry(KafkaFeedError::Missing(name.clone()))),
            Some(Err(error)) => Err(retry(error)),
            None => {
                self.ask_at = None;
                Ok(())
            }
        }
    }

    /// Learns how far the lanes go while none is read, which would tell.
    pub(super) fn measure(&mut self) {
        if !self.is_paused || Instant::now() < self.measure_at {
            return;
        }
        self.measure_at = Instant::now() + MEASURE_EVERY;
        let Some(client) = &self.client else { return };
        for partition in self.lanes.values_mut().filter(|partition| partition.is_started) {
            // It is only for people: the next look may tell.
            let Ok((_, end)) = client.bounds(partition) else { return };
            partition.end = partition.end.max(end);
        }
    }
}
