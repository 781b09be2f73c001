//! The rules: everything that state depends on besides events.
//!
//! Rules are a record in the log, so that a replay knows which were in force when. Their JSON form is
//! `{"kind":"rules", …}` with the fields of [`Rules`]; a missing field has its built-in default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Interaction;
use crate::spans::MERGED;

/// Seconds in an exact day. `warn`, `escalate` and the half-life are exact durations; only the threshold is calendar months.
pub const DAY_S: u64 = 86_400;
/// Fewer than one month is no lapse; ten years is longer than any relationship programme.
pub const MONTHS: std::ops::RangeInclusive<u32> = 1..=120;

/// All that the state depends on besides events and ticks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// When silence becomes a lapse.
    pub lapse: LapseRules,
    /// What an engagement is worth, and how that fades.
    pub score: ScoreRules,
    /// Priority of each source in profile merges; a source that is not named has 0.
    pub priorities: BTreeMap<String, i32>,
    /// Sources that hold the clock.
    pub required: Vec<String>,
    /// Alerts due before this carry `backlog: true`.
    pub since: Option<Timestamp>,
}

/// `[lapse]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LapseRules {
    /// Calendar months of silence after which a contact has lapsed ([`MONTHS`]).
    pub months: u32,
    /// The same by the contact's (else the account's) `segment`.
    pub segments: BTreeMap<String, u32>,
    /// `at_risk` this many seconds before the due time.
    pub warn_s: u64,
    /// `escalated` this many seconds after the due time.
    pub escalate_s: u64,
    /// Which engagements end a silence.
    pub counts: Vec<Counts>,
}

/// A class of engagement that can count against a lapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// A conversation.
    TwoWay,
    /// Attention without an answer.
    OneWay,
    /// Any advocacy event.
    Advocacy,
}

/// A mistake in rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule `{name}` is out of range: it takes {takes}")]
pub struct OutOfRange {
    /// Which.
    pub name: String,
    /// What it takes.
    pub takes: &'static str,
}

/// Beyond this, a duration is a slip of the pen; and dates stay far inside the calendar.
const LONGEST_S: u64 = 36_500 * DAY_S;
/// Days in the shortest month.
const MONTH_DAYS: u64 = 28;
/// Shorter half-lives make a score of the last minutes.
const SHORTEST_HALF_LIFE_S: u64 = 3_600;
/// Weights are ratios; sums of them stay far inside a double.
const HEAVIEST: f64 = 1e6;

impl Rules {
    /// Refuses what the state machine cannot work with.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let weights = &self.score.roles;
        let named = [
            ("score.two_way", self.score.two_way),
            ("score.one_way", self.score.one_way),
            ("score.advocacy", self.score.advocacy),
            ("score.roles.decision_maker", weights.decision_maker),
            ("score.roles.line_of_business", weights.line_of_business),
            ("score.roles.functional", weights.functional),
            ("score.roles.user", weights.user),
            ("score.roles.unknown", weights.unknown),
        ];
        let bad = |name: &str, takes| Err(OutOfRange { name: name.to_owned(), takes });
        let vehicles = self.score.vehicles.iter().map(|(name, weight)| (&**name, *weight));
        if let Some((name, _)) =
            named.into_iter().chain(vehicles).find(|(_, weight)| !(0.0..=HEAVIEST).contains(weight))
        {
            return bad(name, "a weight from 0 to 1000000");
        }
        if !(self.score.k > 0.0 && self.score.k <= HEAVIEST) {
            return bad("score.k", "a number above 0, at most 1000000");
        }
        if !(SHORTEST_HALF_LIFE_S..=LONGEST_S).contains(&self.score.half_life_s) {
            return bad("score.half_life_s", "seconds, from one hour to a hundred years");
        }
        let months =
            self.lapse.segments.iter().map(|(name, months)| (&**name, *months)).chain([("months", self.lapse.months)]);
        for (name, months) in months {
            if !MONTHS.contains(&months) {
                return bad(&format!("lapse.{name}"), "months, from 1 to 120");
            }
        }
        let shortest = self.lapse.segments.values().copied().chain([self.lapse.months]).min().unwrap_or(1);
        if self.lapse.warn_s > u64::from(shortest) * MONTH_DAYS * DAY_S - MERGED.unsigned_abs().as_secs() {
            return bad(
                "lapse.warn_s",
                "seconds: a warning comes at least a week after the last engagement, so at most the shortest threshold less that",
            );
        }
        if self.lapse.escalate_s > LONGEST_S {
            return bad("lapse.escalate_s", "seconds, at most a hundred years");
        }
        Ok(())
    }
}

impl Default for LapseRules {
    fn default() -> Self {
        LapseRules {
            months: 3,
            segments: BTreeMap::new(),
            warn_s: 14 * DAY_S,
            escalate_s: 30 * DAY_S,
            counts: vec![Counts::TwoWay, Counts::OneWay, Counts::Advocacy],
        }
    }
}

/// `[score]`: points = interaction weight × vehicle weight, decayed with a half-life; score = 100 (1 − e^(−S/k)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreRules {
    /// Seconds in which a point loses half of its worth.
    pub half_life_s: u64,
    /// Points at which the score is 63.
    pub k: f64,
    /// Weight of a `two_way` engagement.
    pub two_way: f64,
    /// Weight of a `one_way` engagement.
    pub one_way: f64,
    /// Weight of an advocacy event.
    pub advocacy: f64,
    /// Weights by vehicle; a vehicle that is not named weighs 1.
    pub vehicles: BTreeMap<String, f64>,
    /// Weights W of the roles in an account's score.
    pub roles: RoleWeights,
}

/// The weights of the roles in an account's score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoleWeights {
    /// Decision makers.
    pub decision_maker: f64,
    /// Line-of-business influencers.
    pub line_of_business: f64,
    /// Functional managers.
    pub functional: f64,
    /// Users.
    pub user: f64,
    /// Contacts whose role is not known.
    pub unknown: f64,
}

impl Default for RoleWeights {
    fn default() -> Self {
        RoleWeights { decision_maker: 100.0, line_of_business: 80.0, functional: 60.0, user: 40.0, unknown: 20.0 }
    }
}

impl Default for ScoreRules {
    fn default() -> Self {
        ScoreRules {
            half_life_s: 60 * DAY_S,
            k: 10.0,
            two_way: 3.0,
            one_way: 1.0,
            advocacy: 3.0,
            vehicles: BTreeMap::new(),
            roles: RoleWeights::default(),
        }
    }
}

impl ScoreRules {
    /// The weight of an engagement of this interaction and vehicle; 0 counts nowhere.
    pub fn weight(&self, interaction: Interaction, vehicle: &str) -> f64 {
        let class = match interaction {
            Interaction::TwoWay => self.two_way,
            Interaction::OneWay => self.one_way,
            Interaction::Passive | Interaction::Machine => return 0.0,
        };
        class * self.vehicle(vehicle)
    }

    /// The weight of a vehicle.
    pub fn vehicle(&self, vehicle: &str) -> f64 {
        if self.vehicles.is_empty() { 1.0 } else { self.vehicles.get(vehicle).copied().unwrap_or(1.0) }
    }
}
