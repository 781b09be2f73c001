//! An event before it is written, and the diary in which drafts wait for their day.

use super::catalogue::{Channel, GatheringId, Measure, Vehicle};
use super::clock::{DAY, DAYS, HOUR, SECOND, day_of};
use super::draw::Draw;

/// Of a thousand events, those that arrive late. With what is written down afterwards anyway they are 5 %.
const LATE_PER_MILLE: u64 = 42;
/// A late event is at least this late: less is hardly out of order where events are few.
const LATE_MIN: u64 = HOUR;
/// The latest.
const LATE_MAX: u64 = 7 * DAY;
/// Of a thousand events, those that come twice.
const TWICE_PER_MILLE: u64 = 10;
/// A copy comes at most this long after the original would have, were it not late: a retry, or a job that ran again.
const COPY_WITHIN: u64 = DAY;

/// An event. Its line is a function of the draft alone (and of the seed), so a copy of a draft is an exact duplicate.
#[derive(Clone, Debug)]
pub struct Draft {
    /// When it shows up in the output.
    pub arrives: u64,
    /// Event time.
    pub occurred: u64,
    /// Its own number.
    pub serial: u64,
    /// The contact's number.
    pub contact: u64,
    /// The number of its account.
    pub account: u64,
    /// What happened.
    pub what: What,
    /// Whether this is the second copy.
    pub copy: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// We wrote, called, advertised.
    Touch { channel: &'static Channel, campaign: Option<u64> },
    /// They took part in something of their own.
    Engagement { vehicle: &'static Vehicle, answers: Option<Answered> },
    /// They took part in a gathering, or were to.
    Attendance { gathering: GatheringId, part: Part },
    /// A meeting, booked, held or not.
    Meeting(Meeting),
    /// They spoke for us, or against.
    Advocacy { measure: &'static Measure },
    /// News of a deal.
    Value { deal: u64, step: Step },
    /// What is known of the contact.
    ContactProfile,
    /// What is known of its account.
    AccountProfile,
}

/// The touch that an engagement answers.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Its serial number.
    pub touch: u64,
    /// Its campaign.
    pub campaign: Option<u64>,
}

/// A contact's part in a gathering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Signed up for it.
    Registered,
    /// Was there.
    Attended,
    /// Had signed up, and was not.
    Missed,
}

/// One record of a meeting.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// The serial number of the first record of it.
    pub booking: u64,
    /// When it is to be, or was.
    pub scheduled: u64,
    /// What this record says of it.
    pub status: MeetingStatus,
    /// The calendar revises its records; without a revision the record is the CRM's, which writes new ones.
    pub revision: Option<u64>,
}

/// What a record says of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetingStatus {
    /// It is to be held.
    Planned,
    /// It was held.
    Attended,
    /// They did not come.
    NoShow,
    /// It was called off.
    Cancelled,
    /// It was never meant to be: an entry deleted.
    Void,
}

impl MeetingStatus {
    /// The canonical `status`.
    pub fn name(self) -> &'static str {
        match self {
            MeetingStatus::Planned => "planned",
            MeetingStatus::Attended => "attended",
            MeetingStatus::NoShow => "no_show",
            MeetingStatus::Cancelled | MeetingStatus::Void => "cancelled",
        }
    }
}

/// A step of a deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open, at the stage of this number.
    Open(u64),
    /// Won.
    Won,
    /// Lost.
    Lost,
    /// The order that a win brings.
    Order,
    /// An existing contract goes on.
    Renewal,
    /// An existing contract ends.
    Churn,
}

/// Drafts by the day of their arrival; those after the last day are forgotten.
///
/// It holds what a day's events lead to later: answers, outcomes of meetings, the late and the copies. That is a part
/// of the events of some weeks, whatever the number of contacts.
#[derive(Debug)]
pub struct Diary {
    pages: Vec<Vec<Draft>>,
    today: u64,
    draw: Draw,
}

impl Diary {
    /// An empty one, open at day 0.
    pub fn new(draw: Draw) -> Diary {
        Diary { pages: vec![Vec::new(); DAYS as usize], today: 0, draw }
    }

    /// Files a draft, which may make it late, and may file a copy of it too.
    pub fn file(&mut self, mut draft: Draft) {
        if self.draw.per_mille(TWICE_PER_MILLE) {
            // Of a late event the copy may come first.
            let arrives = draft.arrives + self.draw.within(SECOND..=COPY_WITHIN);
            self.put(Draft { arrives, copy: true, ..draft.clone() });
        }
        if self.draw.per_mille(LATE_PER_MILLE) {
            // Most are late by a day or two, few by a week.
            let most = (LATE_MAX - LATE_MIN) >> self.draw.below(4);
            let arrives = draft.arrives + LATE_MIN + self.draw.below(most);
            draft.arrives = arrives.min(draft.occurred + LATE_MAX);
        }
        self.put(draft);
    }

    /// How many drafts arrive today.
    pub fn due_today(&self) -> u64 {
        self.pages.get(self.today as usize).map_or(0, |page| page.len() as u64)
    }

    /// Closes today, and opens tomorrow; gives today's drafts in the order of arrival.
    pub fn turn(&mut self) -> Vec<Draft> {
        let mut page = self.pages.get_mut(self.today as usize).map(std::mem::take).unwrap_or_default();
        page.sort_unstable_by_key(|draft| (draft.arrives, draft.serial));
        self.today += 1;
        page
    }

    fn put(&mut self, draft: Draft) {
        let day = day_of(draft.arrives).max(self.today);
        if let Some(page) = self.pages.get_mut(day as usize) {
            page.push(draft);
        }
    }
}
