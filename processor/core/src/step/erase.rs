//! A contact is forgotten: everything that is known of it goes, whoever was told of it is told to forget it, and what
//! comes of it later is not taken.
//!
//! It is as if its records had never been, but that alerts which stand are closed. Its last word, on the topic of alerts,
//! names it, so that receivers know whom to forget; the fact that stays does not.

use std::ops::ControlFlow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::admit::who;
use super::rows::Revision;
use super::subject::{Change, Subject};
use super::{Apply, Result, StepError};
use crate::account::Account;
use crate::contact::Contact;
use crate::erasure::Erased;
use crate::event::{Event, Kind, Value, owner};
use crate::field::Field;
use crate::keys::{self, table};
use crate::lapse::News;
use crate::output::{Outputs, Topic};
use crate::publish::{Who, fact_key, version, write_notice, write_receipt};
use crate::state::State;

/// Whose all rows begin with a contact's key.
const ROWS: &[u8] = &[table::PAGE, table::OCCASION, table::PLANNED];

/// Whether an event says that its contact is to be forgotten (`true`) or is a contact again (`false`).
pub(super) fn deletion(event: &Event<'_>) -> Option<bool> {
    if event.kind != Kind::Profile || event.contact.is_empty() || event.void {
        return None;
    }
    match event.get(Field::Deleted)? {
        Value::Bool(is_deleted) => Some(*is_deleted),
        _ => None,
    }
}

