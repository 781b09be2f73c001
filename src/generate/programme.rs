//! What happens, day by day: campaigns and what they draw, and what contacts and our own people do besides.
//!
//! Whatever leads to something later (an answer, a meeting's outcome, the next stage of a deal) files that right away, for
//! its day. On each day as much happens as the pace asks for, beyond what the diary already holds.

use super::catalogue::{self, Campaign, Channel, Gathering, GatheringId};
use super::clock::{self, Clock, DAY, DAYS, HOUR, MINUTE, SECOND, is_weekend, to_the_minute};
use super::draft::{Answered, Diary, Draft, Meeting, MeetingStatus, Part, Step, What};
use super::draw::{Draw, Families};
use super::pace::Pace;
use super::people::{KEENEST, Life, People, Person};

/// How many contacts are looked at for one who is in the mood today, before a reminder goes out instead. One in eight is
/// on a usual day, so reminders matter only where nearly all are silent.
const TRIES: u64 = 100;
/// Of a thousand events, the touches that campaigns make.
const CAMPAIGN_PER_MILLE: u64 = 235;
/// Contacts of the smallest campaign.
const CAMPAIGN_MIN: u64 = 20;
/// Campaigns come in so many sizes, each twice the one before.
const CAMPAIGN_DOUBLINGS: u64 = 8;
/// No campaign takes the touches of more days than these, else a small load had no campaigns for months.
const CAMPAIGN_DAYS: u64 = 14;
/// Of a thousand e-mails, those that a scanner clicks in.
const SCANNED_PER_MILLE: u64 = 140;
/// Of a thousand e-mails, those that are opened by someone or something.
const OPENED_PER_MILLE: u64 = 160;
/// Of a thousand events, about those that are attendances.
const ATTENDANCE_PER_MILLE: u64 = 170;
/// Contacts at a gathering, on average.
const ATTENDANCE: u64 = 40;

/// What happens though no campaign brought it about.
#[derive(Clone, Copy)]
enum Happening {
    Browse,
    Gather,
    Talk,
    Book,
    ReachOut,
    Advocate,
    Deal,
    Learn,
}

static HAPPENINGS: [(u64, Happening); 8] = [
    (490, Happening::Browse),
    (220, Happening::Gather),
    (150, Happening::Talk),
    (22, Happening::Book),
    (75, Happening::ReachOut),
    (12, Happening::Advocate),
    (3, Happening::Deal),
    (28, Happening::Learn),
];

/// The programme, and how far it has come.
#[derive(Debug)]
pub struct Programme<'a> {
    people: &'a People,
    clock: &'a Clock,
    pace: Pace,
    families: Families,
    draw: Draw,
    diary: Diary,
    day: u64,
    serial: u64,
    campaign: u64,
    campaign_touches: u64,
    next_campaign_size: u64,
}

