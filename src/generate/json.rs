//! A line under construction: members of a flat JSON object, appended to a buffer.

use super::catalogue::{COMPANIES, GatheringId, Theme, Vehicle};
use super::clock::{DAY, FIRST_DAY, HOUR, MINUTE, REGIONS, SECOND};

/// Digits of the largest number.
const DIGITS: usize = 20;
/// Contacts are padded to so many digits, so that they sort in their order up to ten million.
const CONTACT_DIGITS: usize = 7;

/// The end of a buffer. None of the text that goes in needs escaping.
#[derive(Debug)]
pub struct Line<'a> {
    /// The buffer.
    pub out: &'a mut Vec<u8>,
    /// By how many milliseconds all moments are moved.
    pub moved: i64,
}

impl Line<'_> {
    /// The text as it is.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// The text in lower case.
    pub fn lower(&mut self, text: &str) -> &mut Self {
        self.out.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
        self
    }

    /// A number, with zeros before it up to a width.
    pub fn digits(&mut self, number: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; DIGITS];
        let mut start = DIGITS;
        let mut left = number;
        while left > 0 {
            start -= 1;
            digits[start] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.out.extend_from_slice(&digits[start.min(DIGITS - width.min(DIGITS))..]);
        self
    }

    /// The name of a company, which no other account has.
    pub fn company(&mut self, account: u64) -> &mut Self {
        let count = COMPANIES.len() as u64;
        self.raw(COMPANIES[(account % count) as usize]).digits(account / count, 1)
    }

    /// An account, which is called by its mail domain.
    pub fn account(&mut self, account: u64) -> &mut Self {
        self.company(account).raw(".example")
    }

    /// A contact.
    pub fn contact(&mut self, contact: u64) -> &mut Self {
        self.raw("c").digits(contact, CONTACT_DIGITS)
    }

    /// The name of a gathering.
    pub fn occasion(&mut self, vehicle: &Vehicle, id: GatheringId) -> &mut Self {
        let (year, month, day) = civil(FIRST_DAY + id.day);
        self.raw(vehicle.name).raw("-").digits(year, 4).digits(month, 2).digits(day, 2);
        self.raw("-").raw(REGIONS[id.region].name).raw("-").digits(id.number, 1)
    }

    /// Opens the object with an id made of a number.
    pub fn id(&mut self, prefix: &str, number: u64) {
        self.raw("{\"id\":\"").raw(prefix).digits(number, 1);
    }

    /// Ends the id, and adds the members that every record has.
    pub fn envelope(&mut self, source: &str, kind: &str, occurred: u64, account: u64) {
        self.raw("\",\"source\":\"").raw(source).raw("\",\"kind\":\"").raw(kind).raw("\"");
        self.time("occurred_at", occurred);
        self.raw(",\"account\":\"").account(account).raw("\"");
    }

    /// The name of the next member.
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.raw(",\"").raw(name).raw("\":")
    }

    /// A string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name).raw("\"").raw(value).raw("\"");
    }

    /// A string that ends in a number.
    pub fn numbered(&mut self, name: &str, prefix: &str, number: u64) {
        self.name(name).raw("\"").raw(prefix).digits(number, 1).raw("\"");
    }

    /// A number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name).digits(number, 1);
    }

    /// A sum of money, as a decimal string.
    pub fn cents(&mut self, name: &str, cents: u64) {
        self.name(name).raw("\"").digits(cents / 100, 1).raw(".").digits(cents % 100, 2).raw("\"");
    }

    /// A moment, in UTC, with a fraction only if there is one.
    pub fn time(&mut self, name: &str, moment: u64) {
        let moment = moment.saturating_add_signed(self.moved);
        let (year, month, day) = civil(moment / DAY);
        self.name(name).raw("\"").digits(year, 4).raw("-").digits(month, 2).raw("-").digits(day, 2);
        self.raw("T").digits(moment % DAY / HOUR, 2);
        self.raw(":").digits(moment % HOUR / MINUTE, 2);
        self.raw(":").digits(moment % MINUTE / SECOND, 2);
        match moment % SECOND {
            0 => {}
            thousandths if thousandths % 100 == 0 => {
                self.raw(".").digits(thousandths / 100, 1);
            }
            thousandths if thousandths % 10 == 0 => {
                self.raw(".").digits(thousandths / 10, 2);
            }
            thousandths => {
                self.raw(".").digits(thousandths, 3);
            }
        }
        self.raw("Z\"");
    }

    /// A campaign's name.
    pub fn campaign(&mut self, number: u64, theme: &Theme) {
        self.name("campaign").raw("\"").raw(theme.slug).raw("-").digits(number, 1).raw("\"");
    }

    /// The page on a theme.
    pub fn url(&mut self, theme: &Theme) {
        self.name("url").raw("\"https://www.touchline.example/").raw(theme.slug).raw("\"");
    }

    /// The vehicle, and how much of a conversation it is.
    pub fn vehicle(&mut self, vehicle: &Vehicle) {
        self.text("vehicle", vehicle.name);
        if let Some(interaction) = vehicle.interaction {
            self.text("interaction", interaction);
        }
    }
}

/// Days since 1970 → year, month, day; as in Howard Hinnant's *chrono-compatible low-level date algorithms*.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}
