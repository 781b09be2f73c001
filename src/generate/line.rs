//! A draft → its line: canonical JSON, written by hand, since a million lines a second leave no time for a serializer.
//!
//! Fields stand in the order of the canonical form.

use super::catalogue::{self, Campaign, Channel, Gathering, GatheringId, Measure, Vehicle};
use super::clock::{REGIONS, ZONES};
use super::draft::{Answered, Draft, Meeting, MeetingStatus, Part, Step, What};
use super::draw::{Draw, Families};
use super::json::Line;
use super::people::People;

/// Longer than any line, by far; so much room is made before each.
pub const LINE_BYTES: usize = 1024;
/// Stages of an open opportunity.
const STAGES: [&str; 3] = ["discovery", "proposal", "negotiation"];
/// Of a thousand contacts, those whose profile tells of a last engagement in a system before ours.
const IMPORTED_PER_MILLE: u64 = 60;
/// Of a thousand meetings, those that one of our people asked for; the contact asked for the others.
const ASKED_BY_US_PER_MILLE: u64 = 650;

/// Writes lines. What a line says beyond its draft comes from streams of the draft's own numbers.
#[derive(Debug)]
pub struct Scribe<'a> {
    people: &'a People,
    families: Families,
}

impl<'a> Scribe<'a> {
    /// One who knows these people.
    pub fn new(people: &'a People, families: Families) -> Scribe<'a> {
        Scribe { people, families }
    }

    /// Appends the draft's line, with its line feed, and all its moments moved by so many milliseconds.
    pub fn write(&self, draft: &Draft, moved: i64, out: &mut Vec<u8>) {
        out.reserve(LINE_BYTES);
        let mut line = Line { out, moved };
        let draw = self.families.lines.stream(draft.serial);
        match &draft.what {
            What::Touch { channel, campaign } => self.touch(&mut line, draft, draw, channel, *campaign),
            What::Engagement { vehicle, answers } => self.engagement(&mut line, draft, draw, vehicle, *answers),
            What::Attendance { gathering, part } => self.attendance(&mut line, draft, draw, *gathering, *part),
            What::Meeting(meeting) => self.meeting(&mut line, draft, meeting),
            What::Advocacy { measure } => self.advocacy(&mut line, draft, draw, measure),
            What::Value { deal, step } => self.value(&mut line, draft, *deal, *step),
            What::ContactProfile => self.contact_profile(&mut line, draft),
            What::AccountProfile => self.account_profile(&mut line, draft),
        }
        line.raw("}\n");
    }

    fn touch(&self, line: &mut Line, draft: &Draft, mut draw: Draw, channel: &Channel, campaign: Option<u64>) {
        line.id("t", draft.serial);
        self.head(line, draft, channel.source, "touch");
        let known = campaign.map(|number| (number, Campaign::new(self.families.campaigns, number)));
        let theme = known.as_ref().map_or_else(|| catalogue::theme(&mut draw), |(_, campaign)| campaign.theme);
        match &known {
            Some((number, _)) => line.campaign(*number, theme),
            None => self.by(line, draft),
        }
        line.text("content", theme.content);
        self.cost(line, draft, draw.within(channel.cents.clone()));
        line.text("channel", channel.name);
        if let Some((_, campaign)) = &known {
            line.text("offer", campaign.offer);
        }
    }

    fn engagement(&self, line: &mut Line, draft: &Draft, mut draw: Draw, vehicle: &Vehicle, answers: Option<Answered>) {
        line.id("e", draft.serial);
        self.head(line, draft, vehicle.source, "engagement");
        let campaign = answers.and_then(|answered| answered.campaign);
        let theme = match campaign {
            Some(number) => Campaign::new(self.families.campaigns, number).theme,
            None => catalogue::theme(&mut draw),
        };
        match vehicle.source {
            "crm" => self.by(line, draft),
            "events" => line.text("title", theme.title),
            "web" => line.url(theme),
            _ => {}
        }
        if let Some(number) = campaign {
            line.campaign(number, theme);
        }
        line.text("content", theme.content);
        line.vehicle(vehicle);
        if let Some(minutes) = &vehicle.minutes {
            line.number("minutes", draw.within(minutes.clone()));
        }
        if let Some(answered) = answers {
            line.numbered("in_response_to", "t", answered.touch);
        }
    }

    fn attendance(&self, line: &mut Line, draft: &Draft, mut draw: Draw, id: GatheringId, part: Part) {
        let gathering = Gathering::new(self.families.gatherings, id);
        let vehicle = gathering.vehicle;
        let mark = if part == Part::Registered { "-registration#" } else { "#" };
        line.raw("{\"id\":\"").occasion(vehicle, id).raw(mark).contact(draft.contact);
        self.head(line, draft, vehicle.source, "engagement");
        line.text("title", gathering.theme.title);
        line.text("content", gathering.theme.content);
        if part == Part::Attended {
            self.cost(line, draft, gathering.cents);
        }
        line.vehicle(vehicle);
        match part {
            Part::Attended => {}
            Part::Missed => line.text("status", "no_show"),
            Part::Registered => {
                line.text("status", "planned");
                line.time("scheduled_for", gathering.begins);
            }
        }
        line.name("occasion").raw("\"").occasion(vehicle, id).raw("\"");
        line.text("target", gathering.target);
        if let (Part::Attended, Some(minutes)) = (part, &vehicle.minutes) {
            line.number("minutes", draw.within(minutes.clone()));
        }
    }

    fn meeting(&self, line: &mut Line, draft: &Draft, meeting: &Meeting) {
        // All records of a meeting tell the same of it.
        let mut draw = self.families.lines.stream(meeting.booking);
        let source = match meeting.revision {
            Some(_) => {
                line.id("cal", meeting.booking);
                "calendar"
            }
            // Without revisions each record is one of its own, and their occasion links them.
            None => {
                line.id("m", draft.serial);
                "crm"
            }
        };
        self.head(line, draft, source, "engagement");
        if let Some(revision) = meeting.revision {
            line.number("revision", revision);
        }
        if meeting.status == MeetingStatus::Void {
            line.raw(",\"void\":true");
        }
        let theme = catalogue::theme(&mut draw);
        line.text("title", theme.title);
        if draw.per_mille(ASKED_BY_US_PER_MILLE) {
            self.by(line, draft);
        }
        line.text("content", theme.content);
        line.text("vehicle", "meeting");
        line.text("interaction", "two_way");
        line.text("status", meeting.status.name());
        line.time("scheduled_for", meeting.scheduled);
        line.numbered("occasion", "meeting-", meeting.booking);
        if meeting.status == MeetingStatus::Attended {
            line.number("minutes", draw.within(2..=9) * 10);
        }
    }

    fn advocacy(&self, line: &mut Line, draft: &Draft, mut draw: Draw, measure: &Measure) {
        line.id("a", draft.serial);
        self.head(line, draft, measure.source, "advocacy");
        line.text("measure", measure.name);
        if measure.name == catalogue::NPS.name {
            // Those who answer are mostly content: the better of two draws.
            let (one, other) = (draw.below(11), draw.below(11));
            line.number("score", one.max(other));
        } else {
            // The sign says for or against.
            line.name("score").raw(if draw.per_mille(120) { "-1" } else { "1" });
            line.numbered("ref", "lead-", draft.serial);
        }
    }

    fn value(&self, line: &mut Line, draft: &Draft, deal: u64, step: Step) {
        line.id("v", draft.serial);
        self.head(line, draft, "crm", "value");
        // All records of a deal tell the same of it, but that the amount moves with the stage.
        let mut draw = self.families.lines.stream(deal);
        let product = draw.pick(&catalogue::PRODUCTS);
        let quantity = draw.within(1..=40);
        let unit = draw.within(500..=9_000);
        let (measure, reference, stage, outcome, percent) = match step {
            Step::Open(stage) => {
                ("opportunity", "opp-", STAGES.get(stage as usize).copied(), Some("open"), 120 - 10 * stage)
            }
            Step::Won => ("opportunity", "opp-", Some("closed"), Some("won"), 90),
            Step::Lost => ("opportunity", "opp-", Some("closed"), Some("lost"), 90),
            Step::Order => ("order", "ord-", None, None, 90),
            Step::Renewal => ("renewal", "ren-", None, Some("won"), 100),
            Step::Churn => ("churn", "ren-", None, Some("lost"), 100),
        };
        line.text("measure", measure);
        line.numbered("ref", reference, deal);
        if let Some(stage) = stage {
            line.text("stage", stage);
        }
        if let Some(outcome) = outcome {
            line.text("outcome", outcome);
        }
        line.cents("amount", quantity * unit * percent);
        line.text("currency", self.currency(draft));
        line.text("product", product);
        line.number("quantity", quantity);
    }

    fn contact_profile(&self, line: &mut Line, draft: &Draft) {
        line.id("p", draft.serial);
        self.head(line, draft, "crm", "profile");
        let person = self.people.person(draft.contact);
        let mut draw = self.families.portraits.stream(draft.contact);
        let (first, last) = (draw.pick(&catalogue::FIRST_NAMES), draw.pick(&catalogue::LAST_NAMES));
        let job = draw.weigh(&catalogue::JOBS);
        line.name("name").raw("\"").raw(first).raw(" ").raw(last).raw("\"");
        line.text("job_title", job.title);
        line.text("role", job.role);
        line.text("seniority", job.seniority);
        line.text("audience", job.audience);
        line.text("segment", self.people.company(draft.account).segment);
        line.numbered("owner", "ae-", self.people.owner_of(draft.account));
        line.name("email").raw("\"").lower(first).raw(".").lower(last).raw(".").digits(draft.contact, 1);
        line.raw("@").account(draft.account).raw("\"");
        line.text("timezone", ZONES[person.zone].1.name);
        if draw.per_mille(IMPORTED_PER_MILLE) {
            line.time("last_engagement_at", person.known_before());
        }
    }

    fn account_profile(&self, line: &mut Line, draft: &Draft) {
        line.id("p", draft.serial);
        line.envelope("crm", "profile", draft.occurred, draft.account);
        let company = self.people.company(draft.account);
        line.text("segment", company.segment);
        line.numbered("owner", "ae-", self.people.owner_of(draft.account));
        line.text("timezone", ZONES[company.zone].1.name);
        line.name("account_name").raw("\"").company(draft.account).raw(" Group\"");
        line.name("domain").raw("\"").account(draft.account).raw("\"");
        line.text("lifecycle", company.lifecycle);
    }

    /// What follows the id in every record that has a contact.
    fn head(&self, line: &mut Line, draft: &Draft, source: &str, kind: &str) {
        line.envelope(source, kind, draft.occurred, draft.account);
        line.name("contact").raw("\"").contact(draft.contact).raw("\"");
    }

    fn by(&self, line: &mut Line, draft: &Draft) {
        line.numbered("by", "ae-", self.people.owner_of(draft.account));
    }

    fn cost(&self, line: &mut Line, draft: &Draft, cents: u64) {
        line.cents("cost", cents);
        line.text("currency", self.currency(draft));
    }

    /// Accounts pay in the currency of their headquarters.
    fn currency(&self, draft: &Draft) -> &'static str {
        let (_, zone) = &ZONES[self.people.company(draft.account).zone];
        REGIONS[zone.region].currency
    }
}
