//! What a programme of relationship marketing is made of: channels, vehicles, themes, campaigns, gatherings. Tables, and
//! what is drawn from them. None of the words needs escaping in JSON.

use std::ops::RangeInclusive;

use super::clock::{HOUR, MINUTE, REGIONS, midnight};
use super::draw::{Draw, Family};

/// A way to reach a contact.
#[derive(Debug)]
pub struct Channel {
    /// Its canonical name.
    pub name: &'static str,
    /// The system that records it.
    pub source: &'static str,
    /// What one touch costs, in cents.
    pub cents: RangeInclusive<u64>,
}

/// E-mail: opened, scanned and answered as no other channel is.
pub static EMAIL: Channel = Channel { name: "email", source: "mail", cents: 2..=9 };
static PHONE: Channel = Channel { name: "phone", source: "crm", cents: 600..=1_900 };
static POST: Channel = Channel { name: "post", source: "crm", cents: 180..=650 };
static SOCIAL: Channel = Channel { name: "social", source: "social", cents: 10..=90 };
static AD: Channel = Channel { name: "ad", source: "ads", cents: 40..=300 };
static MEETING: Channel = Channel { name: "meeting", source: "crm", cents: 2_000..=9_000 };

static CAMPAIGN_CHANNELS: [(u64, &Channel); 5] = [(70, &EMAIL), (9, &SOCIAL), (9, &AD), (7, &POST), (5, &PHONE)];
/// Channels of touches that one of our people makes alone.
pub static PERSONAL_CHANNELS: [(u64, &Channel); 4] = [(50, &EMAIL), (35, &PHONE), (8, &SOCIAL), (7, &MEETING)];
static OFFERS: [&str; 6] = ["briefing", "demo", "report", "workshop", "assessment", "invitation"];

/// A way for a contact to take part.
#[derive(Debug)]
pub struct Vehicle {
    /// Its canonical name.
    pub name: &'static str,
    /// The system that records it.
    pub source: &'static str,
    /// Absent where the system does not tell, and the vehicle's default holds.
    pub interaction: Option<&'static str>,
    /// How long it takes, if that is known.
    pub minutes: Option<RangeInclusive<u64>>,
}

const TWO_WAY: Option<&str> = Some("two_way");
const ONE_WAY: Option<&str> = Some("one_way");

macro_rules! vehicles {
    ($($row:ident = $name:literal, $source:literal, $interaction:expr, $minutes:expr;)*) => {
        $(static $row: Vehicle =
            Vehicle { name: $name, source: $source, interaction: $interaction, minutes: $minutes };)*
    };
}
vehicles! {
    VISIT = "web", "web", ONE_WAY, Some(1..=12);
    WHITEPAPER = "whitepaper", "web", ONE_WAY, None;
    RECORDING = "webcast", "events", ONE_WAY, Some(8..=45);
    NEWSLETTER = "newsletter", "mail", ONE_WAY, None;
    MAGAZINE = "magazine", "web", ONE_WAY, Some(2..=15);
    POSTING = "community", "community", TWO_WAY, None;
    REPLY = "email", "mail", TWO_WAY, None;
    CALL = "call", "crm", TWO_WAY, Some(3..=35);
    MEETING_HELD = "meeting", "crm", TWO_WAY, Some(20..=90);
    VIDEO_CALL = "virtual_meeting", "crm", TWO_WAY, Some(15..=60);
    DEMO = "demo", "crm", TWO_WAY, Some(20..=45);
    WEBCAST = "webcast", "events", ONE_WAY, Some(15..=60);
    CONFERENCE = "conference", "events", None, Some(120..=480);
    ROUNDTABLE = "roundtable", "events", None, Some(60..=120);
    SEMINAR = "seminar", "events", None, Some(45..=180);
}
/// An open, which may be a person's or not.
pub static OPEN: Vehicle = Vehicle { name: "email", source: "mail", interaction: Some("passive"), minutes: None };
/// A click by the scanner in front of a mailbox.
pub static SCAN: Vehicle = Vehicle { name: "email", source: "mail", interaction: Some("machine"), minutes: None };

/// What contacts do by themselves, at any hour.
pub static BROWSING: [(u64, &Vehicle); 6] =
    [(50, &VISIT), (15, &WHITEPAPER), (12, &POSTING), (10, &RECORDING), (8, &NEWSLETTER), (5, &MAGAZINE)];
