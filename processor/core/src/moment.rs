//! Moments on the calendar of UTC: as text, RFC 3339, as they stand in everything that is published; and calendar months
//! later. Both a tenth of what general code costs, which an event would pay a dozen times.

use jiff::Timestamp;

const DAY_S: i64 = 86_400;
/// The first second of year 0 and the last of year 9999: what has years of four digits.
const FOUR_DIGITS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;
const NANOS: i32 = 1_000_000_000;

/// A moment apart: day since 1970, second of the day, nanosecond; `None` where years have no four digits.
fn parts(time: Timestamp) -> Option<(i64, u32, u32)> {
    let (mut second, mut nano) = (time.as_second(), time.subsec_nanosecond());
    if nano < 0 {
        // Before 1970 both count downwards.
        (second, nano) = (second - 1, nano + NANOS);
    }
    let day = second.div_euclid(DAY_S);
    FOUR_DIGITS.contains(&second).then_some((day, (second - day * DAY_S) as u32, nano as u32))
}

/// A moment so many seconds later, or earlier; `None` beyond the ends of time.
pub(crate) fn later(time: Timestamp, seconds: i64) -> Option<Timestamp> {
    Timestamp::new(time.as_second().checked_add(seconds)?, time.subsec_nanosecond()).ok()
}

/// A moment so many calendar months later in UTC, its day clamped to the month's last; `None` where years before or after
/// have no four digits.
pub(crate) fn months_later(time: Timestamp, months: u32) -> Option<Timestamp> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (day, of_day, nano) = parts(time)?;
    let (year, month, day) = date(day);
    let month = (year * 12 + month - 1).checked_add(months)?;
    let (year, month) = (month / 12, month % 12);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = LENGTHS[month as usize] + u32::from(month == 1 && is_leap);
    let day = day_of(year, month + 1, day.min(length));
    let second = day * DAY_S + i64::from(of_day);
    if FOUR_DIGITS.contains(&second) { Timestamp::new(second, nano as i32).ok() } else { None }
}

/// Appends a moment, with as many digits of a second as there are: what its `Display` prints.
pub(crate) fn put_moment(out: &mut Vec<u8>, time: Timestamp) {
    let Some((day, of_day, nano)) = parts(time) else { return out.extend_from_slice(time.to_string().as_bytes()) };
    let (year, month, day) = date(day);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    pair(&mut text, 0, year / 100);
    pair(&mut text, 2, year % 100);
    pair(&mut text, 5, month);
    pair(&mut text, 8, day);
    pair(&mut text, 11, of_day / 3600);
    pair(&mut text, 14, of_day / 60 % 60);
    pair(&mut text, 17, of_day % 60);
    let end = put_fraction(&mut text, nano);
    out.extend_from_slice(&text[..end]);
}

/// Writes the fraction of a second and the `Z` behind it; returns where that ends.
fn put_fraction(text: &mut [u8; 30], nano: u32) -> usize {
    const POINT: usize = 19;
    let mut end = POINT;
    // Mostly milliseconds: three digits at a time, of which the last may be zeros.
    let mut rest = nano;
    while rest > 0 {
        let three = rest / 1_000_000;
        text[end + 1] = b'0' + (three / 100) as u8;
        text[end + 2] = b'0' + (three / 10 % 10) as u8;
        text[end + 3] = b'0' + (three % 10) as u8;
        rest = rest % 1_000_000 * 1_000;
        end += 3;
    }
    if end > POINT {
        while text[end] == b'0' {
            end -= 1;
        }
        end += 1;
    }
    text[end] = b'Z';
    end + 1
}

fn pair(text: &mut [u8; 30], at: usize, number: u32) {
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// Days of four hundred years.
const CYCLE: u32 = 146_097;
/// The first of March of the year -400, in days before 1970.
const BEGIN: i64 = 719_468 + CYCLE as i64;

// Both ways as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days
// end them.

/// The civil date of a day since 1970, of a year with four digits.
fn date(day: i64) -> (u32, u32, u32) {
    let day = (day + BEGIN) as u32;
    let (cycle, of_cycle) = (day / CYCLE, day % CYCLE);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (cycle * 400 + year + u32::from(month <= 2) - 400, month, of_year - (153 * march + 2) / 5 + 1)
}

/// The day since 1970 of a civil date.
fn day_of(year: u32, month: u32, day: u32) -> i64 {
    let year = year + 400 - u32::from(month <= 2);
    let (cycle, of_cycle) = (year / 400, year % 400);
    let march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march + 2) / 5 + day - 1;
    i64::from(cycle * CYCLE + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year) - BEGIN
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{SignedDuration, ToSpan};
    use proptest::prelude::*;

    use super::*;

    fn check(time: Timestamp) {
        let mut out = Vec::new();
        put_moment(&mut out, time);
        assert_eq!(String::from_utf8(out).unwrap(), time.to_string());
    }

    #[test]
    fn every_day_of_four_centuries_and_the_ends_of_time() {
        (-80_000..80_000).for_each(|day| check(Timestamp::from_second(day * DAY_S - 1).unwrap()));
        let ends = [*FOUR_DIGITS.start(), FOUR_DIGITS.start() - 1, Timestamp::MAX.as_second()];
        ends.into_iter().for_each(|second| check(Timestamp::from_second(second).unwrap()));
        [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH].into_iter().for_each(check);
    }

    fn check_months(time: Timestamp, months: u32) {
        let civil = TimeZone::UTC.to_datetime(time).checked_add(i64::from(months).months());
        let expected = civil.ok().and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok());
        match months_later(time, months) {
            Some(later) => assert_eq!(Some(later), expected, "{months} months after {time}"),
            None => assert!(time < "0000-01-01T00:00:00Z".parse().unwrap() || expected.is_none()),
        }
    }

    #[test]
    fn every_day_of_four_centuries_and_the_months_after_it() {
        for day in -80_000..80_000 {
            let time = Timestamp::new(day * DAY_S + day % 80_000, (day % 1_000) as i32 * 1_000).unwrap();
            [1, 3, 12, 119].into_iter().for_each(|months| check_months(time, months));
        }
        [Timestamp::MIN, Timestamp::MAX].into_iter().for_each(|time| check_months(time, 3));
    }

    proptest! {
        #[test]
        fn months_later_is_what_the_calendar_says(
            second in -99_999_999_999i64..200_000_000_000,
            nano in -999_999_999..NANOS,
            months in 0..2000u32,
            seconds in any::<i32>(),
        ) {
            let time = Timestamp::new(second, nano).unwrap();
            check_months(time, months);
            let expected = time.checked_add(SignedDuration::from_secs(seconds.into())).ok();
            prop_assert_eq!(later(time, seconds.into()), expected);
        }

        #[test]
        fn a_moment_is_printed_as_it_displays(second in -99_999_999_999i64..200_000_000_000, nano in 0..NANOS, keep in 0..9u32) {
            let step = 10i32.pow(keep);
            check(Timestamp::new(second, nano / step * step).unwrap());
        }
    }
}
