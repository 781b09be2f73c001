//! The contact and account that a record is about: taken out of the state, changed, put back, timers filed.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Apply, Machine, Result, StepError};
use crate::account::Account;
use crate::contact::Contact;
use crate::event::Field;
use crate::keys;
use crate::lapse::{Clock, News};
use crate::output::Outputs;
use crate::profile::Profile;
use crate::publish::Who;
use crate::rules::Rules;
use crate::state::State;
use crate::timeline::Timeline;

/// A contact and its account, out of the state.
pub(super) struct Subject<'a> {
    pub who: Who<'a>,
    pub account: Box<Account>,
    pub contact: Box<Contact>,
    pub contact_key: Vec<u8>,
    pub account_key: Vec<u8>,
    pub account_change: Change,
    pub contact_change: Change,
    /// Whether either is in the state.
    pub is_account_known: bool,
    pub is_contact_known: bool,
    /// What is to be told of either, once all has been changed.
    pub account_news: Vec<News>,
    pub contact_news: Vec<News>,
    /// The account's sums are not those of its contacts now: they are summed later in the same record.
    pub is_account_pending: bool,
    /// What dates the silences of either, once it has been asked for.
    pub account_clock: Option<Clock>,
    pub contact_clock: Option<Clock>,
}

/// A key, and what the state has under it.
type Found<T> = (Vec<u8>, Option<Box<T>>);

/// How much of a record has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Nothing.
    #[default]
    None,
    /// What nobody sees, such as its timer.
    Hidden,
    /// What is published: its version grows.
    Seen,
}

/// What contacts take from their account where their own profile says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inherited {
    pub zone: Option<String>,
    pub segment: Option<String>,
}

impl Inherited {
    pub fn of(profile: &Profile) -> Inherited {
        let text = |field| profile.text(field).map(str::to_owned);
        Inherited { zone: text(Field::Timezone), segment: text(Field::Segment) }
    }
}

/// What dates the silences of a contact (or, without one, of the account).
pub(super) fn clock(rules: &Rules, tick: Option<Timestamp>, inherited: &Profile, own: Option<&Profile>) -> Clock {
    let zone = own.and_then(Profile::zone).or_else(|| inherited.zone()).unwrap_or(TimeZone::UTC);
    let segment = || own.and_then(|own| own.text(Field::Segment)).or_else(|| inherited.text(Field::Segment));
    make_clock(rules, tick, zone, segment, own.or(Some(inherited)), own.is_some())
}

/// The same for a contact whose account's profile has changed since.
pub(super) fn old_clock(rules: &Rules, tick: Option<Timestamp>, inherited: &Inherited, own: &Profile) -> Clock {
    let old_zone = || inherited.zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    let zone = own.zone().or_else(old_zone).unwrap_or(TimeZone::UTC);
    let segment = || own.text(Field::Segment).or(inherited.segment.as_deref());
    make_clock(rules, tick, zone, segment, Some(own), true)
}

fn make_clock<'a>(
    rules: &Rules,
    tick: Option<Timestamp>,
    zone: TimeZone,
    segment: impl FnOnce() -> Option<&'a str>,
    profile: Option<&Profile>,
    is_contact: bool,
) -> Clock {
    let segments = &rules.lapse.segments;
    let by_segment = if segments.is_empty() { None } else { segment().and_then(|name| segments.get(name)) };
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    Clock {
        zone,
        months: by_segment.copied().unwrap_or(rules.lapse.months),
        warn_s: seconds(rules.lapse.warn_s),
        escalate_s: seconds(rules.lapse.escalate_s),
        tick,
        left_at: profile.filter(|_| is_contact).and_then(Profile::left_at),
        paused_until: profile.and_then(Profile::paused_until),
        stages: is_contact,
    }
}

