//! Runs of backlog alerts → one message each.
//!
//! Alerts that were due before anybody listened are old news; each in a message of its own they would be a storm. A
//! *run* is told as one: consecutive alerts of a lane with `backlog: true`, made by one tick, in one stretch of
//! [`SPAN`] sequences. All three are in the log, so that a lane read again, however it is cut into batches, gives the
//! same runs; only a run whose end is awaited in vain for a moment ends there. The id is a hash of what is in it: a
//! digest with other alerts is never taken for one that was received.
//!
//! Its `data`: `tick`; `count`, and `counts` by event type; `first_due`, `last_due`; `alerts`, those with the highest
//! scores, in full, as many as fit; `omitted`, how many did not.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::message::{Alert, Envelope, name_of};
use crate::sink::Change;

/// Sequences of a lane that one digest may come from: it bounds what a digest holds in memory, and a place at which all
/// runs end is a place at which a lane can be read again.
pub const SPAN: u64 = 1024;
/// Alerts in full: enough to act on, and 20 kB, which Standard Webhooks gives as the most that receivers like.
const LISTED: usize = 20;
/// The same where alerts are unusually long.
const LISTED_BYTES: usize = 64 << 10;
/// What is said in `type`.
const EVENT_TYPE: &str = "alert.digest";

#[derive(Serialize)]
struct Data<'a> {
    tick: Option<&'a str>,
    count: usize,
    counts: BTreeMap<String, usize>,
    first_due: Option<&'a str>,
    last_due: Option<&'a str>,
    alerts: Vec<&'a RawValue>,
    omitted: usize,
}

/// What the alerts of one run have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKey {
    tick: Option<String>,
    stretch: u64,
}

impl RunKey {
    /// The run that a backlog alert belongs to.
    pub fn of(change: &Change, alert: &Alert<'_>) -> RunKey {
        RunKey { tick: alert.tick.as_deref().map(str::to_owned), stretch: change.sequence / SPAN }
    }
}

/// The message of a run, whole. Changes that are no alerts are not in it.
pub fn envelope<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Envelope {
    let alerts: Vec<(Alert<'a>, &'a [u8])> =
        changes.into_iter().filter_map(|change| Some((Alert::read(change).ok()?, change.value.as_deref()?))).collect();
    let ids: Vec<String> = alerts.iter().map(|(alert, _)| alert.message_id()).collect();
    let name = name_of(&ids.iter().map(String::as_bytes).collect::<Vec<_>>());
    let mut counts = BTreeMap::new();
    for (alert, _) in &alerts {
        *counts.entry(alert.event_type()).or_default() += 1;
    }
    // RFC 3339 in UTC without fractions sorts as text; with some it nearly does, which is enough for a summary.
    let dues = || alerts.iter().filter_map(|(alert, _)| alert.due.as_deref());
    let tick = alerts.first().and_then(|(alert, _)| alert.tick.as_deref());
    let listed = listed(&alerts);
    let data = Data {
        tick,
        count: alerts.len(),
        counts,
        first_due: dues().min(),
        last_due: dues().max(),
        omitted: alerts.len() - listed.len(),
        alerts: listed,
    };
    // Texts, numbers and JSON that has been read: nothing in it cannot be written.
    let data = serde_json::to_vec(&data).unwrap_or_default();
    Envelope::sealed(format!("digest_{name}"), EVENT_TYPE, tick, &data)
}

/// Those with the highest scores; of equal ones those that came first.
fn listed<'a>(alerts: &[(Alert<'_>, &'a [u8])]) -> Vec<&'a RawValue> {
    let mut order: Vec<_> = alerts.iter().collect();
    order.sort_by(|(one, _), (other, _)| other.score.total_cmp(&one.score));
    let mut left = LISTED_BYTES;
    order
        .into_iter()
        .take(LISTED)
        .map_while(|(_, value)| {
            left = left.checked_sub(value.len())?;
            serde_json::from_slice(value).ok()
        })
        .collect()
}
