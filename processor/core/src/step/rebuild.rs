//! What is counted, counted again from the timeline: after a record was replaced or taken out, when the best record of an
//! occasion changes, and under new rules. And the account, summed again from its contacts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::counted::{Counted, meeting, occasion_group};
use super::rows::Group;
use super::subject::{Inherited, Subject};
use super::visit::Work;
use super::{Apply, Result, StepError};
use crate::account::Account;
use crate::codec::Corrupt;
use crate::contact::Tally;
use crate::coverage::Coverage;
use crate::decay::Decay;
use crate::entry::Entry;
use crate::event::{Event, Kind, Status};
use crate::field::Field;
use crate::keys;
use crate::output::Outputs;
use crate::profile::{Profile, Role};
use crate::rules::{Counts, Rules};
use crate::state::State;

/// Keys that are read ahead while an account's contacts are visited.
const KEYS: usize = 1024;

/// What a contact adds to its account.
pub(super) struct Sums {
    role: Role,
    times: Coverage,
    tally: Tally,
}

/// Everything that follows from a timeline, in the making.
struct Recount<'a> {
    rules: &'a Rules,
    contact: &'a str,
    profile: Profile,
    times: Coverage,
    tally: Tally,
    touches: Vec<Timestamp>,
    groups: BTreeMap<String, (Group, Option<Counted<'static>>)>,
    planned: Vec<Plan>,
}

/// A planned engagement.
struct Plan {
    at: Timestamp,
    /// Its entry's place in the timeline.
    place: Vec<u8>,
    /// The group of its occasion.
    group: Option<String>,
    /// What it counts as once it has passed.
    counted: Option<Counted<'static>>,
}

