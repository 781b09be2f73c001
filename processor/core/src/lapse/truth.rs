//! What is true of a silence that was told of, and what is to be told where that differs.

use jiff::Timestamp;

use super::{Change, Clock, Rule, Told};

/// How a silence that was told of stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// The engagement is gone, or another followed in time, or it is not due.
    Gone,
    /// It goes on.
    Open,
    /// It is no longer this rule's: the contact has left, or what was a risk is a lapse.
    Closed,
    /// It ended with this engagement.
    Ended(Timestamp),
}

impl Truth {
    /// Of what was told about `told.last`; `gap` as [`Spans::gap_after`].
    pub(super) fn of(told: Told, gap: Option<Option<Timestamp>>, due: Timestamp, clock: &Clock) -> Truth {
        let from = match told.rule {
            Rule::Lapse => due,
            Rule::AtRisk => clock.warn_at(told.last, due),
        };
        match gap {
            Some(Some(next)) if from < next && clock.falls_due(due) => Truth::Ended(next),
            Some(Some(next)) if from < next => Truth::Closed,
            Some(None) if told.rule == Rule::AtRisk && clock.has_passed(due) => Truth::Closed,
            Some(None) if !clock.has_passed(from) => Truth::Gone,
            Some(None) if clock.left_at.is_some() => Truth::Closed,
            Some(None) => Truth::Open,
            _ => Truth::Gone,
        }
    }

    /// What is to be told, where `told` no longer says it.
    pub(super) fn change(self, told: Told) -> Option<(Change, Option<Timestamp>)> {
        let was_true = told.change.is_open() || told.change == Change::Recovered;
        match self {
            Truth::Gone if was_true => Some((Change::Retracted, None)),
            Truth::Closed if told.change.is_open() => Some((Change::Closed, None)),
            Truth::Ended(at) if was_true && told.recovered_at != Some(at) => Some((Change::Recovered, Some(at))),
            _ => None,
        }
    }
}
