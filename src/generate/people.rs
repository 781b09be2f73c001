//! Who there is: accounts of very different sizes, and contacts, each with a life.
//!
//! Nothing here is kept: a contact is drawn from the seed whenever one asks for it, so millions cost no memory.

use super::catalogue::{LIFECYCLES, SEGMENTS};
use super::clock::{DAY, DAYS, ZONES, midnight};
use super::draw::{Draw, Families};

/// Contacts an account has, from the long tail to the few that hold thousands. As many contacts live in accounts of each
/// size, so accounts of *n* contacts or more are one in *n*: Zipf's law, in whole numbers.
const SIZES: [u64; 20] =
    [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1_597, 2_584, 4_181, 6_765, 10_946];
/// No account holds more than this part of all contacts, else a small load would have one account only.
const LARGEST_SHARE: u64 = 32;
/// Accounts that one account executive looks after.
const ACCOUNTS_PER_OWNER: u64 = 40;

/// How keen the keenest contact is.
pub const KEENEST: u64 = 64;
/// How keen contacts are, by weight: the busiest seventh does almost half of it all.
static KEENNESS: [(u64, u64); 5] = [(40, KEENEST), (100, 32), (220, 16), (340, 8), (300, 4)];

/// Those of one account size.
#[derive(Clone, Copy, Debug)]
struct Tier {
    size: u64,
    first_contact: u64,
    first_account: u64,
}

/// All contacts and accounts, by number.
#[derive(Debug)]
pub struct People {
    contacts: u64,
    tiers: Vec<Tier>,
    families: Families,
}

/// One contact.
#[derive(Debug)]
pub struct Person {
    /// Its number.
    pub number: u64,
    /// Its account's number.
    pub account: u64,
    /// Its place in [`ZONES`].
    pub zone: usize,
    /// How its interest goes.
    pub life: Life,
}

/// The interest of a contact, from first to last.
#[derive(Debug)]
pub struct Life {
    keenness: u64,
    joined: u64,
    course: Course,
}

/// A client company.
#[derive(Debug)]
pub struct Company {
    /// Where its headquarters are, as a place in [`ZONES`].
    pub zone: usize,
    /// A segment that sales and marketing agree on.
    pub segment: &'static str,
    /// What it is to us.
    pub lifecycle: &'static str,
}

/// How a contact's interest goes on.
#[derive(Clone, Copy, Debug)]
enum Course {
    /// It stays.
    Steady,
    /// It halves every so many days.
    Fading { half_life: u64 },
    /// It ends on a day, for good.
    Ending { day: u64 },
    /// It comes and goes: so many days of interest, then so many of silence.
    Returning { interest: u64, silence: u64, phase: u64 },
}

impl People {
    /// So many contacts, at least one.
    pub fn new(contacts: u64, families: Families) -> People {
        let count = SIZES.iter().filter(|size| **size * LARGEST_SHARE <= contacts).count().max(1);
        let mut tiers = Vec::with_capacity(count);
        let mut first_account = 0;
        for (place, size) in SIZES.iter().take(count).enumerate() {
            let border = |place: usize| (u128::from(contacts) * place as u128 / count as u128) as u64;
            let (first_contact, end) = (border(place), border(place + 1));
            tiers.push(Tier { size: *size, first_contact, first_account });
            first_account += (end - first_contact).div_ceil(*size);
        }
        People { contacts, tiers, families }
    }

    /// How many contacts there are.
    pub fn contacts(&self) -> u64 {
        self.contacts
    }

    /// The account of a contact; those of one account have consecutive numbers.
    pub fn account_of(&self, contact: u64) -> u64 {
        let place = self.tiers.partition_point(|tier| tier.first_contact <= contact).saturating_sub(1);
        let tier = self.tiers[place];
        tier.first_account + (contact - tier.first_contact) / tier.size
    }

    /// The contact of this number.
    pub fn person(&self, number: u64) -> Person {
        let account = self.account_of(number);
        let mut draw = self.families.lives.stream(number);
        let life = Life::new(&mut draw);
        // Most work where their company is.
        let zone = if draw.per_mille(750) { self.company(account).zone } else { draw.weigh_place(&ZONES) };
        Person { number, account, zone, life }
    }

    /// The life of a contact alone: most of those who are looked at are not in the mood, and need no more.
    pub fn life(&self, number: u64) -> Life {
        Life::new(&mut self.families.lives.stream(number))
    }

    /// The company behind an account.
    pub fn company(&self, account: u64) -> Company {
        let mut draw = self.families.companies.stream(account);
        Company { zone: draw.weigh_place(&ZONES), segment: draw.pick(&SEGMENTS), lifecycle: draw.weigh(&LIFECYCLES) }
    }

    /// The account executive of an account.
    pub fn owner_of(&self, account: u64) -> u64 {
        account / ACCOUNTS_PER_OWNER
    }
}

impl Person {
    /// The last engagement that a system before ours knew of: weeks to a year before the contact came to us.
    pub fn known_before(&self) -> u64 {
        midnight(self.life.joined) - (30 + self.number % 330) * DAY
    }

    /// Its place in [`super::clock::REGIONS`].
    pub fn region(&self) -> usize {
        ZONES[self.zone].1.region
    }
}

impl Life {
    fn new(draw: &mut Draw) -> Life {
        let keenness = draw.weigh(&KEENNESS);
        let joined = if draw.per_mille(600) { 0 } else { draw.below(DAYS * 3 / 4) };
        let course = match draw.below(100) {
            0..40 => Course::Steady,
            40..55 => Course::Fading { half_life: draw.within(60..=180) },
            55..72 => Course::Ending { day: joined + draw.within(30..=600) },
            _ => {
                let (interest, silence) = (draw.within(60..=240), draw.within(100..=250));
                Course::Returning { interest, silence, phase: draw.below(interest + silence) }
            }
        };
        Life { keenness, joined, course }
    }

    /// How likely the contact is to engage on a day, out of [`KEENEST`]; 0 in silence.
    pub fn keenness_on(&self, day: u64) -> u64 {
        let Some(age) = day.checked_sub(self.joined) else { return 0 };
        let interested = match self.course {
            Course::Steady => true,
            Course::Fading { half_life } => return self.keenness >> (age / half_life),
            Course::Ending { day: end } => day < end,
            Course::Returning { interest, silence, phase } => (day + phase) % (interest + silence) < interest,
        };
        if interested { self.keenness } else { 0 }
    }
}
