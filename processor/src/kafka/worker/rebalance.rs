//! What the group gives to a worker, and takes from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use super::super::cluster::{Cluster, Member, Opening, Rebalance};
use super::super::error::ProcessError;
use super::super::open::{Opened, Wanted};
use super::super::status::Restoring;
use super::{Owned, Worker};

impl<C: Cluster> Worker<C> {
    /// What the group, and the opener, have done since.
    pub fn serve(&mut self) -> Result<(), ProcessError> {
        while let Some(event) = self.member.rebalance() {
            match event {
                Rebalance::Assigned(partitions) => self.assigned(&partitions)?,
                Rebalance::Revoked { partitions, lost } => {
                    if !lost {
                        self.settle()?;
                    }
                    self.give_up(&partitions, lost)?;
                    self.member.unassign(&partitions).map_err(ProcessError::Refused)?;
                }
            }
        }
        while let Some(opened) = self.opener.opened() {
            self.opened(opened)?;
        }
        Ok(())
    }

    fn assigned(&mut self, partitions: &[i32]) -> Result<(), ProcessError> {
        info!(worker = self.number, ?partitions, "assigned");
        self.member.assign(partitions).map_err(ProcessError::Refused)?;
        let (used, unused): (Vec<i32>, Vec<i32>) =
            partitions.iter().copied().partition(|partition| self.config.is_used(*partition));
        if !unused.is_empty() {
            warn!(partitions = ?unused, "these were added to the topic, and are not used");
        }
        for partition in used {
            let is_given_up = Arc::new(AtomicBool::new(false));
            let restoring = Arc::<Restoring>::default();
            self.owned.insert(partition, Owned::Opening(is_given_up.clone(), restoring.clone()));
            self.opener.want(Wanted { partition, is_given_up, restoring });
        }
        Ok(())
    }

    fn opened(&mut self, opened: Opened) -> Result<(), ProcessError> {
        let partition = opened.wanted.partition;
        let Some(active) = opened.active else { return Ok(()) };
        let mut active = active?;
        let is_wanted = matches!(self.owned.get(&partition),
            Some(Owned::Opening(given_up, _)) if Arc::ptr_eq(given_up, &opened.wanted.is_given_up));
        if !is_wanted {
            active.close(true)?;
            return Ok(());
        }
        active.is_paused = true;
        self.shared.stores.fetch_add(1, Ordering::Relaxed);
        self.shared.margin.own(partition);
        let sought = self.member.seek(partition, active.stand.position.offset);
        self.owned.insert(partition, Owned::Active(active));
        // Whatever is in the way is in the way of all: each is sought again with the next producer.
        sought.or_else(|error| self.doubt(error))
    }

    /// Lets go of partitions. Those that were lost are another's: nothing of them is written any more.
    pub fn give_up(&mut self, partitions: &[i32], lost: bool) -> Result<(), ProcessError> {
        info!(worker = self.number, ?partitions, lost, "given up");
        for partition in partitions {
            match self.owned.remove(partition) {
                Some(Owned::Opening(given_up, _)) => given_up.store(true, Ordering::Relaxed),
                Some(Owned::Active(mut active)) => {
                    // Of what is dropped below nothing has been committed.
                    if let Some(uploader) = self.shared.uploader.as_ref().filter(|_| !lost && self.producer.is_some()) {
                        active.copy(uploader)?;
                    }
                    self.shared.stores.fetch_sub(1, Ordering::Relaxed);
                    self.shared.margin.give_up(*partition);
                    // A batch that was not committed is dropped with it.
                    active.close(!lost && self.producer.is_some())?;
                }
                None => {}
            }
        }
        Ok(())
    }
}
