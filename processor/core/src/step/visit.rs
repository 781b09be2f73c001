//! Work that may touch every contact: ticks, rules, and an account's profile that its contacts inherit from. Done in
//! slices; what is left to do is a value that can be stored.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::counted::{meeting, occasion_group};
use super::rebuild::take_sums;
use super::rows::Group;
use super::subject::{Change, Inherited, Subject, clock, old_clock};
use super::{Apply, Machine, Result, Step, StepError, read_rules, rules_json};
use crate::account::Account;
use crate::codec::{Corrupt, Reader, put_bytes, put_time_option};
use crate::decay::Decay;
use crate::event::{Event, Field, Status};
use crate::keys::{self, table};
use crate::output::Outputs;
use crate::publish::Who;
use crate::rules::Rules;
use crate::state::State;

/// Timers fired, or records visited, in one slice: a few milliseconds, so that commits stay close.
const SLICE: usize = 256;

/// A record that is not finished.
#[derive(Debug)]
pub(super) enum Work {
    /// The timers of contacts, then those of accounts. `from`: the tick before; no timer is filed earlier.
    Tick { table: u8, from: Option<Timestamp>, after: Vec<u8> },
    /// All contacts, then all accounts, under new rules.
    Rules { rules: Box<Rules>, table: u8, after: Vec<u8>, account: String, inherited: Inherited },
    /// The contacts of one account, which has another zone or segment now.
    Heirs { account: String, inherited: Inherited, after: Vec<u8> },
}

impl Work {
    /// The contacts of an account are to be looked at, which inherited this until now.
    pub fn heirs(account: &str, inherited: Inherited) -> Work {
        Work::Heirs { account: account.to_owned(), inherited, after: keys::contacts_of(account).0 }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Work::Tick { table, from, after } => {
                out.extend([0, *table]);
                put_time_option(out, *from);
                put_bytes(out, after);
            }
            Work::Rules { rules, table, after, account, inherited } => {
                out.extend([1, *table]);
                put_bytes(out, &rules_json(rules));
                put_bytes(out, after);
                put_bytes(out, account.as_bytes());
                put_inherited(out, inherited);
            }
            Work::Heirs { account, inherited, after } => {
                out.extend([2, 0]);
                put_bytes(out, account.as_bytes());
                put_inherited(out, inherited);
                put_bytes(out, after);
            }
        }
    }

    pub fn decode(reader: &mut Reader<'_>) -> std::result::Result<Work, Corrupt> {
        let (tag, table) = (reader.byte()?, reader.byte()?);
        match tag {
            0 => Ok(Work::Tick { table, from: reader.time_option()?, after: reader.bytes()?.to_vec() }),
            1 => Ok(Work::Rules {
                rules: Box::new(read_rules(reader)?),
                table,
                after: reader.bytes()?.to_vec(),
                account: reader.text()?.to_owned(),
                inherited: read_inherited(reader)?,
            }),
            2 => Ok(Work::Heirs {
                account: reader.text()?.to_owned(),
                inherited: read_inherited(reader)?,
                after: reader.bytes()?.to_vec(),
            }),
            _ => Err(reader.corrupt()),
        }
    }
}

fn put_inherited(out: &mut Vec<u8>, inherited: &Inherited) {
    for text in [&inherited.zone, &inherited.segment] {
        out.push(u8::from(text.is_some()));
        put_bytes(out, text.as_deref().unwrap_or_default().as_bytes());
    }
}

fn read_inherited(reader: &mut Reader<'_>) -> std::result::Result<Inherited, Corrupt> {
    let mut text = || {
        let is_some = reader.byte()? != 0;
        let text = reader.text()?.to_owned();
        Ok(is_some.then_some(text))
    };
    Ok(Inherited { zone: text()?, segment: text()? })
}

impl Machine {
    /// A tick; an older one than the last is ignored.
    pub(super) fn begin_tick(&mut self, through: Timestamp) {
        if self.tick.is_some_and(|tick| through < tick) {
            return;
        }
        let from = self.tick.replace(through);
        if self.next_timer.is_none_or(|next| next <= through) {
            // From here on, what is filed and what the scan ends at; not known if the scan is cut by a new start.
            self.next_timer = Some(Timestamp::MAX);
            self.work = Some(Work::Tick { table: table::TIMER, from, after: Vec::new() });
        }
    }