impl<'a> Subject<'a> {
    fn new(who: Who<'a>, account: Found<Account>, contact: Found<Contact>) -> Subject<'a> {
        let ((account_key, account), (contact_key, contact)) = (account, contact);
        let (is_account_known, account) = (account.is_some(), account.unwrap_or_default());
        let (is_contact_known, contact) = (contact.is_some(), contact.unwrap_or_default());
        let (account_change, contact_change, account_news, contact_news) = Default::default();
        let (account_clock, contact_clock) = (None, None);
        Subject {
            who,
            account,
            contact,
            contact_key,
            account_key,
            account_change,
            contact_change,
            is_account_known,
            is_contact_known,
            account_news,
            contact_news,
            is_account_pending: false,
            account_clock,
            contact_clock,
        }
    }

    /// The clock of the contact.
    pub fn clock(&mut self, machine: &Machine) -> Clock {
        let (account, contact) = (&self.account.profile, &self.contact.profile);
        self.contact_clock.get_or_insert_with(|| clock(&machine.rules, machine.tick, account, Some(contact))).clone()
    }

    /// The clock of the account.
    pub fn account_clock(&mut self, machine: &Machine) -> Clock {
        let account = &self.account.profile;
        self.account_clock.get_or_insert_with(|| clock(&machine.rules, machine.tick, account, None)).clone()
    }

    /// A profile or the rules have changed.
    pub fn forget_clocks(&mut self) {
        (self.account_clock, self.contact_clock) = (None, None);
    }

    /// The contact will be written, and its version grows: by one, however often it is said.
    pub fn see_contact(&mut self) {
        self.contact.version += u64::from(self.contact_change != Change::Seen);
        self.contact_change = Change::Seen;
    }

    /// The same of the account.
    pub fn see_account(&mut self) {
        self.account.version += u64::from(self.account_change != Change::Seen);
        self.account_change = Change::Seen;
    }

    /// The contact's timeline.
    pub fn timeline<'s, S: State>(&'s mut self, state: &'s mut S) -> Timeline<'s, S> {
        Timeline { contact: &mut self.contact, key: &self.contact_key, state }
    }
}

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Takes a contact and its account out of the state, or makes them.
    pub fn load<'a>(&mut self, who: Who<'a>) -> Result<Subject<'a>, S> {
        let (account_key, contact_key) = (keys::account(who.account), keys::contact(who.account, who.contact));
        let account = self.state.take_account(&account_key).map_err(StepError::State)?;
        let contact = self.state.take_contact(&contact_key).map_err(StepError::State)?;
        let mut subject = Subject::new(who, (account_key, account), (contact_key, contact));
        self.recall(&mut subject)?;
        Ok(subject)
    }

    /// Takes an account out of the state, and nothing of what happened to it itself, which must not be changed.
    pub fn load_account<'a>(&mut self, who: Who<'a>) -> Result<Subject<'a>, S> {
        let (account_key, contact_key) = (keys::account(who.account), keys::contact(who.account, ""));
        let account = self.state.take_account(&account_key).map_err(StepError::State)?;
        Ok(Subject::new(who, (account_key, account), (contact_key, None)))
    }

    /// Puts a subject back, with its news told, its timers filed and its scores published.
    pub fn store(&mut self, mut subject: Subject<'_>) -> Result<(), S> {
        self.store_contact(&mut subject)?;
        self.settle_account(&mut subject)?;
        self.tell_of_account(&mut subject)?;
        if subject.account_change == Change::Seen && !subject.is_account_pending {
            self.publish_account_score(&subject);
        }
        match subject.account_change {
            Change::None if !subject.is_account_known => {}
            Change::None => self.state.keep_account(&subject.account_key, subject.account),
            _ => self.state.put_account(&subject.account_key, subject.account),
        }
        Ok(())
    }

    /// Puts a subject back whose account is changed again before the record is finished: its alerts wait for that.
    pub fn store_unsettled(&mut self, mut subject: Subject<'_>) -> Result<(), S> {
        self.store_contact(&mut subject)?;
        self.tell_of_account(&mut subject)?;
        subject.account.watch.put_off();
        self.state.put_account(&subject.account_key, subject.account);
        Ok(())
    }

    /// Puts the contact back and takes another of the same account.
    pub fn switch<'a>(&mut self, subject: &mut Subject<'a>, contact: &'a str) -> Result<(), S> {
        self.store_contact(subject)?;
        subject.who.contact = contact;
        subject.contact_key = keys::contact(subject.who.account, contact);
        let found = self.state.take_contact(&subject.contact_key).map_err(StepError::State)?;
        (subject.is_contact_known, subject.contact) = (found.is_some(), found.unwrap_or_default());
        subject.contact_change = Change::None;
        subject.contact_clock = None;
        self.recall(subject)
    }

    fn store_contact(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        if subject.contact_change != Change::None && !subject.who.contact.is_empty() {
            self.settle_contact(subject)?;
        }
        self.tell_of_contact(subject)?;
        if subject.contact_change == Change::Seen && !subject.who.contact.is_empty() {
            self.publish_contact_score(subject);
        }
        let contact = std::mem::take(&mut subject.contact);
        match subject.contact_change {
            // What was not there before is not there now.
            Change::None if !subject.is_contact_known => {}
            Change::None => self.state.keep_contact(&subject.contact_key, contact),
            _ => self.state.put_contact(&subject.contact_key, contact),
        }
        Ok(())
    }

    /// Brings what follows from everything else up to date: alerts, standing, timer, what is to be published.
    fn settle_account(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        if subject.account_change == Change::None {
            return Ok(());
        }
        let clock = subject.account_clock(self.machine);
        let (account, mut news) = (&mut *subject.account, Vec::new());
        let mut watch = std::mem::take(&mut account.watch);
        watch.settle(account.relevant(), &clock, &mut news)?;
        account.watch = watch;
        subject.account_news.extend(news);
        let account = &subject.account;
        let standing = clock.standing(account.relevant().last(), account.watch.due);
        let next = account.watch.next(account.relevant(), &clock);
        if standing != account.standing {
            subject.see_account();
        }
        let account = &mut *subject.account;
        account.standing = standing;
        account.lapsed.forget_before(self.machine.tick);
        self.file(&mut account.filed, next, &subject.account_key);
        Ok(())
    }

    fn settle_contact(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let clock = subject.clock(self.machine);
        let (contact, mut news) = (&mut *subject.contact, Vec::new());
        contact.watch.settle(contact.times.spans(), &clock, &mut news)?;
        subject.contact_news.extend(news);
        let contact = &subject.contact;
        let standing = clock.standing(contact.times.last(), contact.watch.due);
        let mut next = contact.watch.next(contact.times.spans(), &clock);
        if contact.planned > 0 {
            let planned = self.next_planned(&subject.contact_key)?.map(|(at, _)| at);
            next = next.into_iter().chain(planned).min();
        }
        if standing != subject.contact.standing {
            subject.see_contact();
        }
        let contact = &mut *subject.contact;
        contact.standing = standing;
        self.file(&mut contact.filed, next, &subject.contact_key);
        Ok(())
    }

    /// The next planned engagement: when, and the place of its entry.
    pub fn next_planned(&mut self, contact_key: &[u8]) -> Result<Option<(Timestamp, Vec<u8>)>, S> {
        let prefix = keys::of_contact(keys::table::PLANNED, contact_key);
        let row = self.state.first(&prefix, &keys::end_of(&prefix)).map_err(StepError::State)?;
        let Some((key, _)) = row else { return Ok(None) };
        let (at, entry) = keys::read_planned(&key, contact_key)?;
        Ok(Some((at, entry.to_vec())))
    }

    /// Moves the timer if it would fire too late. One that would fire too early is left: it is filed anew when it does,
    /// so that engagement after engagement writes no timer.
    fn file(&mut self, filed: &mut Option<Timestamp>, next: Option<Timestamp>, key: &[u8]) {
        let Some(next) = next else { return };
        let next = self.machine.tick.map_or(next, |tick| next.max(tick));
        if filed.is_some_and(|filed| filed <= next) {
            return;
        }
        if let Some(filed) = filed {
            self.state.delete(keys::timer(*filed, key));
        }
        self.state.put(keys::timer(next, key), Vec::new());
        *filed = Some(next);
        self.machine.next_timer = self.machine.next_timer.map(|known| known.min(next));
    }
}
