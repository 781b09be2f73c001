//! The two years that the load tells of, and what people's clocks show in them.
//!
//! A moment is in milliseconds since 1970, UTC. A day is a UTC day, numbered from [`FIRST_DAY`].

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;

use super::draw::Draw;

/// One second.
pub const SECOND: u64 = 1000;
/// One minute.
pub const MINUTE: u64 = 60 * SECOND;
/// One hour.
pub const HOUR: u64 = 60 * MINUTE;
/// One day.
pub const DAY: u64 = 24 * HOUR;
/// 2023-01-01, in days since 1970.
pub const FIRST_DAY: u64 = 19_358;
/// To the end of 2024: two years of history are what a model of engagement needs.
pub const DAYS: u64 = 731;

/// Where a contact lives.
#[derive(Debug)]
pub struct Zone {
    /// Its name in the IANA database.
    pub name: &'static str,
    /// Its place in [`REGIONS`].
    pub region: usize,
}

/// People who can attend the same webcast in office hours.
#[derive(Debug)]
pub struct Region {
    /// As marketing calls it.
    pub name: &'static str,
    /// What it pays in.
    pub currency: &'static str,
    /// The hour, UTC, from which on its webcasts and seminars begin; all of the region is at work then.
    pub opens: u64,
}

/// The regions.
pub static REGIONS: [Region; 3] = [
    Region { name: "emea", currency: "EUR", opens: 8 },
    Region { name: "amer", currency: "USD", opens: 16 },
    Region { name: "apac", currency: "SGD", opens: 3 },
];

const ZONE_COUNT: usize = 13;

/// The zones, by weight.
pub static ZONES: [(u64, Zone); ZONE_COUNT] = [
    (14, Zone { name: "Europe/London", region: 0 }),
    (14, Zone { name: "Europe/Berlin", region: 0 }),
    (9, Zone { name: "Europe/Paris", region: 0 }),
    (5, Zone { name: "Europe/Madrid", region: 0 }),
    (3, Zone { name: "Africa/Johannesburg", region: 0 }),
    (16, Zone { name: "America/New_York", region: 1 }),
    (9, Zone { name: "America/Chicago", region: 1 }),
    (9, Zone { name: "America/Los_Angeles", region: 1 }),
    (4, Zone { name: "America/Sao_Paulo", region: 1 }),
    (6, Zone { name: "Asia/Kolkata", region: 2 }),
    (4, Zone { name: "Asia/Singapore", region: 2 }),
    (4, Zone { name: "Asia/Tokyo", region: 2 }),
    (3, Zone { name: "Australia/Sydney", region: 2 }),
];

/// The moment at which a day begins.
pub fn midnight(day: u64) -> u64 {
    (FIRST_DAY + day) * DAY
}

/// The day of a moment; 0 for those before the first.
pub fn day_of(moment: u64) -> u64 {
    (moment / DAY).saturating_sub(FIRST_DAY)
}

/// 0 is Monday.
pub fn weekday(days_since_1970: u64) -> u64 {
    (days_since_1970 + 3) % 7
}

/// A moment as a person would write it down.
pub fn to_the_minute(moment: u64) -> u64 {
    moment - moment % MINUTE
}

/// Whether nobody works on that day.
pub fn is_weekend(day: u64) -> bool {
    weekday(FIRST_DAY + day) >= 5
}

/// The offsets of all zones on all days, so that the time database is asked once and not for each event.
#[derive(Debug)]
pub struct Clock {
    /// Milliseconds east of UTC at noon, by day and zone.
    offsets: Vec<[i64; ZONE_COUNT]>,
}

impl Clock {
    /// Reads the zones of the bundled database: what a machine has installed must not decide the output. (The rules of
    /// years gone by are the same in every version of it.)
    pub fn new() -> Result<Clock, jiff::Error> {
        let database = TimeZoneDatabase::bundled();
        let mut offsets = vec![[0; ZONE_COUNT]; DAYS as usize];
        for (place, (_, zone)) in ZONES.iter().enumerate() {
            let zone = database.get(zone.name)?;
            for (day, offsets) in offsets.iter_mut().enumerate() {
                let noon = Timestamp::from_millisecond((midnight(day as u64) + DAY / 2) as i64)?;
                offsets[place] = i64::from(zone.to_offset(noon).seconds()) * SECOND as i64;
            }
        }
        Ok(Clock { offsets })
    }

    /// A moment between 8:30 and 17:30 in the zone, within this UTC day; or at that time of the next workday, if there it is
    /// the weekend.
    pub fn at_work(&self, day: u64, zone: usize, draw: &mut Draw) -> u64 {
        self.on_workday(self.local(day, zone, 8 * HOUR + HOUR / 2 + draw.below(9 * HOUR)), zone)
    }

    /// The moment, or two days or one day later if in the zone it is a Saturday or Sunday.
    pub fn on_workday(&self, moment: u64, zone: usize) -> u64 {
        let local = moment.saturating_add_signed(self.offset(day_of(moment), zone));
        match weekday(local / DAY) {
            5 => moment + 2 * DAY,
            6 => moment + DAY,
            _ => moment,
        }
    }

    /// A moment between 6:30 and 23:30 in the zone, on any day of the week, within this UTC day.
    pub fn awake(&self, day: u64, zone: usize, draw: &mut Draw) -> u64 {
        self.local(day, zone, 6 * HOUR + HOUR / 2 + draw.below(17 * HOUR))
    }

    /// The moment within a UTC day at which a zone's clocks show a time of day.
    pub fn local(&self, day: u64, zone: usize, time_of_day: u64) -> u64 {
        let utc = (time_of_day + DAY).saturating_add_signed(-self.offset(day, zone));
        midnight(day) + utc % DAY
    }

    fn offset(&self, day: u64, zone: usize) -> i64 {
        self.offsets.get(day as usize).map_or(0, |zones| zones[zone])
    }
}