    /// Rules; those that are in force already change nothing but `since`, which whoever writes a record carries on.
    pub(super) fn begin_rules(&mut self, rules: &Rules) {
        self.rules.since = rules.since;
        if *rules == self.rules {
            return;
        }
        let rules = rules.clone();
        let after = vec![table::CONTACT];
        let (account, inherited) = Default::default();
        self.work = Some(Work::Rules { rules: Box::new(rules), table: table::CONTACT, after, account, inherited });
    }
}

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Does one slice of what is left to do.
    pub fn slice(&mut self) -> Result<Step, S> {
        let rest = match self.machine.work.take() {
            None => None,
            Some(Work::Tick { table, from, after }) => self.tick_slice(table, from, after)?,
            Some(Work::Rules { rules, table, after, account, inherited }) if table == table::CONTACT => {
                self.contacts_slice(rules, after, account, inherited)?
            }
            Some(Work::Rules { rules, after, .. }) => self.accounts_slice(rules, after)?,
            Some(Work::Heirs { account, inherited, after }) => self.heirs_slice(account, inherited, after)?,
        };
        let step = if rest.is_some() { Step::More } else { Step::Done };
        self.machine.work = rest;
        Ok(step)
    }

    fn tick_slice(&mut self, mut table: u8, from: Option<Timestamp>, mut after: Vec<u8>) -> Result<Option<Work>, S> {
        let Some(through) = self.machine.tick else { return Ok(None) };
        for _ in 0..SLICE {
            if after.is_empty() {
                after = keys::timers_from(table, from);
            }
            let row = self.state.first(&after, &[table + 1]).map_err(StepError::State)?;
            let filed = row.as_ref().map(|(key, _)| keys::read_timer(key)).transpose()?;
            match (row, filed) {
                (Some((key, _)), Some((filed, record))) if filed <= through => {
                    after = keys::after(&key);
                    self.fire(key, &record)?;
                }
                // The first that the tick has not reached is the first to look for next time.
                (_, next) => {
                    let next = next.map_or(Timestamp::MAX, |(filed, _)| filed);
                    self.machine.next_timer = self.machine.next_timer.map(|known| known.min(next));
                    if table != table::TIMER {
                        return Ok(None);
                    }
                    (table, after) = (table::ACCOUNT_TIMER, Vec::new());
                }
            }
        }
        Ok(Some(Work::Tick { table, from, after }))
    }

    fn fire(&mut self, key: Vec<u8>, record_key: &[u8]) -> Result<(), S> {
        let (account, contact) = keys::names(record_key)?;
        self.state.delete(key);
        let who = Who { account: &account, contact: &contact };
        let mut subject = if contact.is_empty() { self.load_account(who)? } else { self.load(who)? };
        if contact.is_empty() {
            self.fire_account(&mut subject)?;
        } else {
            self.fire_contact(&mut subject)?;
        }
        self.store(subject)
    }

    fn fire_account(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let clock = subject.account_clock(self.machine);
        subject.account.filed = None;
        subject.account_change = subject.account_change.max(Change::Hidden);
        let mut news = Vec::new();
        let account = &mut *subject.account;
        let mut watch = std::mem::take(&mut account.watch);
        watch.fire(account.relevant(), &clock, &mut news)?;
        account.watch = watch;
        if !news.is_empty() {
            subject.see_account();
            subject.account_news.extend(news);
        }
        Ok(())
    }

    fn fire_contact(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        subject.contact.filed = None;
        subject.contact_change = subject.contact_change.max(Change::Hidden);
        self.pass_planned(subject)?;
        let clock = subject.clock(self.machine);
        let mut news = Vec::new();
        let contact = &mut *subject.contact;
        contact.watch.fire(contact.times.spans(), &clock, &mut news)?;
        if !news.is_empty() {
            subject.see_contact();
            subject.contact_news.extend(news);
        }
        Ok(())
    }

    /// Planned engagements that the tick has passed: meetings count as held unless something says otherwise.
    fn pass_planned(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        while subject.contact.planned > 0 {
            let Some((at, place)) = self.next_planned(&subject.contact_key)? else { break };
            if self.machine.tick.is_none_or(|tick| at >= tick) {
                break;
            }
            self.state.delete(keys::planned(&subject.contact_key, at, &place));
            subject.contact.planned -= 1;
            let Some(event) = self.planned_event(subject, at, &place)? else { continue };
            if let Some(counted) = meeting(&event)
                && !self.is_settled(subject, event.text(Field::Occasion))?
            {
                subject.see_contact();
                self.count(subject, &counted, true)?;
            }
        }
        Ok(())
    }

    fn is_settled(&mut self, subject: &Subject<'_>, occasion: Option<&str>) -> Result<bool, S> {
        let Some(occasion) = occasion else { return Ok(false) };
        let key = keys::occasion(&subject.contact_key, &occasion_group(occasion));
        let value = self.state.get(&key).map_err(StepError::State)?;
        Ok(value.map(|value| Group::decode(&value)).transpose()?.is_some_and(|group| group.is_settled))
    }

    /// The event at this place that plans an engagement for this moment.
    pub fn planned_event(
        &mut self,
        subject: &mut Subject<'_>,
        at: Timestamp,
        place: &[u8],
    ) -> Result<Option<Event<'static>>, S> {
        let found = subject.timeline(self.state).scan(place, |entry| {
            let event = entry.event()?;
            let is_it = event.status() == Status::Planned && event.time(Field::ScheduledFor) == Some(at);
            Ok(ControlFlow::Break(is_it.then(|| event.into_owned())))
        })?;
        Ok(found.flatten())
    }

    fn contacts_slice(
        &mut self,
        rules: Box<Rules>,
        mut after: Vec<u8>,
        mut account: String,
        mut inherited: Inherited,
    ) -> Result<Option<Work>, S> {
        let keys = self.state.contact_keys(&after, &[table::CONTACT + 1], SLICE).map_err(StepError::State)?;
        for key in &keys {
            after = keys::after(key);
            let (name, contact) = keys::names(key)?;
            let mut subject = self.load(Who { account: &name, contact: &contact })?;
            if name != account {
                inherited = Inherited::of(&subject.account.profile);
                account = name.to_string();
            }
            if contact.is_empty() {
                // An account's own record comes before its contacts.
                let priorities = std::mem::replace(&mut self.machine.rules.priorities, rules.priorities.clone());
                self.rebuild(&mut subject)?;
                self.machine.rules.priorities = priorities;
                // Its heirs are visited anyway.
                self.machine.work = None;
                self.store_unsettled(subject)?;
            } else {
                self.recount_under(&mut subject, &rules, &inherited)?;
                subject.is_account_pending = true;
                self.store_under(subject, &rules)?;
            }
        }
        if keys.is_empty() {
            let after = vec![table::ACCOUNT];
            return Ok(Some(Work::Rules { rules, table: table::ACCOUNT, after, account, inherited }));
        }
        Ok(Some(Work::Rules { rules, table: table::CONTACT, after, account, inherited }))
    }

    /// Counts a contact again under new rules; the account is summed again when all contacts have been.
    fn recount_under(&mut self, subject: &mut Subject<'_>, rules: &Rules, inherited: &Inherited) -> Result<(), S> {
        let (tick, own) = (self.machine.tick, &subject.contact.profile);
        let were_clock = old_clock(&self.machine.rules, tick, inherited, own);
        let were = subject.contact.watch.standing(subject.contact.times.spans(), &were_clock)?;
        self.recount(subject, rules)?;
        let clock = clock(rules, tick, &subject.account.profile, Some(&subject.contact.profile));
        let (contact, mut news) = (&mut *subject.contact, Vec::new());
        contact.watch.changed(&were, contact.times.spans(), &clock, &mut news)?;
        subject.contact_news.extend(news);
        Ok(())
    }

    /// Stores a subject whose dates are those of new rules.
    fn store_under(&mut self, mut subject: Subject<'_>, rules: &Rules) -> Result<(), S> {
        subject.forget_clocks();
        let old = std::mem::replace(&mut self.machine.rules, rules.clone());
        let stored = self.store(subject);
        self.machine.rules = old;
        stored
    }

    fn accounts_slice(&mut self, rules: Box<Rules>, mut after: Vec<u8>) -> Result<Option<Work>, S> {
        let keys = self.state.account_keys(&after, &[table::ACCOUNT + 1], SLICE).map_err(StepError::State)?;
        let decay = Decay::new(rules.score.half_life_s);
        for key in &keys {
            after = keys::after(key);
            let (account, _) = keys::names(key)?;
            let mut sum = Account::default();
            self.join_all(&mut sum, &account, &[], decay)?;
            let mut subject = self.load(Who { account: &account, contact: "" })?;
            let tick = self.machine.tick;
            let old = clock(&self.machine.rules, tick, &subject.account.profile, None);
            let new = clock(&rules, tick, &subject.account.profile, None);
            let were = subject.account.watch.standing(subject.account.relevant(), &old)?;
            subject.see_account();
            subject.account.empty();
            take_sums(&mut subject.account, sum);
            let (account, mut news) = (&mut *subject.account, Vec::new());
            let mut watch = std::mem::take(&mut account.watch);
            watch.changed(&were, account.relevant(), &new, &mut news)?;
            account.watch = watch;
            subject.account_news.extend(news);
            self.store_under(subject, &rules)?;
        }
        if keys.is_empty() {
            self.machine.rules = *rules;
            self.machine.backlog_before = self.machine.tick;
            return Ok(None);
        }
        let (account, inherited) = Default::default();
        Ok(Some(Work::Rules { rules, table: table::ACCOUNT, after, account, inherited }))
    }

    fn heirs_slice(&mut self, account: String, inherited: Inherited, mut after: Vec<u8>) -> Result<Option<Work>, S> {
        let (_, to) = keys::contacts_of(&account);
        let keys = self.state.contact_keys(&after, &to, SLICE).map_err(StepError::State)?;
        for key in &keys {
            after = keys::after(key);
            let (_, contact) = keys::names(key)?;
            if contact.is_empty() {
                continue;
            }
            let mut subject = self.load(Who { account: &account, contact: &contact })?;
            let old = old_clock(&self.machine.rules, self.machine.tick, &inherited, &subject.contact.profile);
            let were = subject.contact.watch.standing(subject.contact.times.spans(), &old)?;
            let clock = subject.clock(self.machine);
            let (contact, mut news) = (&mut *subject.contact, Vec::new());
            contact.watch.changed(&were, contact.times.spans(), &clock, &mut news)?;
            subject.see_contact();
            subject.contact_news.extend(news);
            self.store(subject)?;
        }
        Ok((!keys.is_empty()).then_some(Work::Heirs { account, inherited, after }))
    }
}
