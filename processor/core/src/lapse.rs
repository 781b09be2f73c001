//! Silence: when it becomes a lapse, what the lapses of a history are, and what is to be told of them.
//!
//! *Truth* is a function of the times of counted engagements ([`Spans`]), the rules and profile in force ([`Clock`]) and
//! the last tick. The *ledger* remembers what has been told. A [`Watch`] compares the two, and what differs is [`News`].
//! A moment has passed at a tick iff it lies before it.

mod truth;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::codec::{Corrupt, Reader, put_time, put_time_option, put_uint};
use crate::moment::{later, months_later};
use crate::spans::{Added, MERGED, Spans};
use truth::Truth;

/// What dates the silences of one contact or account.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The zone in force.
    pub zone: TimeZone,
    /// Calendar months of silence that are a lapse.
    pub months: u32,
    /// At risk this many seconds before.
    pub warn_s: i64,
    /// Escalated this many seconds after.
    pub escalate_s: i64,
    /// The last tick.
    pub tick: Option<Timestamp>,
    /// When the contact left; nothing falls due after it.
    pub left_at: Option<Timestamp>,
    /// Alerts wait until this has passed.
    pub paused_until: Option<Timestamp>,
    /// Whether contacts are warned about and escalated; accounts only lapse.
    pub stages: bool,
}

impl Clock {
    /// `last` + months in the zone, the day clamped to the month's last; the end of time where there is no such date.
    pub fn due(&self, last: Timestamp) -> Timestamp {
        if self.zone == TimeZone::UTC
            && let Some(due) = months_later(last, self.months)
        {
            return due;
        }
        let due = last.to_zoned(self.zone.clone()).checked_add(i64::from(self.months).months());
        due.map_or(Timestamp::MAX, |due| due.timestamp())
    }

    /// When a contact whose lapse is due then becomes at risk. Never within [`MERGED`] of the engagement, because a gap
    /// that short is not kept.
    fn warn_at(&self, last: Timestamp, due: Timestamp) -> Timestamp {
        let earliest = later(last, MERGED.as_secs()).unwrap_or(Timestamp::MAX);
        later(due, -self.warn_s).unwrap_or(Timestamp::MIN).max(earliest).min(due)
    }

    fn escalate_at(&self, due: Timestamp) -> Timestamp {
        later(due, self.escalate_s).unwrap_or(Timestamp::MAX)
    }

    /// Whether the last tick has passed a moment.
    pub fn has_passed(&self, moment: Timestamp) -> bool {
        self.tick.is_some_and(|tick| moment < tick)
    }

    /// Whether alerts may open now.
    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| !self.has_passed(until))
    }

    fn falls_due(&self, due: Timestamp) -> bool {
        self.left_at.is_none_or(|left| due <= left)
    }

    /// When a silence after `last` becomes a lapse, if it ever does.
    fn falls_due_after(&self, last: Timestamp) -> Option<Timestamp> {
        Some(self.due(last)).filter(|due| self.falls_due(*due))
    }

    /// The lapse of a gap, if it is one.
    pub fn episode(&self, last: Timestamp, next: Option<Timestamp>) -> Option<Episode> {
        // Most gaps are far too short; a due date costs a hundred times more than this look.
        const MONTH: SignedDuration = SignedDuration::from_hours(27 * 24);
        if next.is_some_and(|next| next.duration_since(last) < MONTH) {
            return None;
        }
        let due = self.due(last);
        let over = match next {
            Some(next) => due < next,
            None => self.has_passed(due),
        };
        (over && self.falls_due(due)).then_some(Episode { last, lapsed_at: due, recovered_at: next })
    }

    /// All lapses of a history.
    pub fn episodes(&self, spans: &Spans) -> Result<Vec<Episode>, Corrupt> {
        Ok(spans.gaps()?.into_iter().filter_map(|(last, next)| self.episode(last, next)).collect())
    }

    /// How the relationship stands.
    pub fn standing(&self, last: Option<Timestamp>, due: Option<Timestamp>) -> Standing {
        match (last, due) {
            (None, _) => Standing::Never,
            (Some(_), Some(due)) if self.has_passed(due) => Standing::Lapsed,
            (Some(last), Some(due)) if self.has_passed(self.warn_at(last, due)) => Standing::AtRisk,
            (Some(_), _) => Standing::Active,
        }
    }
}