impl Recount<'_> {
    fn entry(&mut self, entry: Entry<'_>) -> std::result::Result<(), Corrupt> {
        let mut event = entry.event()?;
        event.contact = self.contact.to_owned().into();
        match event.kind {
            Kind::Touch => self.touches.push(event.occurred_at),
            Kind::Profile => self.profile.merge(&event, &self.rules.priorities),
            _ => {}
        }
        let place = entry.key()?;
        let occasion = event.text(Field::Occasion).filter(|_| event.kind == Kind::Engagement).map(occasion_group);
        if let Some(name) = &occasion {
            let (group, _) = self.groups.entry(name.clone()).or_default();
            let is_planned = event.status() == Status::Planned;
            group.is_planned |= is_planned;
            group.is_settled |= !is_planned;
        }
        if let Some(counted) = Counted::of(&event) {
            self.count(counted, &place)?;
        }
        self.plan(&event, place, occasion);
        Ok(())
    }

    fn plan(&mut self, event: &Event<'_>, place: Vec<u8>, group: Option<String>) {
        let is_planned = event.kind == Kind::Engagement && event.status() == Status::Planned;
        if let Some(at) = event.time(Field::ScheduledFor).filter(|_| is_planned) {
            self.planned.push(Plan { at, place, group, counted: meeting(event) });
        }
    }

    fn count(&mut self, counted: Counted<'_>, place: &[u8]) -> std::result::Result<(), Corrupt> {
        self.see(&counted)?;
        let weight = counted.class_weight(self.rules);
        match &counted.group {
            None => self.score(&counted),
            Some(name) => {
                let (group, best) = self.groups.entry(name.clone()).or_default();
                if group.is_better(weight, place) {
                    group.best = Some((weight, place.to_vec()));
                    *best = Some(counted.into_owned());
                }
            }
        }
        Ok(())
    }

    /// What each record counts for, whatever its group.
    fn see(&mut self, counted: &Counted<'_>) -> std::result::Result<(), Corrupt> {
        if self.rules.lapse.counts.contains(&counted.class) {
            self.times.add(counted.at)?;
        }
        if counted.class == Counts::TwoWay {
            self.tally.last_two_way = self.tally.last_two_way.max(Some(counted.at));
        }
        Ok(())
    }

    fn score(&mut self, counted: &Counted<'_>) {
        let decay = Decay::new(self.rules.score.half_life_s);
        self.tally.add(&counted.vehicle, counted.weight(self.rules), counted.at, decay);
    }

    /// After the last entry: what depends on all of them.
    fn finish(&mut self, tick: Option<Timestamp>) -> std::result::Result<(), Corrupt> {
        for best in self.groups.values().filter_map(|(_, best)| best.clone()).collect::<Vec<_>>() {
            self.score(&best);
        }
        for plan in std::mem::take(&mut self.planned) {
            let is_settled = |name: &String| self.groups.get(name).is_some_and(|(group, _)| group.is_settled);
            if tick.is_none_or(|tick| plan.at >= tick) {
                self.planned.push(plan);
            } else if !plan.group.as_ref().is_some_and(is_settled)
                && let Some(counted) = plan.counted
            {
                self.see(&counted)?;
                self.score(&counted);
            }
        }
        Ok(())
    }
}

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Counts a contact again and tells what differs.
    pub fn rebuild(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        if subject.who.contact.is_empty() {
            return self.rebuild_account_profile(subject);
        }
        let clock = subject.clock(self.machine);
        let were = subject.contact.watch.standing(subject.contact.times.spans(), &clock)?;
        let rules = self.machine.rules.clone();
        let before = self.recount(subject, &rules)?;
        let clock = subject.clock(self.machine);
        let (contact, mut news) = (&mut *subject.contact, Vec::new());
        contact.watch.changed(&were, contact.times.spans(), &clock, &mut news)?;
        subject.contact_news.extend(news);
        self.recount_account(subject, &before)
    }

    /// What happened to the account itself has changed: its profile is merged again.
    fn rebuild_account_profile(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        subject.see_contact();
        let mut profile = Profile::default();
        let priorities = self.machine.rules.priorities.clone();
        subject.timeline(self.state).scan(&[], |entry| {
            if entry.kind() == Some(Kind::Profile) {
                profile.merge(&entry.event()?, &priorities);
            }
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        self.change_account_profile(subject, |account| {
            account.profile = profile;
            Ok(())
        })
    }

    /// Counts a contact again under these rules; returns what it had added to its account.
    pub fn recount(&mut self, subject: &mut Subject<'_>, rules: &Rules) -> Result<Sums, S> {
        subject.see_contact();
        let mut recount = Recount {
            rules,
            contact: subject.who.contact,
            profile: Profile::default(),
            times: Coverage::default(),
            tally: Tally::default(),
            touches: Vec::new(),
            groups: BTreeMap::new(),
            planned: Vec::new(),
        };
        subject.timeline(self.state).scan(&[], |entry| {
            recount.entry(entry)?;
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        recount.finish(self.machine.tick)?;
        self.write_rows(&subject.contact_key, &recount)?;
        let role = subject.contact.profile.role();
        let contact = &mut *subject.contact;
        let last = recount.times.last();
        contact.touches_since = recount.touches.iter().filter(|at| last.is_none_or(|last| **at > last)).count() as u64;
        contact.planned = recount.planned.len() as u64;
        contact.profile = recount.profile;
        subject.contact_clock = None;
        let times = std::mem::replace(&mut contact.times, recount.times);
        let tally = std::mem::replace(&mut contact.tally, recount.tally);
        Ok(Sums { role, times, tally })
    }

    /// Writes the rows of the groups and of what is planned anew.
    fn write_rows(&mut self, contact_key: &[u8], recount: &Recount<'_>) -> Result<(), S> {
        self.delete_rows(contact_key, &[keys::table::OCCASION, keys::table::PLANNED])?;
        for (name, (group, _)) in &recount.groups {
            self.state.put(keys::occasion(contact_key, name), group.encode());
        }
        for plan in &recount.planned {
            self.state.put(keys::planned(contact_key, plan.at, &plan.place), Vec::new());
        }
        Ok(())
    }

    /// Deletes a contact's rows in these tables.
    pub fn delete_rows(&mut self, contact_key: &[u8], tables: &[u8]) -> Result<(), S> {
        for table in tables {
            let mut from = keys::of_contact(*table, contact_key);
            let to = keys::end_of(&from);
            while let Some((key, _)) = self.state.first(&from, &to).map_err(StepError::State)? {
                from = keys::after(&key);
                self.state.delete(key);
            }
        }
        Ok(())
    }

    /// Brings the account up to date with a contact that was counted again: by the difference, or if that does not tell,
    /// by summing all contacts again.
    fn recount_account(&mut self, subject: &mut Subject<'_>, before: &Sums) -> Result<(), S> {
        let (contact, account) = (&subject.contact, &subject.account);
        let is_newest_gone = before.tally.as_of == account.as_of && contact.tally.as_of < before.tally.as_of;
        if contact.entries == 0 || is_newest_gone {
            return self.rebuild_account(subject);
        }
        let (role, was) = (contact.profile.role(), before.role);
        if contact.tally == before.tally && contact.times == before.times && role == was {
            return Ok(());
        }
        let (times, tally) = (contact.times.clone(), contact.tally.clone());
        let decay = Decay::new(self.machine.rules.score.half_life_s);
        let mut is_told = true;
        self.change_account(subject, |account| {
            account.move_points(was, &before.tally, role, &tally, decay);
            account.engagements = (account.engagements + tally.engagements).saturating_sub(before.tally.engagements);
            is_told = account.all.replace(&before.times, &times)?;
            let none = Coverage::default();
            let of = |role: Role, times| if role.is_line() { times } else { &none };
            is_told &= account.line.replace(of(was, &before.times), of(role, &times))?;
            Ok(())
        })?;
        if is_told { Ok(()) } else { self.rebuild_account(subject) }
    }

    /// Sums an account again from all of its contacts.
    pub fn rebuild_account(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let decay = Decay::new(self.machine.rules.score.half_life_s);
        let mut sum = Account::default();
        sum.join(&subject.contact, decay)?;
        self.join_all(&mut sum, subject.who.account, &subject.contact_key, decay)?;
        self.change_account(subject, |account| {
            account.empty();
            take_sums(account, sum);
            Ok(())
        })
    }

    /// Joins all contacts of an account but one.
    pub fn join_all(&mut self, sum: &mut Account, account: &str, but: &[u8], decay: Decay) -> Result<(), S> {
        let (mut from, to) = keys::contacts_of(account);
        loop {
            let keys = self.state.contact_keys(&from, &to, KEYS).map_err(StepError::State)?;
            let Some(last) = keys.last() else { return Ok(()) };
            from = keys::after(last);
            for key in keys.iter().filter(|key| key.as_slice() != but) {
                let Some(contact) = self.state.take_contact(key).map_err(StepError::State)? else { continue };
                if !keys::names(key)?.1.is_empty() {
                    sum.join(&contact, decay)?;
                }
                self.state.keep_contact(key, contact);
            }
        }
    }

    /// Changes an account in a way that may change its silences, and tells what differs.
    pub fn change_account(
        &mut self,
        subject: &mut Subject<'_>,
        change: impl FnOnce(&mut Account) -> std::result::Result<(), Corrupt>,
    ) -> Result<(), S> {
        let clock = subject.account_clock(self.machine);
        let were = subject.account.watch.standing(subject.account.relevant(), &clock)?;
        subject.see_account();
        change(&mut subject.account)?;
        subject.forget_clocks();
        let clock = subject.account_clock(self.machine);
        let (account, mut news) = (&mut *subject.account, Vec::new());
        let mut watch = std::mem::take(&mut account.watch);
        watch.changed(&were, account.relevant(), &clock, &mut news)?;
        account.watch = watch;
        subject.account_news.extend(news);
        Ok(())
    }

    /// Changes an account's profile; the contacts that inherit from it are work for the slices to come.
    pub fn change_account_profile(
        &mut self,
        subject: &mut Subject<'_>,
        change: impl FnOnce(&mut Account) -> std::result::Result<(), Corrupt>,
    ) -> Result<(), S> {
        let inherited = Inherited::of(&subject.account.profile);
        self.change_account(subject, change)?;
        if Inherited::of(&subject.account.profile) != inherited && subject.account.contacts() > 0 {
            self.machine.work = Some(Work::heirs(subject.who.account, inherited));
        }
        Ok(())
    }

    /// Moves a contact from one role to another in its account's sums.
    pub fn change_role(&mut self, subject: &mut Subject<'_>, was: Role) -> Result<(), S> {
        let before = Sums { role: was, times: subject.contact.times.clone(), tally: subject.contact.tally.clone() };
        self.recount_account(subject, &before)
    }

    /// Counts the touches after the last counted engagement, which has just changed.
    pub fn recount_touches(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let last = subject.contact.times.last();
        let is_after = |at: Timestamp| last.is_none_or(|last| at > last);
        let mut touches = 0;
        // Most often it is the newest entry.
        if subject.contact.recent.newest()?.is_none_or(|newest| is_after(newest.at())) {
            let from = last.map(keys::moment).unwrap_or_default();
            subject.timeline(self.state).scan(&from, |entry| {
                touches += u64::from(is_after(entry.at()) && entry.kind() == Some(Kind::Touch));
                Ok(ControlFlow::<()>::Continue(()))
            })?;
        }
        subject.contact.touches_since = touches;
        Ok(())
    }
}

/// Puts another account's sums into an emptied one.
pub(super) fn take_sums(account: &mut Account, sum: Account) {
    account.roles = sum.roles;
    account.landmark = sum.landmark;
    account.as_of = sum.as_of;
    account.engagements = sum.engagements;
    account.all = sum.all;
    account.line = sum.line;
}