/// What they do with one of our people, in office hours.
pub static TALKS: [(u64, &Vehicle); 5] =
    [(40, &CALL), (25, &REPLY), (15, &MEETING_HELD), (12, &VIDEO_CALL), (8, &DEMO)];
/// How they answer a touch.
pub static ANSWERS: [(u64, &Vehicle); 5] = [(45, &VISIT), (20, &WHITEPAPER), (20, &REPLY), (10, &CALL), (5, &DEMO)];

/// What something is about.
#[derive(Debug)]
pub struct Theme {
    /// The canonical `content`.
    pub content: &'static str,
    /// In a campaign's name.
    pub slug: &'static str,
    /// The title of what is read, watched or attended.
    pub title: &'static str,
}

static THEMES: [Theme; 12] = [
    Theme { content: "strategy", slug: "resilience", title: "Supply chains after the storm" },
    Theme { content: "strategy", slug: "cfo-agenda", title: "What finance chiefs fund next" },
    Theme { content: "strategy", slug: "outlook", title: "The next five years in your industry" },
    Theme { content: "strategy", slug: "workforce", title: "Where the skills will come from" },
    Theme { content: "solution", slug: "faster-close", title: "Closing the books in three days" },
    Theme { content: "solution", slug: "cost-to-serve", title: "Knowing the cost of each customer" },
    Theme { content: "solution", slug: "forecasting", title: "Forecasts that planners believe" },
    Theme { content: "product", slug: "spring-release", title: "What is new this spring" },
    Theme { content: "product", slug: "migration", title: "Moving without a lost weekend" },
    Theme { content: "technical", slug: "deep-dive", title: "Inside the storage engine" },
    Theme { content: "technical", slug: "integration", title: "Streaming data between two clouds" },
    Theme { content: "technical", slug: "security", title: "Keys, tokens and who may read what" },
];

/// A theme.
pub fn theme(draw: &mut Draw) -> &'static Theme {
    &THEMES[draw.below(THEMES.len() as u64) as usize]
}

/// Touches of one kind at many contacts.
#[derive(Debug)]
pub struct Campaign {
    /// How the contacts are reached.
    pub channel: &'static Channel,
    /// What about.
    pub theme: &'static Theme,
    /// What is offered.
    pub offer: &'static str,
    /// Whether it goes to whole accounts, and not to contacts here and there.
    pub by_account: bool,
}

impl Campaign {
    /// The campaign of this number.
    pub fn new(campaigns: Family, number: u64) -> Campaign {
        let mut draw = campaigns.stream(number);
        Campaign {
            channel: draw.weigh(&CAMPAIGN_CHANNELS),
            theme: theme(&mut draw),
            offer: draw.pick(&OFFERS),
            by_account: draw.per_mille(200),
        }
    }
}

/// Which gathering.
#[derive(Clone, Copy, Debug)]
pub struct GatheringId {
    /// The day on which it takes place.
    pub day: u64,
    /// Its place in [`REGIONS`].
    pub region: usize,
    /// Its number on that day in that region.
    pub number: u64,
}

/// An occasion with many contacts: a webcast, a conference, a seminar, a roundtable.
#[derive(Debug)]
pub struct Gathering {
    /// What kind.
    pub vehicle: &'static Vehicle,
    /// What about.
    pub theme: &'static Theme,
    /// Whom it was designed for.
    pub target: &'static str,
    /// What it costs for each who comes, in cents.
    pub cents: u64,
    /// When it begins.
    pub begins: u64,
}

/// Vehicles of gatherings, with what each who comes costs, in cents.
static GATHERINGS: [(u64, (&Vehicle, &RangeInclusive<u64>)); 4] = [
    (45, (&WEBCAST, &(300..=1_500))),
    (25, (&SEMINAR, &(4_000..=12_000))),
    (18, (&ROUNDTABLE, &(9_000..=30_000))),
    (12, (&CONFERENCE, &(25_000..=90_000))),
];
static TARGETS: [(u64, &str); 3] = [(60, "lob"), (22, "mixed"), (18, "technical")];
/// Gatherings begin within a region's four hours, on the hour or half past.
const STARTS: u64 = 8;