/// One silence that is a lapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Episode {
    /// The engagement after which it began.
    pub last: Timestamp,
    /// When the threshold was reached.
    pub lapsed_at: Timestamp,
    /// The engagement that ended it.
    pub recovered_at: Option<Timestamp>,
}

/// How a relationship stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// No counted engagement yet.
    #[default]
    Never,
    /// Engaged.
    Active,
    /// Soon to lapse.
    AtRisk,
    /// Silent for longer than the threshold.
    Lapsed,
}

impl Standing {
    /// Its name in scores.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Never => "never",
            Standing::Active => "active",
            Standing::AtRisk => "at_risk",
            Standing::Lapsed => "lapsed",
        }
    }
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// The contact's (or account's) silence.
    Lapse,
    /// Its approach.
    AtRisk,
}

/// What has become of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Change {
    /// It has become true.
    Opened,
    /// It has stayed true.
    Escalated,
    /// It has ended.
    Recovered,
    /// It never was.
    Retracted,
    /// It no longer matters.
    Closed,
}

impl Change {
    /// Its name in alerts.
    pub fn name(self) -> &'static str {
        match self {
            Change::Opened => "opened",
            Change::Escalated => "escalated",
            Change::Recovered => "recovered",
            Change::Retracted => "retracted",
            Change::Closed => "closed",
        }
    }

    /// Whether it stands as true.
    pub fn is_open(self) -> bool {
        matches!(self, Change::Opened | Change::Escalated)
    }
}

/// What has been told of one silence under one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Under which rule.
    pub rule: Rule,
    /// The engagement after which the silence began.
    pub last: Timestamp,
    /// How many times; never restarts.
    pub sequence: u64,
    /// What was told last.
    pub change: Change,
    /// The end that was told.
    pub recovered_at: Option<Timestamp>,
    /// The last tick when it was told.
    pub tick: Option<Timestamp>,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The lapse after this engagement is now as given, or none.
    Episode(Timestamp, Option<Episode>),
    /// An alert has changed. With the due time of the lapse that it is about.
    Alert(Told, Timestamp),
}

/// The silences of one contact or account: what has been told, and what stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// When the silence since the last engagement becomes a lapse; `None` where nothing falls due any more.
    pub due: Option<Timestamp>,
    /// Whether that lapse stands as a fact.
    pub open: bool,
    /// What has been told.
    pub ledger: Vec<Told>,
    /// What is to be compared with the truth once the record is finished; never stored.
    unsettled: Unsettled,
}

/// The silences whose alerts may no longer be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Unsettled {
    #[default]
    None,
    /// Those after these engagements.
    After(Vec<Timestamp>),
    All,
}

impl Watch {
    /// After a time was added to the spans: tells of the two gaps that it made of one. Alerts wait for
    /// [`Watch::settle`].
    pub fn added(&mut self, time: Timestamp, added: Added, clock: &Clock, news: &mut Vec<News>) {
        let Added::Between { before, after } = added else { return };
        if let Some(before) = before {
            let was = match after {
                Some(_) => clock.episode(before, after).is_some(),
                None => self.open,
            };
            let is = clock.episode(before, Some(time));
            if was || is.is_some() {
                news.push(News::Episode(before, is));
            }
        }
        let is = clock.episode(time, after);
        if is.is_some() {
            news.push(News::Episode(time, is));
        }
        if after.is_none() {
            self.due = clock.falls_due_after(time);
            self.open = is.is_some();
        }
        if self.ledger.is_empty() {
            return;
        }
        match &mut self.unsettled {
            Unsettled::All => {}
            Unsettled::After(these) => these.extend(before.into_iter().chain([time])),
            none => *none = Unsettled::After(before.into_iter().chain([time]).collect()),
        }
    }

