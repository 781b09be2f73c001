//! News → alerts and the facts of lapses, with what sales needs to know.

use std::convert::Infallible;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::subject::{self, Subject};
use super::{Apply, Machine, Result};
use crate::codec::Corrupt;
use crate::entry::Entries;
use crate::event::{Field, Kind, json_string, member, plain_member, time_member};
use crate::keys;
use crate::lapse::{Change, Episode, News, Rule, Told};
use crate::output::{Outputs, Topic};
use crate::publish::{AlertView, ScoreView, Who, array, object, optional_text, version, write_episode, write_excerpt};
use crate::state::State;

/// Most facts of a lapse are shorter.
const EPISODE_BYTES: usize = 384;
/// Most of an alert's context is shorter; so is most of what stands before it.
const CONTEXT_BYTES: usize = 1024;
/// Touches that an alert repeats: enough to see what was tried.
const TOUCHES: usize = 3;
/// Among so many entries they are looked for, or among more.
const RECENT: usize = 8;
const TOUCH_FIELDS: &[Field] = &[Field::Channel, Field::Title, Field::By, Field::Campaign, Field::Content];
const ENGAGEMENT_FIELDS: &[Field] =
    &[Field::Vehicle, Field::Interaction, Field::Measure, Field::Title, Field::By, Field::Content];
const PLANNED_FIELDS: &[Field] = &[Field::Vehicle, Field::Title, Field::By, Field::ScheduledFor];