impl Gathering {
    /// The gathering of this name.
    pub fn new(gatherings: Family, id: GatheringId) -> Gathering {
        // Bits of their own for each part: a region never has 2²⁴ gatherings a day.
        let mut draw = gatherings.stream(id.day << 32 | (id.region as u64) << 24 | id.number);
        let (vehicle, cents) = draw.weigh(&GATHERINGS);
        Gathering {
            vehicle,
            theme: theme(&mut draw),
            target: draw.weigh(&TARGETS),
            cents: draw.within(cents.clone()),
            begins: midnight(id.day) + REGIONS[id.region].opens * HOUR + draw.below(STARTS) * 30 * MINUTE,
        }
    }
}

/// A way to recommend us, or the opposite.
#[derive(Debug)]
pub struct Measure {
    /// Its canonical name.
    pub name: &'static str,
    /// The system that records it.
    pub source: &'static str,
}

/// The question whose answer is a number from 0 to 10.
pub static NPS: Measure = Measure { name: "nps", source: "survey" };
static REFERRAL: Measure = Measure { name: "referral", source: "crm" };
static REFERENCE_CALL: Measure = Measure { name: "reference_call", source: "crm" };
/// Measures of advocacy.
pub static ADVOCACY: [(u64, &Measure); 3] = [(60, &NPS), (22, &REFERRAL), (18, &REFERENCE_CALL)];

/// What a contact does at work.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// On the card.
    pub title: &'static str,
    /// The canonical `role`.
    pub role: &'static str,
    /// The canonical `seniority`.
    pub seniority: &'static str,
    /// The canonical `audience`.
    pub audience: &'static str,
}

const fn job(title: &'static str, role: &'static str, seniority: &'static str, audience: &'static str) -> Job {
    Job { title, role, seniority, audience }
}

/// The jobs, by weight.
pub static JOBS: [(u64, Job); 14] = [
    (9, job("VP Operations", "line_of_business", "vp", "business")),
    (9, job("VP Supply Chain", "line_of_business", "vp", "business")),
    (9, job("Director of Finance", "line_of_business", "director", "business")),
    (9, job("Director of Marketing", "line_of_business", "director", "business")),
    (6, job("Head of Manufacturing", "line_of_business", "director", "technical")),
    (4, job("Chief Financial Officer", "decision_maker", "cxo", "business")),
    (4, job("Chief Information Officer", "decision_maker", "cxo", "technical")),
    (2, job("Chief Executive Officer", "decision_maker", "cxo", "business")),
    (9, job("Procurement Manager", "functional", "manager", "business")),
    (6, job("IT Manager", "functional", "manager", "technical")),
    (5, job("Project Manager", "functional", "manager", "business")),
    (11, job("Data Analyst", "user", "staff", "technical")),
    (9, job("Solution Architect", "user", "staff", "technical")),
    (8, job("Planner", "user", "staff", "business")),
];

/// What accounts are to us, by weight.
pub static LIFECYCLES: [(u64, &str); 3] = [(45, "customer"), (40, "prospect"), (15, "out_of_market")];
/// Segments that sales and marketing agree on.
pub static SEGMENTS: [&str; 5] = ["manufacturing", "retail", "finance", "health", "public"];
/// What we sell.
pub static PRODUCTS: [&str; 5] = ["platform", "analytics", "integration", "support", "training"];

/// First names, as in an e-mail address.
pub static FIRST_NAMES: [&str; 24] = [
    "Ada", "Ben", "Chen", "Dana", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kenji", "Lena", "Marta",
    "Nikhil", "Olga", "Pedro", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Victor", "Wanda", "Yusuf",
];
/// Last names, as in an e-mail address.
pub static LAST_NAMES: [&str; 24] = [
    "Adler", "Bianchi", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Kowalski",
    "Larsen", "Moreau", "Nguyen", "Okafor", "Patel", "Rossi", "Silva", "Tanaka", "Usman", "Varga", "Weber", "Yilmaz",
    "Zhang",
];
/// First parts of companies' names.
pub static COMPANIES: [&str; 32] = [
    "alder", "birch", "cedar", "delta", "ember", "falcon", "granite", "harbor", "indigo", "juniper", "krona", "lumen",
    "meridian", "norden", "orchard", "pinnacle", "quarry", "ridge", "summit", "timber", "umbra", "vertex", "willow",
    "xenon", "yarrow", "zephyr", "atlas", "beacon", "cobalt", "dynamo", "estuary", "foundry",
];