impl<'a> Programme<'a> {
    /// A programme that begins on day 0.
    pub fn new(people: &'a People, clock: &'a Clock, pace: Pace, families: Families) -> Programme<'a> {
        let mut programme = Programme {
            people,
            clock,
            pace,
            families,
            draw: families.course.stream(0),
            diary: Diary::new(families.course.stream(1)),
            day: 0,
            serial: 0,
            campaign: 0,
            campaign_touches: 0,
            next_campaign_size: 0,
        };
        programme.next_campaign_size = programme.draw_campaign_size();
        programme
    }

    /// Lives through the next day; gives its drafts in the order of arrival. With the `written` before it they are at least
    /// as many as the pace asks for.
    ///
    /// To be called [`DAYS`] times.
    pub fn live(&mut self, written: u64) -> Vec<Draft> {
        let target = self.pace.through(self.day);
        let mut saved = self.launch(target);
        if self.day + 1 == DAYS {
            // What no campaign needs any more is spent on whatever happens.
            saved = 0;
        }
        while written + self.diary.due_today() + saved < target {
            self.happen();
        }
        self.day += 1;
        self.diary.turn()
    }

    /// Launches the campaigns for which enough touches have been saved up; gives the number still saved.
    fn launch(&mut self, target: u64) -> u64 {
        loop {
            let saved = (target * CAMPAIGN_PER_MILLE / 1000).saturating_sub(self.campaign_touches);
            if saved < self.next_campaign_size || is_weekend(self.day) {
                return saved;
            }
            self.run_campaign(self.next_campaign_size);
            self.next_campaign_size = self.draw_campaign_size();
        }
    }

    fn draw_campaign_size(&mut self) -> u64 {
        let affordable = self.pace.through(DAYS) * CAMPAIGN_PER_MILLE / 1000 * CAMPAIGN_DAYS / DAYS;
        let size = CAMPAIGN_MIN << self.draw.below(CAMPAIGN_DOUBLINGS);
        size.min(affordable).min(self.people.contacts()).max(1)
    }

    /// Each contact gets one touch: those of neighbouring numbers, who share accounts, or an even sample of all.
    fn run_campaign(&mut self, size: u64) {
        let number = self.campaign;
        self.campaign += 1;
        self.campaign_touches += size;
        let campaign = Campaign::new(self.families.campaigns, number);
        let contacts = self.people.contacts();
        let step = if campaign.by_account { 1 } else { contacts / size };
        let start = self.draw.below(contacts);
        // Sent at one time of day, in each contact's own zone, over half an hour.
        let time_of_day = self.draw.within(8..=11) * HOUR;
        for place in 0..size {
            let person = self.people.person((start + place * step) % contacts);
            let sent = time_of_day + self.draw.below(30 * MINUTE);
            let sent = self.clock.on_workday(self.clock.local(self.day, person.zone, sent), person.zone);
            self.touch(&person, campaign.channel, Some(number), sent);
        }
    }

    fn happen(&mut self) {
        let what = self.draw.weigh(&HAPPENINGS);
        let person = match what {
            Happening::ReachOut | Happening::Learn => Some(self.anyone()),
            _ => self.someone_keen(),
        };
        let Some(person) = person else { return self.remind() };
        match what {
            Happening::Browse => self.browse(&person),
            Happening::Gather => self.gather(&person),
            Happening::Talk => self.talk(&person),
            Happening::Book => self.book(&person),
            Happening::ReachOut => self.reach_out(&person),
            Happening::Advocate => self.advocate(&person),
            Happening::Deal => self.deal(&person),
            Happening::Learn => self.learn(&person),
        }
    }

    fn anyone(&mut self) -> Person {
        self.people.person(self.draw.below(self.people.contacts()))
    }

    fn someone_keen(&mut self) -> Option<Person> {
        for _ in 0..TRIES {
            let number = self.draw.below(self.people.contacts());
            if self.is_keen(&self.people.life(number), self.day) {
                return Some(self.people.person(number));
            }
        }
        None
    }

    fn is_keen(&mut self, life: &Life, day: u64) -> bool {
        self.draw.below(KEENEST) < life.keenness_on(day)
    }

    /// One of our people writes or calls.
    fn reach_out(&mut self, person: &Person) {
        let channel = self.draw.weigh(&catalogue::PERSONAL_CHANNELS);
        let sent = self.clock.at_work(self.day, person.zone, &mut self.draw);
        self.touch(person, channel, None, sent);
    }

    /// Nobody is in the mood: an automatic e-mail, which also goes out on weekends, so that a day always gets its events.
    fn remind(&mut self) {
        let person = self.anyone();
        let sent = self.clock.awake(self.day, person.zone, &mut self.draw);
        self.touch(&person, &catalogue::EMAIL, None, sent);
    }

    /// A touch, and what comes of it.
    fn touch(&mut self, person: &Person, channel: &'static Channel, campaign: Option<u64>, sent: u64) {
        let touch = self.file(person, sent, What::Touch { channel, campaign });
        let answers = Some(Answered { touch, campaign });
        if channel.name == catalogue::EMAIL.name {
            if self.draw.per_mille(SCANNED_PER_MILLE) {
                let clicked = sent + self.draw.within(SECOND..=90 * SECOND);
                self.file(person, clicked, What::Engagement { vehicle: &catalogue::SCAN, answers });
            }
            if self.draw.per_mille(OPENED_PER_MILLE) {
                let opened = sent + self.draw.within(MINUTE..=2 * DAY);
                self.file(person, opened, What::Engagement { vehicle: &catalogue::OPEN, answers });
            }
        }
        // Few wait for long.
        let longest = self.draw.within(1..=9);
        let day = clock::day_of(sent) + self.draw.within(1..=longest);
        if self.is_keen(&person.life, day) {
            let vehicle = self.draw.weigh(&catalogue::ANSWERS);
            let answered = self.clock.at_work(day, person.zone, &mut self.draw);
            self.file(person, answered, What::Engagement { vehicle, answers });
        }
    }

    /// The contact reads, watches or posts something.
    fn browse(&mut self, person: &Person) {
        let vehicle = self.draw.weigh(&catalogue::BROWSING);
        let at = self.clock.awake(self.day, person.zone, &mut self.draw);
        self.file(person, at, What::Engagement { vehicle, answers: None });
    }

    /// The contact and one of our people talk.
    fn talk(&mut self, person: &Person) {
        let vehicle = self.draw.weigh(&catalogue::TALKS);
        let at = self.clock.at_work(self.day, person.zone, &mut self.draw);
        let at = if vehicle.source == "crm" { to_the_minute(at) } else { at };
        self.file(person, at, What::Engagement { vehicle, answers: None });
    }

    /// Attends a gathering of today, or signs up for one to come.
    fn gather(&mut self, person: &Person) {
        let ahead = if self.draw.per_mille(200) { self.draw.within(1..=14) } else { 0 };
        let day = self.day + ahead;
        if is_weekend(day) {
            return self.browse(person);
        }
        let region = person.region();
        let gathering = GatheringId { day, region, number: self.draw_gathering(day) };
        let begins = Gathering::new(self.families.gatherings, gathering).begins;
        let mut part = Part::Attended;
        if ahead > 0 {
            let at = self.clock.awake(self.day, person.zone, &mut self.draw);
            self.file(person, at, What::Attendance { gathering, part: Part::Registered });
            if person.life.keenness_on(day) == 0 || self.draw.per_mille(250) {
                part = Part::Missed;
            }
        }
        let at = if part == Part::Attended { begins + self.draw.below(15 * MINUTE) } else { begins };
        self.file(person, at, What::Attendance { gathering, part });
    }

    /// The low numbers are the large ones.
    fn draw_gathering(&mut self, day: u64) -> u64 {
        let people = self.pace.on(day) * ATTENDANCE_PER_MILLE / 1000;
        let count = 1 + people / ATTENDANCE / clock::REGIONS.len() as u64;
        let highest = self.draw.within(1..=count);
        self.draw.below(highest)
    }

    /// A meeting some days ahead: kept in a calendar, which revises its records, or in the CRM, which writes new ones.
    fn book(&mut self, person: &Person) {
        let booking = self.serial;
        let in_calendar = self.draw.per_mille(600);
        let mut noted = to_the_minute(self.clock.at_work(self.day, person.zone, &mut self.draw));
        let mut scheduled = self.draw_slot(person, self.day);
        let mut record =
            Meeting { booking, scheduled, status: MeetingStatus::Planned, revision: in_calendar.then_some(1) };
        self.file(person, noted, What::Meeting(record.clone()));
        if in_calendar && self.draw.per_mille(200) {
            noted = self.between(person, noted, scheduled);
            scheduled = self.draw_slot(person, clock::day_of(scheduled));
            record = Meeting { scheduled, revision: Some(2), ..record };
            self.file(person, noted, What::Meeting(record.clone()));
        }
        let Some(status) = self.draw_outcome(person, scheduled, in_calendar) else { return };
        let (at, delay) = match status {
            MeetingStatus::Cancelled | MeetingStatus::Void => (self.between(person, noted, scheduled), 0),
            // Written down when it is over, or at the end of the day.
            _ => (scheduled, self.draw.within(HOUR..=8 * HOUR)),
        };
        let revision = record.revision.map(|revision| revision + 1);
        self.file_later(person, at, delay, What::Meeting(Meeting { status, revision, ..record }));
    }

    /// Some time on the day in the middle between two moments days apart.
    fn between(&mut self, person: &Person, before: u64, after: u64) -> u64 {
        to_the_minute(self.clock.awake(clock::day_of(before.midpoint(after)), person.zone, &mut self.draw))
    }

    /// A half hour of a workday some days after.
    fn draw_slot(&mut self, person: &Person, day: u64) -> u64 {
        let moment = self.clock.at_work(day + self.draw.within(3..=21), person.zone, &mut self.draw);
        moment - moment % (30 * MINUTE)
    }

    /// What became of a meeting; nothing if nobody wrote it down.
    fn draw_outcome(&mut self, person: &Person, scheduled: u64, in_calendar: bool) -> Option<MeetingStatus> {
        let silent = person.life.keenness_on(clock::day_of(scheduled)) == 0;
        match self.draw.below(100) {
            0..8 => None,
            8..16 if in_calendar => Some(MeetingStatus::Void),
            16..26 => Some(MeetingStatus::Cancelled),
            26..32 => Some(MeetingStatus::NoShow),
            _ if silent => Some(MeetingStatus::Cancelled),
            _ => Some(MeetingStatus::Attended),
        }
    }

    /// The contact speaks for us, or against.
    fn advocate(&mut self, person: &Person) {
        let measure = self.draw.weigh(&catalogue::ADVOCACY);
        let at = self.clock.awake(self.day, person.zone, &mut self.draw);
        self.file(person, at, What::Advocacy { measure });
    }

    /// An opportunity from stage to stage, each with its amount; or news of a contract that exists.
    fn deal(&mut self, person: &Person) {
        let deal = self.serial;
        let steps: &[Step] = match self.draw.below(100) {
            0..12 => &[Step::Renewal],
            12..16 => &[Step::Churn],
            16..45 => &[Step::Open(0), Step::Open(1), Step::Open(2), Step::Won, Step::Order],
            _ => &[Step::Open(0), Step::Open(1), Step::Open(2), Step::Lost],
        };
        let mut day = self.day;
        for step in steps {
            let at = to_the_minute(self.clock.at_work(day, person.zone, &mut self.draw));
            self.file(person, at, What::Value { deal, step: *step });
            day += self.draw.within(7..=45);
        }
    }

    /// The CRM learns who the contact or its account is.
    fn learn(&mut self, person: &Person) {
        let at = self.clock.at_work(self.day, person.zone, &mut self.draw);
        let what = if self.draw.per_mille(150) { What::AccountProfile } else { What::ContactProfile };
        self.file(person, at, what);
    }

    /// Files what happened as the next draft, to arrive at once; gives its serial number.
    fn file(&mut self, person: &Person, occurred: u64, what: What) -> u64 {
        self.file_later(person, occurred, 0, what)
    }

    /// The same, to arrive so much after it occurred.
    fn file_later(&mut self, person: &Person, occurred: u64, delay: u64, what: What) -> u64 {
        let serial = self.serial;
        self.serial += 1;
        let Person { number: contact, account, .. } = *person;
        self.diary.file(Draft { arrives: occurred + delay, occurred, serial, contact, account, what, copy: false });
        serial
    }
}
