//! How many events there are on each day: fewer on weekends, in summer and over the turn of the year.

use super::clock::{DAYS, FIRST_DAY, weekday};

/// Monday to Sunday. On a Sunday, UTC, the week begins in Asia, and some read at home.
const WEEKDAYS: [u64; 7] = [18, 20, 20, 19, 16, 2, 3];
/// Days to a thirteenth of a year: enough for seasons.
const SEASON_DAYS: u64 = 28;
/// From January on; the thirteenth is the end of December.
const SEASONS: [u64; 13] = [9, 10, 11, 10, 11, 10, 9, 7, 10, 11, 12, 11, 6];

/// The schedule of a number of events.
#[derive(Debug)]
pub struct Pace {
    events: u64,
    /// Weights summed up, day by day.
    summed: Vec<u64>,
}

impl Pace {
    /// So many events over all days.
    pub fn new(events: u64) -> Pace {
        let weights = (0..DAYS).map(|day| {
            let season = (day % 365 / SEASON_DAYS) as usize;
            WEEKDAYS[weekday(FIRST_DAY + day) as usize] * SEASONS[season.min(SEASONS.len() - 1)]
        });
        let summed = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Pace { events, summed: summed.collect() }
    }

    /// How many there have been once the day is over; after the last day, all.
    pub fn through(&self, day: u64) -> u64 {
        match (self.summed.get(day as usize), self.summed.last()) {
            (Some(part), Some(whole)) => (u128::from(self.events) * u128::from(*part) / u128::from(*whole)) as u64,
            _ => self.events,
        }
    }

    /// How many there are on a day.
    pub fn on(&self, day: u64) -> u64 {
        self.through(day) - day.checked_sub(1).map_or(0, |before| self.through(before))
    }
}
