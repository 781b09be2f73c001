//! An account's record: its contacts' engagement, summed by buying role.

use jiff::Timestamp;
use smol_str::SmolStr;

use crate::codec::{Corrupt, Reader, put_bytes, put_float, put_int, put_time_option, put_uint};
use crate::contact::{Contact, Tally, read_standing};
use crate::coverage::Coverage;
use crate::decay::{Decay, score};
use crate::lapse::{Standing, Watch};
use crate::profile::{Profile, ROLES, Role};
use crate::rules::{RoleWeights, ScoreRules};
use crate::spans::Spans;

/// The form of a stored account.
const VERSION: u8 = 2;

/// One client company.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Grows by one with each change of its score.
    pub version: u64,
    /// By role.
    pub roles: [RoleSum; ROLES],
    /// The landmark of the roles' points.
    pub landmark: i64,
    /// The newest counted engagement.
    pub as_of: Option<Timestamp>,
    /// Counted engagements of its contacts.
    pub engagements: u64,
    /// Times of all contacts' counted engagements.
    pub all: Coverage,
    /// Times of line-of-business people's and decision makers' counted engagements.
    pub line: Coverage,
    /// What has been told of its silences.
    pub watch: Watch,
    /// What is known of the company.
    pub profile: Profile,
    /// How the relationship stood when it was last looked at.
    pub standing: Standing,
    /// When its timer is filed.
    pub filed: Option<Timestamp>,
    /// Whose lapses were told at the last tick that any were.
    pub(crate) lapsed: Lapsed,
}

/// Contacts that an account's alert names: more is a list that nobody reads.
const NAMED: usize = 100;

/// The contacts whose lapses were told at one tick, for the alert of the account that may lapse at the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lapsed {
    tick: Option<Timestamp>,
    /// By name; of more than [`NAMED`], the first.
    contacts: Vec<SmolStr>,
}

impl Lapsed {
    /// Something was told of a contact's lapses; `is_told`: one of them was told at this tick, and stands.
    pub fn see(&mut self, contact: &str, tick: Option<Timestamp>, is_told: bool) {
        if self.tick != tick {
            *self = Lapsed { tick, contacts: Vec::new() };
        }
        match (is_told, self.contacts.binary_search_by(|name| name.as_str().cmp(contact))) {
            (true, Err(place)) => {
                self.contacts.insert(place, contact.into());
                self.contacts.truncate(NAMED);
            }
            (false, Ok(place)) => drop(self.contacts.remove(place)),
            (true, Ok(_)) | (false, Err(_)) => {}
        }
    }

    /// Forgets those of another tick, which no alert will name any more.
    pub fn forget_before(&mut self, tick: Option<Timestamp>) {
        if self.tick != tick {
            *self = Lapsed::default();
        }
    }

    /// Those of this tick.
    pub fn at(&self, tick: Option<Timestamp>) -> &[SmolStr] {
        if self.tick == tick { &self.contacts } else { &[] }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_time_option(out, self.tick);
        put_uint(out, self.contacts.len() as u64);
        self.contacts.iter().for_each(|name| put_bytes(out, name.as_bytes()));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Lapsed, Corrupt> {
        let (tick, count) = (reader.time_option()?, reader.count()?);
        let contacts = (0..count).map(|_| reader.text().map(SmolStr::from)).collect::<Result<_, _>>()?;
        Ok(Lapsed { tick, contacts })
    }
}

/// The contacts of one role.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoleSum {
    /// How many.
    pub contacts: u64,
    /// Their points, as [`Decay::grown`].
    pub points: f64,
}

impl Account {
    /// The times that say whether the account is silent: those of the people who matter, or of everybody while no roles
    /// are known.
    pub fn relevant(&self) -> &Spans {
        if self.knows_roles() { self.line.spans() } else { self.all.spans() }
    }

    /// Whether any contact's role is known.
    pub fn knows_roles(&self) -> bool {
        self.contacts() > self.roles[Role::Unknown as usize].contacts
    }

    /// How many contacts it has.
    pub fn contacts(&self) -> u64 {
        self.roles.iter().map(|role| role.contacts).sum()
    }

    /// Adds points of a contact of this role, which are on `landmark` and as new as `as_of`.
    pub(crate) fn add_points(&mut self, role: Role, points: f64, landmark: i64, as_of: Timestamp, decay: Decay) {
        if self.as_of.is_none() {
            self.landmark = landmark;
        } else if landmark > self.landmark {
            let shift = decay.shift(self.landmark, landmark);
            self.roles.iter_mut().for_each(|role| role.points *= shift);
            self.landmark = landmark;
        }
        self.roles[role as usize].points += points * decay.shift(landmark, self.landmark);
        self.as_of = self.as_of.max(Some(as_of));
    }