    /// After anything else has changed: tells of all that differs from the lapses as they were. Alerts wait for
    /// [`Watch::settle`].
    pub fn changed(
        &mut self,
        were: &[Episode],
        spans: &Spans,
        clock: &Clock,
        news: &mut Vec<News>,
    ) -> Result<(), Corrupt> {
        let are = clock.episodes(spans)?;
        for was in were.iter().filter(|was| !are.iter().any(|is| is.last == was.last)) {
            news.push(News::Episode(was.last, None));
        }
        for is in are.iter().filter(|is| !were.contains(is)) {
            news.push(News::Episode(is.last, Some(*is)));
        }
        self.due = spans.last().and_then(|last| clock.falls_due_after(last));
        self.open = are.last().is_some_and(|is| is.recovered_at.is_none());
        self.unsettled = Unsettled::All;
        Ok(())
    }

    /// The lapses that stand as facts.
    pub fn standing(&self, spans: &Spans, clock: &Clock) -> Result<Vec<Episode>, Corrupt> {
        let mut episodes = clock.episodes(spans)?;
        // What the last tick has made due stands only once its timer has fired.
        if !self.open && episodes.last().is_some_and(|last| last.recovered_at.is_none()) {
            episodes.pop();
        }
        Ok(episodes)
    }

    /// On a tick: opens what has become due and has not been told.
    pub fn fire(&mut self, spans: &Spans, clock: &Clock, news: &mut Vec<News>) -> Result<(), Corrupt> {
        let (Some(last), Some(due)) = (spans.last(), self.due) else { return Ok(()) };
        let has_lapsed = clock.has_passed(due);
        if has_lapsed && !self.open {
            self.open = true;
            news.push(News::Episode(last, clock.episode(last, None)));
        }
        self.compare(Some(last), spans, clock, news)?;
        if clock.is_paused() || clock.left_at.is_some() {
            return Ok(());
        }
        if has_lapsed {
            if !self.told(Rule::Lapse, last).is_some_and(|told| told.change.is_open()) {
                self.tell(Rule::Lapse, last, Change::Opened, None, clock, news);
            }
            let opened = self.told(Rule::Lapse, last).is_some_and(|told| told.change == Change::Opened);
            if opened && clock.stages && clock.has_passed(clock.escalate_at(due)) {
                self.tell(Rule::Lapse, last, Change::Escalated, None, clock, news);
            }
        } else if clock.stages
            && clock.has_passed(clock.warn_at(last, due))
            && !self.told(Rule::AtRisk, last).is_some_and(|told| told.change.is_open())
        {
            self.tell(Rule::AtRisk, last, Change::Opened, None, clock, news);
        }
        Ok(())
    }

    /// The next moment at which [`Watch::fire`] would tell something: in the past, if it would now.
    pub fn next(&self, spans: &Spans, clock: &Clock) -> Option<Timestamp> {
        let (last, due) = (spans.last()?, self.due?);
        let waits = |moment: Timestamp| clock.paused_until.map_or(moment, |until| until.max(moment));
        let can_alert = clock.left_at.is_none();
        let is_open = |rule| self.told(rule, last).is_some_and(|told| told.change.is_open());
        let warn_at = clock.warn_at(last, due);
        let mut next: Option<Timestamp> = None;
        let mut at = |moment: Timestamp| next = Some(next.map_or(moment, |next| next.min(moment)));
        // The standing changes at both moments, whatever is told.
        if !clock.has_passed(warn_at) {
            at(warn_at);
        } else if clock.stages && can_alert && !clock.has_passed(due) && !is_open(Rule::AtRisk) && waits(warn_at) <= due
        {
            at(waits(warn_at));
        }
        if !clock.has_passed(due) || !self.open {
            at(due);
        }
        if can_alert && !is_open(Rule::Lapse) {
            at(waits(due));
        }
        let escalated = self.told(Rule::Lapse, last).is_some_and(|told| told.change == Change::Escalated);
        if can_alert && clock.stages && !escalated {
            at(waits(clock.escalate_at(due)));
        }
        next
    }

