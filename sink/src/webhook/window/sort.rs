//! What becomes of a change: a message of its own, or part of a digest.

use touchline_core::output::Topic;

use super::super::digest::RunKey;
use super::super::lane::LaneState;
use super::super::message::{self, Alert, Envelope};
use crate::sink::{Change, Lane};

/// How a change is sent.
pub enum Sort {
    /// By itself.
    Alone(Envelope),
    /// With the others of its run.
    OfRun(RunKey),
}

impl Sort {
    /// Of a change; if it cannot be sent, why.
    pub fn of(lane: &Lane, change: &Change) -> Result<Sort, String> {
        if change.topic != Topic::Alerts {
            return message::envelope(lane, change).map(Sort::Alone);
        }
        let alert = Alert::read(change)?;
        Ok(if alert.backlog { Sort::OfRun(RunKey::of(change, &alert)) } else { Sort::Alone(alert.envelope()) })
    }
}

impl LaneState {
    /// Whether the first alert among these belongs to the run at the end.
    pub fn continues(&self, changes: &[Change]) -> bool {
        let first = changes.iter().find(|change| change.topic == Topic::Alerts);
        let alert = first.and_then(|change| Some((change, Alert::read(change).ok()?)));
        alert.is_some_and(|(change, alert)| {
            alert.backlog && self.run.as_ref().is_some_and(|run| run.key == RunKey::of(change, &alert))
        })
    }
}
