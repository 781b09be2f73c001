//! An event: a new record, a correction, or one that is known already.

use std::borrow::Cow;

use jiff::Timestamp;

use super::counted::{Counted, meeting, occasion_group};
use super::erase::deletion;
use super::rows::{Group, Revision, voided_by};
use super::subject::Subject;
use super::{Apply, Result, StepError};
use crate::decay::Decay;
use crate::event::{Event, Kind, Status};
use crate::field::Field;
use crate::keys;
use crate::lapse::News;
use crate::output::{Outputs, Topic};
use crate::profile::Role;
use crate::publish::{Who, fact_key, version};
use crate::rules::Counts;
use crate::state::State;

/// Most facts are smaller.
const FACT_BYTES: usize = 512;

fn canonical(event: &Event<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    event.write_canonical(&mut bytes);
    bytes
}

pub(super) fn who<'a>(event: &'a Event<'_>) -> Who<'a> {
    Who { account: &event.account, contact: &event.contact }
}

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), S> {
        match deletion(event) {
            Some(true) => return self.erase(event),
            Some(false) => self.readmit(event)?,
            None => {}
        }
        if let Some(revision) = event.revision {
            return self.revised(event, revision);
        }
        let mut subject = self.load(who(event))?;
        if subject.is_suppressed(event) {
            self.machine.counts.suppressed += 1;
            return self.store(subject);
        }
        let standing = subject.timeline(self.state).find(event)?;
        match standing {
            None => {
                self.machine.counts.events += 1;
                self.admit(&mut subject, event)?;
            }
            Some(mut was) => {
                was.account.clone_from(&event.account);
                was.contact.clone_from(&event.contact);
                if was == *event || canonical(&was) <= canonical(event) {
                    self.machine.counts.duplicates += 1;
                    return self.store(subject);
                }
                self.machine.counts.events += 1;
                subject.timeline(self.state).remove(event)?;
                subject.timeline(self.state).insert(event)?;
                self.rebuild(&mut subject)?;
            }
        }
        let version = version(self.machine.generation, subject.contact.version);
        self.publish_fact(event, version);
        self.store(subject)
    }

    fn publish_fact(&mut self, event: &Event<'_>, version: u64) {
        if !self.out.wants(Topic::Facts) {
            return;
        }
        let mut value = Vec::with_capacity(FACT_BYTES);
        event.write_fact(version, &mut value);
        self.out.publish(Topic::Facts, &fact_key(event), Some(&value));
    }

    fn revised(&mut self, event: &Event<'_>, revision: i64) -> Result<(), S> {
        let is_suppressed = self.machine.erasures.count() > 0 && {
            let subject = self.load(who(event))?;
            let is_suppressed = subject.is_suppressed(event);
            self.store(subject)?;
            is_suppressed
        };
        let row_key = keys::revision(&event.account, &event.source, &event.id);
        let row = self.state.get(&row_key).map_err(StepError::State)?;
        let row = row.map(|value| Revision::decode(&value)).transpose()?;
        if let Some(row) = &row
            && !self.supersedes(event, revision, row)?
        {
            self.machine.counts.duplicates += 1;
            return Ok(());
        }
        if is_suppressed {
            self.machine.counts.suppressed += 1;
            return row.map_or(Ok(()), |row| self.take_away(event, &row, row_key));
        }
        self.machine.counts.events += 1;
        let changes = row.as_ref().map_or(1, |row| row.version + 1);
        let was = row.as_ref().and_then(|row| row.standing.as_ref().ok());
        self.correct(event, was)?;
        let standing = if event.void {
            self.out.publish(Topic::Facts, &fact_key(event), None);
            self.state.put(voided_by(event), Vec::new());
            Err(canonical(event))
        } else {
            self.publish_fact(event, version(self.machine.generation, changes));
            Ok((event.contact.to_string(), event.occurred_at))
        };
        self.state.put(row_key, Revision { revision, version: changes, standing }.encode());
        Ok(())
    }

    /// A record turns out to be of somebody who is forgotten: it is taken from whom it was thought to be of, and nothing is
    /// kept of it but that it is gone.
    fn take_away(&mut self, event: &Event<'_>, row: &Revision, row_key: Vec<u8>) -> Result<(), S> {
        let gone = Event { void: true, ..event.clone() };
        self.correct(&gone, row.standing.as_ref().ok())?;
        self.out.publish(Topic::Facts, &fact_key(event), None);
        let revision = event.revision.unwrap_or(row.revision);
        self.state.put(row_key, Revision { revision, version: row.version + 1, standing: Err(Vec::new()) }.encode());
        Ok(())
    }

    /// Puts a record in the place of what it was (contact and time), if it was anything. Alerts see one change, not the
    /// two that it is made of.
    fn correct(&mut self, event: &Event<'_>, was: Option<&(String, Timestamp)>) -> Result<(), S> {
        let Some((contact, at)) = was else {
            if event.void {
                return Ok(());
            }
            let mut subject = self.load(who(event))?;
            self.admit(&mut subject, event)?;
            return self.store(subject);
        };
        let named = named(event, contact, *at);
        let mut subject = self.load(who(&named))?;
        subject.timeline(self.state).remove(&named)?;
        let stays = !event.void && *contact == *event.contact;
        if stays {
            subject.timeline(self.state).insert(event)?;
        }
        self.rebuild(&mut subject)?;
        if !stays && !event.void {
            self.switch(&mut subject, &event.contact)?;
            self.admit(&mut subject, event)?;
        }
        self.store(subject)
    }

    /// The higher revision counts; of the same, the smaller bytes.
    fn supersedes(&mut self, event: &Event<'_>, revision: i64, row: &Revision) -> Result<bool, S> {
        if revision != row.revision {
            return Ok(revision > row.revision);
        }
        let standing = match &row.standing {
            Err(void) => void.clone(),
            Ok((contact, at)) => {
                let named = named(event, contact, *at);
                let mut subject = self.load(who(&named))?;
                let was = subject.timeline(self.state).find(&named)?;
                let mut bytes = Vec::new();
                if let Some(mut was) = was {
                    was.account.clone_from(&event.account);
                    was.contact = contact.as_str().into();
                    bytes = canonical(&was);
                }
                self.store(subject)?;
                bytes
            }
        };
        Ok(canonical(event) < standing)
    }

    /// A record that is not in the timeline yet.
    fn admit(&mut self, subject: &mut Subject<'_>, event: &Event<'_>) -> Result<(), S> {
        let is_first = subject.contact.entries == 0;
        subject.timeline(self.state).insert(event)?;
        subject.see_contact();
        if subject.who.contact.is_empty() {
            if event.kind == Kind::Profile {
                self.learn_of_account(subject, event)?;
            }
            return Ok(());
        }
        if is_first {
            subject.account.roles[Role::Unknown as usize].contacts += 1;
            subject.see_account();
        }
        match event.kind {
            Kind::Touch => {
                let is_after = subject.contact.times.last().is_none_or(|last| event.occurred_at > last);
                subject.contact.touches_since += u64::from(is_after);
                Ok(())
            }
            Kind::Profile => {
                self.learn_of_contact(subject, event)?;
                self.engage(subject, event)
            }
            Kind::Engagement | Kind::Advocacy => self.engage(subject, event),
            Kind::Value | Kind::Action => Ok(()),
        }
    }

    /// Counts what an event counts as, without reading the timeline unless the event changes how others count.
    fn engage(&mut self, subject: &mut Subject<'_>, event: &Event<'_>) -> Result<(), S> {
        let counted = Counted::of(event);
        let occasion = event.text(Field::Occasion).filter(|_| event.kind == Kind::Engagement);
        let group_name = counted.as_ref().and_then(|counted| counted.group.as_deref().map(Cow::Borrowed));
        if let Some(name) = group_name.or_else(|| occasion.map(|name| occasion_group(name).into())) {
            let key = keys::occasion(&subject.contact_key, &name);
            let value = self.state.get(&key).map_err(StepError::State)?;
            let group = value.map(|value| Group::decode(&value)).transpose()?.unwrap_or_default();
            if !self.join_group(subject, event, counted.as_ref(), group, key)? {
                return self.rebuild(subject);
            }
        } else if let Some(counted) = &counted {
            self.count(subject, counted, true)?;
        }
        if event.kind == Kind::Engagement && event.status() == Status::Planned {
            self.plan(subject, event)?;
        }
        Ok(())
    }

    /// Whether the group could take the record without a look at the others of the group.
    fn join_group(
        &mut self,
        subject: &mut Subject<'_>,
        event: &Event<'_>,
        counted: Option<&Counted<'_>>,
        mut group: Group,
        key: Vec<u8>,
    ) -> Result<bool, S> {
        let is_planned = event.kind == Kind::Engagement && event.status() == Status::Planned;
        let settles = event.kind == Kind::Engagement && !is_planned;
        if (settles && group.is_planned) || (is_planned && group.is_settled) {
            return Ok(false);
        }
        group.is_planned |= is_planned;
        group.is_settled |= settles;
        if let Some(counted) = counted {
            let entry = keys::entry(event.occurred_at, &event.source, &event.id, event.revision.is_some());
            let is_member = counted.group.is_some();
            let weight = counted.class_weight(&self.machine.rules);
            let is_better = group.is_better(weight, &entry);
            if is_member && is_better && group.best.is_some() && event.kind != Kind::Profile {
                return Ok(false);
            }
            self.count(subject, counted, !is_member || group.best.is_none())?;
            if is_member && is_better {
                group.best = Some((weight, entry));
            }
        }
        self.state.put(key, group.encode());
        Ok(true)
    }

    /// Files a planned engagement, or counts it if the last tick has passed it.
    fn plan(&mut self, subject: &mut Subject<'_>, event: &Event<'_>) -> Result<(), S> {
        let Some(at) = event.time(Field::ScheduledFor) else { return Ok(()) };
        if self.machine.tick.is_none_or(|tick| at >= tick) {
            let entry = keys::entry(event.occurred_at, &event.source, &event.id, event.revision.is_some());
            self.state.put(keys::planned(&subject.contact_key, at, &entry), Vec::new());
            subject.contact.planned += 1;
            return Ok(());
        }
        // That it is not settled has been seen by `join_group`.
        match meeting(event) {
            Some(counted) => self.count(subject, &counted, true),
            None => Ok(()),
        }
    }

    /// Counts an engagement: for lapses if its class counts, and for the score if `is_scored`.
    pub fn count(&mut self, subject: &mut Subject<'_>, counted: &Counted<'_>, is_scored: bool) -> Result<(), S> {
        subject.see_account();
        let (rules, at) = (&self.machine.rules, counted.at);
        let role = subject.contact.profile.role();
        if is_scored {
            let (weight, decay) = (counted.weight(rules), Decay::new(rules.score.half_life_s));
            let tally = &mut subject.contact.tally;
            tally.add(&counted.vehicle, weight, at, decay);
            subject.account.engagements += 1;
            if weight > 0.0 {
                let landmark = decay.landmark(at);
                subject.account.add_points(role, weight * decay.grown(at, landmark), landmark, at, decay);
            }
        }
        if counted.class == Counts::TwoWay {
            let tally = &mut subject.contact.tally;
            tally.last_two_way = tally.last_two_way.max(Some(at));
        }
        if !rules.lapse.counts.contains(&counted.class) {
            return Ok(());
        }
        let was_last = subject.contact.times.last();
        self.count_time(subject, at)?;
        if subject.contact.times.last() != was_last { self.recount_touches(subject) } else { Ok(()) }
    }

    /// Adds a time to the contact's and the account's spans.
    fn count_time(&mut self, subject: &mut Subject<'_>, at: Timestamp) -> Result<(), S> {
        let clock = subject.clock(self.machine);
        let mut news = Vec::new();
        let contact = &mut *subject.contact;
        let added = contact.times.add(at)?;
        contact.watch.added(at, added, &clock, &mut news);
        subject.contact_news.extend(news);

        let clock = subject.account_clock(self.machine);
        let mut news: Vec<News> = Vec::new();
        let is_line = subject.contact.profile.role().is_line();
        let account = &mut *subject.account;
        let to_all = account.all.add(at)?;
        let to_line = if is_line { Some(account.line.add(at)?) } else { None };
        let added = if account.knows_roles() { to_line } else { Some(to_all) };
        if let Some(added) = added {
            account.watch.added(at, added, &clock, &mut news);
        }
        subject.account_news.extend(news);
        Ok(())
    }

    fn learn_of_contact(&mut self, subject: &mut Subject<'_>, event: &Event<'_>) -> Result<(), S> {
        let clock = subject.clock(self.machine);
        let contact = &mut *subject.contact;
        let were = contact.watch.standing(contact.times.spans(), &clock)?;
        let role = contact.profile.role();
        contact.profile.merge(event, &self.machine.rules.priorities);
        subject.forget_clocks();
        let clock = subject.clock(self.machine);
        let contact = &mut *subject.contact;
        let mut news = Vec::new();
        contact.watch.changed(&were, contact.times.spans(), &clock, &mut news)?;
        subject.contact_news.extend(news);
        if role == subject.contact.profile.role() { Ok(()) } else { self.change_role(subject, role) }
    }

    fn learn_of_account(&mut self, subject: &mut Subject<'_>, event: &Event<'_>) -> Result<(), S> {
        let priorities = self.machine.rules.priorities.clone();
        self.change_account_profile(subject, |account| {
            account.profile.merge(event, &priorities);
            Ok(())
        })
    }
}

/// The names of the record that a correction stands for, where it stood.
fn named<'a>(event: &Event<'a>, contact: &'a str, at: Timestamp) -> Event<'a> {
    let mut named = event.clone();
    named.contact = contact.into();
    named.occurred_at = at;
    named
}