    /// Whether a lapse was told at this tick, and stands.
    pub fn is_lapse_told_at(&self, tick: Option<Timestamp>) -> bool {
        self.ledger.iter().any(|told| told.rule == Rule::Lapse && told.change.is_open() && told.tick == tick)
    }

    fn told(&self, rule: Rule, last: Timestamp) -> Option<&Told> {
        // What is asked for was told most recently.
        self.ledger.iter().rev().find(|told| told.rule == rule && told.last == last)
    }

    fn tell(
        &mut self,
        rule: Rule,
        last: Timestamp,
        change: Change,
        recovered_at: Option<Timestamp>,
        clock: &Clock,
        news: &mut Vec<News>,
    ) {
        let place = self.ledger.iter().position(|told| told.rule == rule && told.last == last);
        let sequence = place.map_or(1, |place| self.ledger[place].sequence + 1);
        let told = Told { rule, last, sequence, change, recovered_at, tick: clock.tick };
        match place {
            Some(place) => self.ledger[place] = told,
            None => self.ledger.push(told),
        }
        news.push(News::Alert(told, clock.due(last)));
    }

    /// Once a record is finished: compares what was told with the truth; opens nothing.
    pub fn settle(&mut self, spans: &Spans, clock: &Clock, news: &mut Vec<News>) -> Result<(), Corrupt> {
        match std::mem::take(&mut self.unsettled) {
            Unsettled::None => Ok(()),
            Unsettled::After(these) => {
                these.into_iter().try_for_each(|last| self.compare(Some(last), spans, clock, news))
            }
            Unsettled::All => self.compare(None, spans, clock, news),
        }
    }

    /// Ends whatever stands as true: nobody is to be told of this contact or account any more.
    pub fn close(&mut self, clock: &Clock, news: &mut Vec<News>) {
        for place in 0..self.ledger.len() {
            let Told { rule, last, change, .. } = self.ledger[place];
            if change.is_open() {
                self.tell(rule, last, Change::Closed, None, clock, news);
            }
        }
    }

    /// Forgets what is to be settled, because [`Watch::changed`] is called again before the record is finished.
    pub fn put_off(&mut self) {
        self.unsettled = Unsettled::None;
    }

    fn compare(
        &mut self,
        of: Option<Timestamp>,
        spans: &Spans,
        clock: &Clock,
        news: &mut Vec<News>,
    ) -> Result<(), Corrupt> {
        for place in 0..self.ledger.len() {
            let told = self.ledger[place];
            if of.is_some_and(|last| last != told.last) {
                continue;
            }
            let due = clock.due(told.last);
            let truth = Truth::of(told, spans.gap_after(told.last)?, due, clock);
            if let Some((change, recovered_at)) = truth.change(told) {
                self.tell(told.rule, told.last, change, recovered_at, clock, news);
            }
        }
        Ok(())
    }

    /// Appends the watch to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_time_option(out, self.due);
        out.push(u8::from(self.open));
        put_uint(out, self.ledger.len() as u64);
        for told in &self.ledger {
            out.push(told.rule as u8 | (told.change as u8) << 1);
            put_time(out, told.last);
            put_uint(out, told.sequence);
            put_time_option(out, told.recovered_at);
            put_time_option(out, told.tick);
        }
    }

    /// Reads what [`Watch::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Watch, Corrupt> {
        const CHANGES: [Change; 5] =
            [Change::Opened, Change::Escalated, Change::Recovered, Change::Retracted, Change::Closed];
        let (due, open) = (reader.time_option()?, reader.byte()? != 0);
        let count = reader.count()?;
        let mut ledger = Vec::with_capacity(count);
        for _ in 0..count {
            let first = reader.byte()?;
            let rule = if first & 1 == 0 { Rule::Lapse } else { Rule::AtRisk };
            let change = *CHANGES.get(usize::from(first >> 1)).ok_or(reader.corrupt())?;
            let (last, sequence) = (reader.time()?, reader.uint()?);
            let (recovered_at, tick) = (reader.time_option()?, reader.time_option()?);
            ledger.push(Told { rule, last, sequence, change, recovered_at, tick });
        }
        Ok(Watch { due, open, ledger, unsettled: Unsettled::None })
    }
}