impl<S: State, O: Outputs> Apply<'_, S, O> {
    /// Publishes all news of the contact.
    pub fn tell_of_contact(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let news = std::mem::take(&mut subject.contact_news);
        self.tell(subject, subject.who, &news)
    }

    /// Publishes all news of the account.
    pub fn tell_of_account(&mut self, subject: &mut Subject<'_>) -> Result<(), S> {
        let news = std::mem::take(&mut subject.account_news);
        self.tell(subject, Who { contact: "", ..subject.who }, &news)
    }

    /// Of several news about one lapse, only how it stands in the end.
    fn tell(&mut self, subject: &mut Subject<'_>, who: Who<'_>, news: &[News]) -> Result<(), S> {
        for (place, item) in news.iter().enumerate() {
            match item {
                News::Episode(last, episode) => {
                    let is_later = |other: &News| matches!(other, News::Episode(other, _) if other == last);
                    if !news[place + 1..].iter().any(is_later) {
                        self.publish_episode(subject, who, *last, episode.as_ref());
                    }
                }
                News::Alert(told, due) => {
                    if told.rule == Rule::Lapse && !who.contact.is_empty() {
                        let is_told = subject.contact.watch.is_lapse_told_at(self.machine.tick);
                        subject.account.lapsed.see(who.contact, self.machine.tick, is_told);
                        subject.account_change = subject.account_change.max(subject::Change::Hidden);
                    }
                    self.publish_alert(subject, who, *told, *due)?;
                }
            }
        }
        Ok(())
    }

    fn publish_episode(&mut self, subject: &Subject<'_>, who: Who<'_>, last: Timestamp, episode: Option<&Episode>) {
        if !self.out.wants(Topic::Facts) {
            return;
        }
        let changes = if who.contact.is_empty() { subject.account.version } else { subject.contact.version };
        let id = who.alert_id(Rule::Lapse, last);
        let value = episode.map(|episode| {
            let mut value = Vec::with_capacity(EPISODE_BYTES);
            write_episode(who, &id, episode, version(self.machine.generation, changes), &mut value);
            value
        });
        self.out.publish(Topic::Facts, id.as_bytes(), value.as_deref());
    }

    fn publish_alert(&mut self, subject: &mut Subject<'_>, who: Who<'_>, told: Told, due: Timestamp) -> Result<(), S> {
        let is_account = who.contact.is_empty();
        self.machine.counts.alerts += 1;
        let opened = told.rule == Rule::Lapse && told.change == Change::Opened;
        self.machine.counts.opened += u64::from(opened && !is_account);
        if !self.out.wants(Topic::Alerts) {
            return Ok(());
        }
        let mut context = Vec::with_capacity(CONTEXT_BYTES);
        if is_account {
            self.account_context(subject, opened, &mut context);
        } else {
            self.contact_context(subject, told.last, &mut context)?;
        }
        let rules = &self.machine.rules;
        let score = if is_account {
            ScoreView::of_account(&subject.account, &rules.score).score()
        } else {
            ScoreView::of_contact(&subject.contact, &rules.score).score()
        };
        let own = if is_account { None } else { subject.contact.profile.text(Field::Owner) };
        let id = who.alert_id(told.rule, told.last);
        let is_before = |moment: Option<Timestamp>| moment.is_some_and(|moment| due < moment);
        let view = AlertView {
            who,
            id: &id,
            told,
            due,
            owner: own.or_else(|| subject.account.profile.text(Field::Owner)),
            score,
            backlog: is_before(rules.since) || is_before(self.machine.backlog_before),
        };
        let mut value = Vec::with_capacity(2 * CONTEXT_BYTES);
        view.write(&mut value, &context);
        self.out.publish(Topic::Alerts, id.as_bytes(), Some(&value));
        Ok(())
    }

    /// Publishes what the contact's score is now; nothing is left of one without records.
    pub fn publish_contact_score(&mut self, subject: &Subject<'_>) {
        let contact = &*subject.contact;
        let view = (contact.entries > 0).then(|| ScoreView::of_contact(contact, &self.machine.rules.score));
        self.publish_score(subject.who, view);
    }

    /// The same of the account, and of one without contacts.
    pub fn publish_account_score(&mut self, subject: &Subject<'_>) {
        let account = &*subject.account;
        let view = (account.contacts() > 0).then(|| ScoreView::of_account(account, &self.machine.rules.score));
        self.publish_score(Who { contact: "", ..subject.who }, view);
    }

    fn publish_score(&mut self, who: Who<'_>, score: Option<ScoreView<'_>>) {
        if !self.out.wants(Topic::Scores) {
            return;
        }
        let Machine { rules, generation, scratch: (key, value), .. } = &mut *self.machine;
        key.clear();
        value.clear();
        who.put_score_key(key);
        let value = score.map(|score| {
            score.write(who, &rules.score, *generation, value);
            value.as_slice()
        });
        self.out.publish(Topic::Scores, key, value);
    }

    /// Members, each with a comma before it.
    fn account_context(&self, subject: &Subject<'_>, is_opened: bool, out: &mut Vec<u8>) {
        optional_text(out, "account_name", subject.account.profile.text(Field::AccountName));
        optional_text(out, "segment", subject.account.profile.text(Field::Segment));
        plain_member(out, "contacts_known", subject.account.contacts());
        if is_opened {
            let Ok(()) = array(out, "contacts", subject.account.lapsed.at(self.machine.tick), |out, name| {
                json_string(out, name);
                Ok::<_, Infallible>(())
            });
        }
    }

    /// Members, each with a comma before it: who it is, what happened last, what is planned, what to say next.
    fn contact_context(&mut self, subject: &mut Subject<'_>, last: Timestamp, out: &mut Vec<u8>) -> Result<(), S> {
        let (own, account) = (&subject.contact.profile, &subject.account.profile);
        for field in [Field::Name, Field::JobTitle, Field::Role, Field::Email] {
            optional_text(out, field.row().name, own.text(field));
        }
        let inherited = |field| own.text(field).or_else(|| account.text(field));
        optional_text(out, "account_name", inherited(Field::AccountName));
        optional_text(out, "segment", inherited(Field::Segment));
        if let Some(at) = subject.contact.tally.last_two_way {
            time_member(out, "last_two_way_at", at);
        }
        plain_member(out, "touches_since", subject.contact.touches_since);
        self.write_last_engagement(subject, last, out)?;
        self.write_recent(subject, out)?;
        self.write_planned(subject, out)
    }

    fn write_last_engagement(
        &mut self,
        subject: &mut Subject<'_>,
        last: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), S> {
        subject.timeline(self.state).scan(&keys::moment(last), |entry| {
            if entry.at() > last {
                return Ok(ControlFlow::Break(()));
            }
            if !matches!(entry.kind(), Some(Kind::Engagement | Kind::Advocacy)) {
                return Ok(ControlFlow::Continue(()));
            }
            member(out, "last_engagement");
            write_excerpt(&entry.event()?, ENGAGEMENT_FIELDS, out);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(())
    }

    /// The newest touches; and what to say next, which is what this contact has answered to.
    fn write_recent(&mut self, subject: &mut Subject<'_>, out: &mut Vec<u8>) -> Result<(), S> {
        let older = subject.timeline(self.state).older(RECENT)?;
        let recent = older.iter().flat_map(Entries::iter).chain(subject.contact.recent.iter());
        let recent = recent.collect::<std::result::Result<Vec<_>, _>>()?;
        let newest = |kind| recent.iter().rev().filter(move |entry| entry.kind() == Some(kind));
        array(out, "last_touches", newest(Kind::Touch).take(TOUCHES), |out, entry| {
            write_excerpt(&entry.event()?, TOUCH_FIELDS, out);
            Ok::<_, Corrupt>(())
        })?;
        let mut content = None;
        for entry in newest(Kind::Engagement) {
            content = entry.event()?.text(Field::Content).map(str::to_owned);
            if content.is_some() {
                break;
            }
        }
        let best = subject.contact.tally.parts.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        if best.is_some() || content.is_some() {
            object(out, "say_next", |out| {
                optional_text(out, "content", content.as_deref());
                optional_text(out, "vehicle", best.map(|(vehicle, _)| &**vehicle));
            });
        }
        Ok(())
    }

    fn write_planned(&mut self, subject: &mut Subject<'_>, out: &mut Vec<u8>) -> Result<(), S> {
        if subject.contact.planned == 0 {
            return Ok(());
        }
        let Some((at, place)) = self.next_planned(&subject.contact_key)? else { return Ok(()) };
        match self.planned_event(subject, at, &place)? {
            Some(event) => {
                member(out, "planned_next");
                write_excerpt(&event, PLANNED_FIELDS, out);
            }
            None => time_member(out, "planned_next_at", at),
        }
        Ok(())
    }
}