impl Subject<'_> {
    /// Whether the event is of a time that its contact is forgotten for.
    pub fn is_suppressed(&self, event: &Event<'_>) -> bool {
        self.contact.since.is_some_and(|since| event.occurred_at < since)
    }

    /// What occurred from here on is taken, of a contact that has come back already.
    fn take_from(&mut self, at: Timestamp) {
        if self.is_contact_known {
            self.contact.since = Some(at);
            self.contact_change = Change::Hidden;
        }
    }
}

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Remembers of a contact that is not in the state whether it was forgotten.
    pub fn recall(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        if self.machine.erasures.count() == 0 || subject.is_contact_known {
            return Ok(());
        }
        let mut who = subject.who;
        if who.contact.is_empty() {
            let Some(owner) = owner(who.account) else { return Ok(()) };
            who.contact = owner;
        }
        let (_, erased) = self.erased(who)?;
        if let Some(erased) = erased {
            subject.contact.since = Some(erased.returned_at.unwrap_or(Timestamp::MAX));
            subject.contact.version = erased.versions.0;
            if !subject.is_account_known {
                subject.account.version = erased.versions.1;
            }
        }
        Ok(())
    }

    /// What a contact is known by once it is forgotten, and whether it is.
    fn erased(&mut self, who: Who<'_>) -> Result<(String, Option<Erased>), S> {
        let name = self.machine.erasures.name(who);
        let row = self.state.get(&keys::erased(&name)).map_err(StepError::State)?;
        let erased = row.map(|value| Erased::decode(&value)).transpose()?;
        Ok((name, erased))
    }

    /// Forgets the contact of this event, unless that has been done.
    pub fn erase(&mut self, event: &Event<'_>) -> Result<(), S> {
        let who = who(event);
        let (name, before) = self.erased(who)?;
        if before.is_some_and(|before| before.covers(event.occurred_at)) {
            self.machine.counts.duplicates += 1;
            return Ok(());
        }
        self.machine.counts.events += 1;
        self.machine.counts.erased += 1;
        if before.is_none() {
            self.machine.erasures.add();
        }
        let mut subject = self.load(who)?;
        let mut erased = Erased {
            at: event.occurred_at,
            returned_at: None,
            sequence: before.map_or(1, |before| before.sequence + 1),
            versions: (subject.contact.version, before.map_or(0, |before| before.versions.1)),
        };
        let had_records = subject.contact.entries > 0;
        let mut facts = self.forget(&mut subject)?;
        self.forget_voids(&subject)?;
        if had_records {
            self.rebuild_account(&mut subject)?;
        }
        if subject.is_account_known {
            subject.account.lapsed.see(who.contact, self.machine.tick, false);
            subject.account_change = subject.account_change.max(Change::Hidden);
        }
        if owner(who.account) == Some(who.contact) && subject.account.contacts() == 0 {
            facts += self.forget_own_account(&mut subject, &mut erased)?;
        }
        self.store(subject)?;
        self.state.put(keys::erased(&name), erased.encode());
        self.tell_of_erasure(who, &name, &erased, facts);
        Ok(())
    }

    /// Takes a contact back that was forgotten, from the time of this event on.
    pub fn readmit(&mut self, event: &Event<'_>) -> Result<(), S> {
        if self.machine.erasures.count() == 0 {
            return Ok(());
        }
        let (who, at) = (who(event), event.occurred_at);
        let (name, erased) = self.erased(who)?;
        let Some(mut erased) = erased.filter(|erased| at > erased.at) else { return Ok(()) };
        if erased.returned_at.is_some_and(|returned| returned <= at) {
            return Ok(());
        }
        erased.returned_at = Some(at);
        self.state.put(keys::erased(&name), erased.encode());
        let mut subject = self.load(who)?;
        subject.take_from(at);
        if owner(who.account) == Some(who.contact) {
            self.switch(&mut subject, "")?;
            subject.take_from(at);
        }
        self.store(subject)
    }

    /// Deletes all that is stored of a contact (or, without one, of what happened to the account itself) and takes back
    /// its facts; says how many.
    fn forget(&mut self, subject: &mut Subject<'_>) -> Result<u64, S> {
        let clock = subject.clock(self.machine);
        let mut contact = std::mem::take(&mut *subject.contact);
        let episodes = contact.watch.standing(contact.times.spans(), &clock)?;
        let mut news: Vec<_> = episodes.iter().map(|episode| News::Episode(episode.last, None)).collect();
        contact.watch.close(&clock, &mut news);
        let mut facts = episodes.len() as u64;
        let filed = contact.filed;
        let watch = std::mem::take(&mut contact.watch);
        *subject.contact = contact;
        facts += self.take_back_facts(subject)?;
        self.delete_rows(&subject.contact_key, ROWS)?;
        if let Some(filed) = filed {
            self.state.delete(keys::timer(filed, &subject.contact_key));
        }
        // What is told now says nothing of the person but the name.
        *subject.contact = Contact { watch, ..Contact::default() };
        subject.contact_news = news;
        self.tell_of_contact(subject)?;
        *subject.contact = Contact::default();
        subject.contact_clock = None;
        if !subject.who.contact.is_empty() {
            self.publish_contact_score(subject);
        }
        // Taken, and not put back.
        (subject.is_contact_known, subject.contact_change) = (false, Change::None);
        Ok(facts)
    }

    fn take_back_facts(&mut self, subject: &mut Subject<'_>) -> Result<u64, S> {
        let (who, mut gone) = (subject.who, Vec::new());
        subject.timeline(self.state).scan(&[], |entry| {
            let mut event = entry.event()?;
            (event.account, event.contact) = (who.account.into(), who.contact.into());
            let row = event.revision.map(|_| keys::revision(who.account, &event.source, &event.id));
            gone.push((fact_key(&event), row));
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        let count = gone.len() as u64;
        for (fact, row) in gone {
            self.out.publish(Topic::Facts, &fact, None);
            if let Some(row) = row {
                self.state.delete(row);
            }
        }
        Ok(count)
    }

    /// Deletes what is left of records that were voided in the contact's name, which is in no timeline.
    fn forget_voids(&mut self, subject: &Subject<'_>) -> Result<(), S> {
        let (who, mut from) = (subject.who, keys::of_contact(table::VOIDED, &subject.contact_key));
        let to = keys::end_of(&from);
        while let Some((key, _)) = self.state.first(&from, &to).map_err(StepError::State)? {
            from = keys::after(&key);
            let (source, id) = keys::read_voided(&key, &subject.contact_key)?;
            let row_key = keys::revision(who.account, &source, &id);
            let row = self.state.get(&row_key).map_err(StepError::State)?;
            if let Some(row) = row
                && let Err(void) = Revision::decode(&row)?.standing
                && let Ok(event) = Event::parse(&void, &TimeZone::UTC)
                && event.contact == who.contact
            {
                self.out.publish(Topic::Facts, &fact_key(&event), None);
                self.state.delete(row_key);
            }
            self.state.delete(key);
        }
        Ok(())
    }

    /// The account was this person, and nobody else: its name is the person's.
    fn forget_own_account(&mut self, subject: &mut Subject<'_>, erased: &mut Erased) -> Result<u64, S> {
        self.switch(subject, "")?;
        let mut facts = self.forget(subject)?;
        self.forget_voids(subject)?;
        let clock = subject.account_clock(self.machine);
        let mut account = std::mem::take(&mut *subject.account);
        let episodes = account.watch.standing(account.relevant(), &clock)?;
        facts += episodes.len() as u64;
        let mut news = std::mem::take(&mut subject.account_news);
        news.extend(episodes.iter().map(|episode| News::Episode(episode.last, None)));
        account.watch.close(&clock, &mut news);
        if let Some(filed) = account.filed {
            self.state.delete(keys::timer(filed, &subject.account_key));
        }
        erased.versions.1 = account.version.max(erased.versions.1);
        *subject.account = Account { watch: account.watch, ..Account::default() };
        subject.account_news = news;
        self.tell_of_account(subject)?;
        *subject.account = Account::default();
        self.publish_account_score(subject);
        // Taken, and not put back.
        (subject.is_account_known, subject.account_change) = (false, Change::None);
        Ok(facts)
    }

    fn tell_of_erasure(&mut self, who: Who<'_>, name: &str, erased: &Erased, facts: u64) {
        let mut value = Vec::new();
        write_notice(who, name, erased, self.machine.tick, &mut value);
        self.out.publish(Topic::Alerts, name.as_bytes(), Some(&value));
        value.clear();
        write_receipt(name, erased, facts, version(self.machine.generation, erased.sequence), &mut value);
        self.out.publish(Topic::Facts, name.as_bytes(), Some(&value));
    }
}
