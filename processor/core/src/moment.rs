//! Moments as text: RFC 3339 in UTC, as they stand in everything that is published.

use jiff::Timestamp;

const DAY_S: i64 = 86_400;
/// The first second of year 0 and the last of year 9999: what has years of four digits.
const FOUR_DIGITS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;
const NANOS: i32 = 1_000_000_000;

/// Appends a moment, with as many digits of a second as there are: what its `Display` prints. There are half a dozen in
/// every score, and printing them is most of what a general printer costs.
pub(crate) fn put_moment(out: &mut Vec<u8>, time: Timestamp) {
    let (mut second, mut nano) = (time.as_second(), time.subsec_nanosecond());
    if nano < 0 {
        // Before 1970 both count downwards.
        (second, nano) = (second - 1, nano + NANOS);
    }
    if !FOUR_DIGITS.contains(&second) {
        return out.extend_from_slice(time.to_string().as_bytes());
    }
    let (year, month, day) = date(second.div_euclid(DAY_S));
    let of_day = second.rem_euclid(DAY_S) as u32;
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    pair(&mut text, 0, year / 100);
    pair(&mut text, 2, year % 100);
    pair(&mut text, 5, month);
    pair(&mut text, 8, day);
    pair(&mut text, 11, of_day / 3600);
    pair(&mut text, 14, of_day / 60 % 60);
    pair(&mut text, 17, of_day % 60);
    let end = put_fraction(&mut text, nano as u32);
    out.extend_from_slice(&text[..end]);
}

/// Writes the fraction of a second and the `Z` behind it; returns where that ends.
fn put_fraction(text: &mut [u8; 30], nano: u32) -> usize {
    const POINT: usize = 19;
    let mut digits = 0;
    let mut rest = nano;
    while rest > 0 {
        digits += 1;
        text[POINT + digits] = b'0' + (rest / 100_000_000) as u8;
        rest = rest % 100_000_000 * 10;
    }
    let end = if digits > 0 { POINT + 1 + digits } else { POINT };
    text[end] = b'Z';
    end + 1
}

fn pair(text: &mut [u8; 30], at: usize, number: u32) {
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// The civil date of a day since 1970, of a year with four digits: `days_from_civil` of Howard Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms", the other way round. Years begin in March, so that leap days end them.
fn date(day: i64) -> (u32, u32, u32) {
    const CYCLE: u32 = 146_097;
    // From the first of March of the year -400 on.
    let day = (day + 719_468 + i64::from(CYCLE)) as u32;
    let (cycle, of_cycle) = (day / CYCLE, day % CYCLE);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (cycle * 400 + year + u32::from(month <= 2) - 400, month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
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

    proptest! {
        #[test]
        fn a_moment_is_printed_as_it_displays(second in -99_999_999_999i64..200_000_000_000, nano in 0..NANOS, keep in 0..9u32) {
            let step = 10i32.pow(keep);
            check(Timestamp::new(second, nano / step * step).unwrap());
        }
    }
}