    /// Takes a contact's points out of one role's and adds what they are now to another's.
    pub(crate) fn move_points(&mut self, was: Role, before: &Tally, role: Role, after: &Tally, decay: Decay) {
        self.roles[was as usize].contacts = self.roles[was as usize].contacts.saturating_sub(1);
        self.roles[role as usize].contacts += 1;
        if before.as_of.is_some() {
            self.roles[was as usize].points -= before.points() * decay.shift(before.landmark, self.landmark);
        }
        if let Some(as_of) = after.as_of {
            self.add_points(role, after.points(), after.landmark, as_of, decay);
        }
    }

    /// Counts a contact in, with all that it has.
    pub(crate) fn join(&mut self, contact: &Contact, decay: Decay) -> Result<(), Corrupt> {
        if contact.entries == 0 {
            return Ok(());
        }
        let role = contact.profile.role();
        self.roles[role as usize].contacts += 1;
        self.engagements += contact.tally.engagements;
        if let Some(as_of) = contact.tally.as_of {
            self.add_points(role, contact.tally.points(), contact.tally.landmark, as_of, decay);
        }
        self.all.merge(&contact.times)?;
        if role.is_line() {
            self.line.merge(&contact.times)?;
        }
        Ok(())
    }

    /// Forgets all contacts, before they [`Account::join`] again.
    pub(crate) fn empty(&mut self) {
        let kept = std::mem::take(self);
        *self = Account {
            version: kept.version,
            watch: kept.watch,
            profile: kept.profile,
            standing: kept.standing,
            filed: kept.filed,
            lapsed: kept.lapsed,
            ..Account::default()
        };
    }

    /// What the points of each role that the account has contacts in are worth at `as_of`.
    pub fn parts(&self, rules: &ScoreRules) -> [Option<f64>; ROLES] {
        let decay = Decay::new(rules.half_life_s);
        let worth = self.as_of.map_or(0.0, |as_of| decay.worth(self.landmark, as_of));
        // Taking floats out of a sum can leave a trace below nothing.
        self.roles.map(|role| (role.contacts > 0).then(|| (role.points * worth).max(0.0)))
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_uint(out, self.version);
        for role in &self.roles {
            put_uint(out, role.contacts);
            put_float(out, role.points);
        }
        put_int(out, self.landmark);
        put_time_option(out, self.as_of);
        put_uint(out, self.engagements);
        self.all.encode(out);
        self.line.encode(out);
        self.watch.encode(out);
        self.profile.encode(out);
        out.push(self.standing as u8);
        put_time_option(out, self.filed);
        self.lapsed.encode(out);
    }

    /// Reads what [`Account::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Account, Corrupt> {
        let mut reader = Reader::new(bytes, "account record");
        if reader.byte()? != VERSION {
            return Err(reader.corrupt());
        }
        let mut account = Account { version: reader.uint()?, ..Account::default() };
        for role in &mut account.roles {
            *role = RoleSum { contacts: reader.uint()?, points: reader.float()? };
        }
        account.landmark = reader.int()?;
        account.as_of = reader.time_option()?;
        account.engagements = reader.uint()?;
        account.all = Coverage::decode(&mut reader)?;
        account.line = Coverage::decode(&mut reader)?;
        account.watch = Watch::decode(&mut reader)?;
        account.profile = Profile::decode(&mut reader)?;
        account.standing = read_standing(&mut reader)?;
        account.filed = reader.time_option()?;
        account.lapsed = Lapsed::decode(&mut reader)?;
        if reader.is_empty() { Ok(account) } else { Err(reader.corrupt()) }
    }

    /// Whether all of it can be read, which [`Account::decode`] leaves in part for when it is needed.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.all.check()?;
        self.line.check()
    }

    /// When its timer is filed.
    pub fn filed(&self) -> Option<Timestamp> {
        self.filed
    }
}

/// Σ_r (W_r/ΣW) · 100 (1 − e^(−S_r/k)) over the roles that the account has contacts in: [`Account::parts`].
pub fn account_score(parts: &[Option<f64>; ROLES], rules: &ScoreRules) -> f64 {
    let of_role = |(role, points): (Role, &Option<f64>)| Some((weight(&rules.roles, role), score((*points)?, rules.k)));
    roll_up(Role::ALL.into_iter().zip(parts).filter_map(of_role))
}

/// The mean of (weight, score); nothing weighs nothing.
pub fn roll_up(weighted: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let total: f64 = weighted.clone().map(|(weight, _)| weight).sum();
    if total > 0.0 { weighted.map(|(weight, score)| weight / total * score).sum() } else { 0.0 }
}

fn weight(weights: &RoleWeights, role: Role) -> f64 {
    match role {
        Role::DecisionMaker => weights.decision_maker,
        Role::LineOfBusiness => weights.line_of_business,
        Role::Functional => weights.functional,
        Role::User => weights.user,
        Role::Unknown => weights.unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adobe's example of an account's score from its buying group's.
    #[test]
    fn an_accounts_score_is_the_weighted_mean_of_its_roles() {
        let score = roll_up([(100.0, 52.0), (80.0, 28.0), (60.0, 17.0)].into_iter());
        assert!((score - 35.25).abs() < 1e-9, "{score}");
        assert_eq!(roll_up([(0.0, 52.0)].into_iter()), 0.0);
    }
}
