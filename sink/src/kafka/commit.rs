//! What the group remembers: how far the sink has come, and what has become a dead letter.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::KafkaFeed;
use super::client::Client;
use super::config::{KafkaFeedError, gone, retry};
use super::letters::Letters;
use super::partition::{Committed, Partition};
use crate::feed::{FeedError, Rejection};
use crate::sink::Lane;

/// What is remembered is committed so often: a crash repeats no more than that of what does not keep its own cursor.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Before a commit that failed is tried again: the group may be moving.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);
/// For the last commit; what is not committed is delivered again.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// For a commit under way, before letters are written.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

impl KafkaFeed {
    /// Commits what has been remembered, if it is time; else tells when it will be.
    pub(super) fn commit(&mut self) -> Result<Option<Instant>, FeedError> {
        let Some(client) = &mut self.client else { return Ok(None) };
        if client.is_committing() || !self.lanes.values().any(|partition| partition.is_dirty) {
            return Ok(None);
        }
        if Instant::now() < self.commit_at {
            return Ok(Some(self.commit_at));
        }
        self.commit_at = Instant::now() + COMMIT_EVERY;
        let dirty = self.lanes.values_mut().filter(|partition| partition.is_dirty && partition.committed.is_some());
        let dirty: Vec<&Partition> = dirty
            .map(|partition| {
                partition.is_dirty = false;
                &*partition
            })
            .collect();
        if dirty.is_empty() {
            // Which letters there are must be known first: they are committed beside the offset.
            self.commit_at = Instant::now() + COMMIT_AGAIN;
            return self.learn().map(|()| Some(self.commit_at));
        }
        client.commit(dirty).map_err(retry)?;
        Ok(None)
    }

    /// Hears how the commit under way has ended.
    pub(super) fn hear_commit(&mut self) {
        let Some(Err(error)) = self.client.as_mut().and_then(Client::committed) else { return };
        info!(group = self.config.group, %error, "not committed; trying again");
        self.lanes.values_mut().for_each(|partition| partition.is_dirty |= partition.remembered.is_some());
        self.commit_at = Instant::now() + COMMIT_AGAIN;
    }

    /// Learns what the group has committed for the lanes of which that is not known.
    pub(super) fn learn(&mut self) -> Result<(), FeedError> {
        let Some(client) = &self.client else { return Err(gone()) };
        let unknown = self.lanes.values().filter(|partition| partition.committed.is_none());
        for (lane, committed) in client.read_committed(unknown).map_err(retry)? {
            if let Some(partition) = self.lanes.get_mut(&lane) {
                partition.committed = Some(committed);
            }
        }
        Ok(())
    }

    /// Makes dead letters of what is not one yet.
    pub(super) async fn write_letters(&mut self, rejections: &[Rejection<'_>]) -> Result<(), FeedError> {
        // A commit under way does not know of the letters, and must not come after them.
        self.settle(SETTLE_WITHIN, false).await?;
        self.learn()?;
        let is_new = |rejection: &&Rejection<'_>| {
            self.lanes.get(rejection.lane).is_some_and(|partition| !partition.is_rejected(rejection.change.sequence))
        };
        let fresh: Vec<Rejection<'_>> = rejections.iter().filter(is_new).copied().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let mut rejected: BTreeMap<&Lane, Committed> = BTreeMap::new();
        for rejection in &fresh {
            let known = || self.lanes.get(rejection.lane).and_then(|partition| partition.committed.clone());
            let of_lane = rejected.entry(rejection.lane).or_insert_with(|| known().unwrap_or_default());
            of_lane.rejected.extend(i64::try_from(rejection.change.sequence));
        }
        let Some(client) = &self.client else { return Err(gone()) };
        let concerned = rejected.iter().filter_map(|(lane, new)| Some((self.lanes.get(*lane)?, &new.rejected)));
        let (offsets, group) = client.letters_commit(concerned).map_err(retry)?;
        let letters = self.letters.take().map_or_else(|| Letters::new(&self.config), Ok);
        match letters.and_then(|letters| letters.publish(&fresh, &offsets, &group).map(|()| letters)) {
            Ok(letters) => {
                self.letters = Some(letters);
                for (lane, new) in rejected {
                    self.lanes.get_mut(lane).into_iter().for_each(|partition| partition.committed = Some(new.clone()));
                }
                Ok(())
            }
            Err(source) => {
                // It may have been committed or not: that is read again.
                self.lanes.values_mut().for_each(|partition| partition.committed = None);
                let action = format!("write to {}, as {}", self.config.dead_letters, Letters::id(&self.config));
                Err(retry(KafkaFeedError::Cluster { action, source }))
            }
        }
    }

    /// Waits for the commit under way and, if asked, commits all that has been remembered.
    async fn settle(&mut self, within: Duration, all: bool) -> Result<(), FeedError> {
        let until = Instant::now() + within;
        loop {
            if all {
                self.commit_at = Instant::now();
                self.commit()?;
            }
            if !self.client.as_ref().is_some_and(Client::is_committing) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(retry(KafkaFeedError::Client("a commit of offsets takes too long".to_owned())));
            }
            self.sleep(Some(until)).await;
            self.pump(0)?;
        }
    }

    /// Commits what has been remembered, and leaves the group.
    pub(super) async fn leave(&mut self) -> Result<(), FeedError> {
        if let Err(error) = self.settle(CLOSE_WITHIN, true).await {
            // Nothing is lost by it: what is not committed is delivered again, or known by the sink.
            let error = crate::dispatcher::chain(&error);
            warn!(group = self.config.group, error, "the last offsets could not be committed");
        }
        self.client = None;
        Ok(())
    }
}
