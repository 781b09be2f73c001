//! News → alerts and the facts of lapses, with what sales needs to know.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::subject::Subject;
use super::{Apply, Result, StepError};
use crate::event::{Field, Kind, raw_member, string_member, time_member};
use crate::keys;
use crate::lapse::{Change, Episode, News, Rule, Told};
use crate::output::{Outputs, Topic};
use crate::publish::{AlertView, ScoreView, Who, object, optional_text, texts, version, write_episode, write_excerpt};
use crate::state::State;

/// Touches that an alert repeats: enough to see what was tried.
const TOUCHES: usize = 3;
/// Contacts that an account's alert names.
const NAMED: usize = 100;
/// Keys that are read ahead while they are looked for.
const KEYS: usize = 1024;

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
                News::Alert(told, due) => self.publish_alert(subject, who, *told, *due)?,
            }
        }
        Ok(())
    }

    fn publish_episode(&mut self, subject: &Subject<'_>, who: Who<'_>, last: Timestamp, episode: Option<&Episode>) {
        let changes = if who.contact.is_empty() { subject.account.version } else { subject.contact.version };
        let id = who.alert_id(Rule::Lapse, last);
        let value = episode.map(|episode| {
            let mut value = Vec::new();
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
        let context =
            if is_account { self.account_context(subject, opened)? } else { self.contact_context(subject, told.last)? };
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
        let mut value = Vec::with_capacity(1024);
        view.write(&mut value, |out| {
            if !context.is_empty() {
                out.push(b',');
                // Without the brace that made its first member a first member.
                out.extend_from_slice(&context[1..]);
            }
        });
        self.out.publish(Topic::Alerts, id.as_bytes(), Some(&value));
        Ok(())
    }

    /// Members behind an opening brace.
    fn account_context(&mut self, subject: &Subject<'_>, is_opened: bool) -> Result<Vec<u8>, S> {
        let mut out = vec![b'{'];
        optional_text(&mut out, "account_name", subject.account.profile.text(Field::AccountName));
        optional_text(&mut out, "segment", subject.account.profile.text(Field::Segment));
        raw_member(&mut out, "contacts_known", subject.account.contacts());
        if is_opened {
            let named = self.lapsed_now(subject)?;
            texts(&mut out, "contacts", &named);
        }
        Ok(out)
    }

    /// The contacts of an account whose own lapse was told at this tick.
    fn lapsed_now(&mut self, subject: &Subject<'_>) -> Result<Vec<String>, S> {
        let (mut from, to) = keys::contacts_of(subject.who.account);
        let tick = self.machine.tick;
        let mut named = Vec::new();
        loop {
            let keys = self.state.contact_keys(&from, &to, KEYS).map_err(StepError::State)?;
            let Some(last) = keys.last() else { return Ok(named) };
            from = keys::after(last);
            for key in &keys {
                let Some(contact) = self.state.take_contact(key).map_err(StepError::State)? else { continue };
                let is_told = |told: &Told| told.rule == Rule::Lapse && told.change.is_open() && told.tick == tick;
                if contact.watch.ledger.iter().any(is_told) {
                    named.push(keys::names(key)?.1);
                }
                self.state.keep_contact(key, contact);
                if named.len() == NAMED {
                    return Ok(named);
                }
            }
        }
    }

    /// Members behind an opening brace: who it is, what happened last, what is planned, what to say next.
    fn contact_context(&mut self, subject: &mut Subject<'_>, last: Timestamp) -> Result<Vec<u8>, S> {
        let mut out = vec![b'{'];
        let (own, account) = (&subject.contact.profile, &subject.account.profile);
        for field in [Field::Name, Field::JobTitle, Field::Role, Field::Email] {
            optional_text(&mut out, field.row().name, own.text(field));
        }
        let inherited = |field| own.text(field).or_else(|| account.text(field));
        optional_text(&mut out, "account_name", inherited(Field::AccountName));
        optional_text(&mut out, "segment", inherited(Field::Segment));
        if let Some(at) = subject.contact.tally.last_two_way {
            time_member(&mut out, "last_two_way_at", at);
        }
        raw_member(&mut out, "touches_since", subject.contact.touches_since);
        self.write_last_engagement(subject, last, &mut out)?;
        self.write_recent(subject, &mut out)?;
        self.write_planned(subject, &mut out)?;
        Ok(out)
    }

    fn write_last_engagement(
        &mut self,
        subject: &mut Subject<'_>,
        last: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), S> {
        let mut excerpt = Vec::new();
        subject.timeline(self.state).scan(&keys::moment(last), |entry| {
            if entry.at() > last {
                return ControlFlow::Break(());
            }
            match entry.event() {
                Ok(event) if matches!(event.kind, Kind::Engagement | Kind::Advocacy) => {
                    write_excerpt(&event, ENGAGEMENT_FIELDS, &mut excerpt);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        })?;
        if !excerpt.is_empty() {
            raw_member(out, "last_engagement", String::from_utf8_lossy(&excerpt));
        }
        Ok(())
    }

    /// The newest touches; and what to say next, which is what this contact has answered to.
    fn write_recent(&mut self, subject: &Subject<'_>, out: &mut Vec<u8>) -> Result<(), S> {
        let (mut touches, mut content) = (Vec::new(), None);
        for entry in subject.contact.recent.iter().rev() {
            let event = entry.event()?;
            match event.kind {
                Kind::Touch if touches.len() < TOUCHES => {
                    let mut excerpt = Vec::new();
                    write_excerpt(&event, TOUCH_FIELDS, &mut excerpt);
                    touches.push(String::from_utf8_lossy(&excerpt).into_owned());
                }
                Kind::Engagement if content.is_none() => content = event.text(Field::Content).map(str::to_owned),
                _ => {}
            }
        }
        raw_member(out, "last_touches", format_args!("[{}]", touches.join(",")));
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
        if let Some(entry) = self.planned_entry(subject, at, &place)? {
            let mut excerpt = Vec::new();
            write_excerpt(&entry.event()?, PLANNED_FIELDS, &mut excerpt);
            raw_member(out, "planned_next", String::from_utf8_lossy(&excerpt));
        } else {
            string_member(out, "planned_next_at", &at.to_string());
        }
        Ok(())
    }
}
