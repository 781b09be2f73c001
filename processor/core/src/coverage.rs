//! The times of counted engagements of a contact or an account: their [`Spans`], and how many there are in each half of a
//! week, so that a time can be taken out of many thousands without counting all of them again.

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_int, put_uint};
use crate::spans::{Added, MERGED, Spans};
use crate::tail::{Item, Tail};

/// Times in neighbouring halves are no further apart than a span's longest gap, and those of halves that have two or more
/// between them always are.
const HALF_NS: i128 = MERGED.as_nanos() / 2;

/// Times, as spans and as numbers by half of a week.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    spans: Spans,
    /// Ascending.
    halves: Tail<Half>,
}

/// Half of a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half {
    /// Which, counted from 1970.
    number: i32,
    /// How many times lie in it: never zero.
    times: u32,
}

impl Item for Half {
    const WHAT: &'static str = "list of weeks";

    fn put(self, out: &mut Vec<u8>) {
        put_int(out, self.number.into());
        put_uint(out, self.times.into());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Half, Corrupt> {
        let (number, times) = (i32::try_from(reader.int()?), u32::try_from(reader.uint()?));
        match (number, times) {
            (Ok(number), Ok(times)) => Ok(Half { number, times }),
            _ => Err(reader.corrupt()),
        }
    }
}

fn half(time: Timestamp) -> i32 {
    // Whole seconds are cut off towards 1970: its first half would be a second too long. Years have four digits.
    time.as_nanosecond().div_euclid(HALF_NS) as i32
}

impl Coverage {
    /// The spans.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// The last time.
    pub fn last(&self) -> Option<Timestamp> {
        self.spans.last()
    }

    /// Adds a time, which may be there already.
    pub fn add(&mut self, time: Timestamp) -> Result<Added, Corrupt> {
        let half = Half { number: half(time), times: 1 };
        match self.halves.last() {
            Some(last) if half.number < last.number => {
                let mut halves = self.halves.to_vec()?;
                count(&mut halves, half);
                self.halves = halves.into_iter().collect();
            }
            Some(last) if half.number == last.number => {
                self.halves.replace_last(Half { times: last.times.saturating_add(1), ..last });
            }
            _ => self.halves.push(half),
        }
        self.spans.add(time)
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Coverage) -> Result<(), Corrupt> {
        let mut halves = self.halves.to_vec()?;
        other.halves.iter().try_for_each(|half| half.map(|half| count(&mut halves, half)))?;
        self.halves = halves.into_iter().collect();
        self.spans.merge(&other.spans)
    }

    /// Takes out the times of `before` and adds those of `after`. `false`: the spans cannot be told from what is left,
    /// and all has to be summed again.
    pub fn replace(&mut self, before: &Coverage, after: &Coverage) -> Result<bool, Corrupt> {
        let (mut halves, gone) = (self.halves.to_vec()?, before.halves.to_vec()?);
        after.halves.iter().try_for_each(|half| half.map(|half| count(&mut halves, half)))?;
        let can_take_out = gone.iter().all(|half| discount(&mut halves, *half));
        let is_dense = gone.iter().all(|half| is_dense(&halves, half.number));
        self.halves = halves.into_iter().collect();

        let (spans, kept) = (self.spans.to_vec()?, after.spans.to_vec()?);
        let is_inside = |time: &Timestamp| kept.iter().any(|span| span.start <= *time && *time <= span.end);
        let is_bound = |time: Timestamp| spans.iter().any(|span| span.start == time || span.end == time);
        let bounds = before.spans.to_vec()?.into_iter().flat_map(|span| [span.start, span.end]);
        let is_safe = can_take_out && is_dense && !bounds.filter(|time| !is_inside(time)).any(is_bound);
        if is_safe {
            self.spans.merge(&after.spans)?;
        }
        Ok(is_safe)
    }

    /// Whether all of it can be read, which [`Coverage::decode`] leaves for when it is needed.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.spans.to_vec()?;
        self.halves.to_vec().map(drop)
    }

    /// Appends the coverage to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.spans.encode(out);
        self.halves.encode(out);
    }

    /// Reads what [`Coverage::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Coverage, Corrupt> {
        Ok(Coverage { spans: Spans::decode(reader)?, halves: Tail::decode(reader)? })
    }
}

fn count(halves: &mut Vec<Half>, half: Half) {
    let place = halves.partition_point(|other| other.number < half.number);
    match halves.get_mut(place) {
        Some(other) if other.number == half.number => other.times = other.times.saturating_add(half.times),
        _ => halves.insert(place, half),
    }
}

/// `false`: there are not as many.
fn discount(halves: &mut Vec<Half>, half: Half) -> bool {
    let Ok(place) = halves.binary_search_by_key(&half.number, |other| other.number) else { return false };
    let Some(other) = halves.get_mut(place) else { return false };
    let Some(left) = other.times.checked_sub(half.times) else { return false };
    other.times = left;
    if left == 0 {
        halves.remove(place);
    }
    true
}

/// Whether the times that are left show that taking out others of this half, which bounded no span, changed none:
/// some are left, and what is before and after them either hangs together with any of them or with none.
fn is_dense(halves: &[Half], number: i32) -> bool {
    let Ok(place) = halves.binary_search_by_key(&number, |other| other.number) else { return false };
    let is_certain = |other: Option<&Half>| other.is_none_or(|other| other.number.abs_diff(number) != 2);
    is_certain(place.checked_sub(1).and_then(|before| halves.get(before))) && is_certain(halves.get(place + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coverage(times: impl IntoIterator<Item = Timestamp>) -> Coverage {
        let mut coverage = Coverage::default();
        times.into_iter().for_each(|time| _ = coverage.add(time).unwrap());
        coverage
    }

    proptest! {
        #[test]
        fn what_can_be_replaced_is_as_if_it_had_never_been(
            others in proptest::collection::vec(0i64..2_000, 0..60),
            before in proptest::collection::vec(0i64..2_000, 0..8),
            after in proptest::collection::vec(0i64..2_000, 0..8),
        ) {
            let time = |hours: &i64| Timestamp::from_second(hours * 3_600).unwrap();
            let of = |lists: &[&Vec<i64>]| coverage(lists.iter().flat_map(|list| list.iter().map(time)));
            let mut replaced = of(&[&others, &before]);
            if replaced.replace(&of(&[&before]), &of(&[&after])).unwrap() {
                prop_assert_eq!(replaced, of(&[&others, &after]));
            }
        }

        /// Where halves begin and end, also before 1970 and between seconds.
        #[test]
        fn what_can_be_replaced_at_the_ends_of_halves_is_too(
            others in proptest::collection::vec((-4i128..5, -2i128..3), 0..8),
            before in proptest::collection::vec((-4i128..5, -2i128..3), 0..4),
            after in proptest::collection::vec((-4i128..5, -2i128..3), 0..3),
        ) {
            const STEP_NS: i128 = 500_000_000;
            let time = |(half, steps): &(i128, i128)| Timestamp::from_nanosecond(half * HALF_NS + steps * STEP_NS).unwrap();
            let of = |lists: &[&Vec<_>]| coverage(lists.iter().flat_map(|list| list.iter().map(time)));
            let mut replaced = of(&[&others, &before]);
            if replaced.replace(&of(&[&before]), &of(&[&after])).unwrap() {
                prop_assert_eq!(replaced, of(&[&others, &after]));
            }
        }

        #[test]
        fn among_many_a_time_is_replaced_without_counting_again(place in 0usize..200, after in 0i64..4_000) {
            let time = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
            let mut many = coverage((0..400).map(|n| time(n * 10)));
            let (before, after) = (time(1_000 + place as i64 * 10), time(after));
            prop_assert!(many.replace(&coverage([before]), &coverage([after])).unwrap());
        }
    }
}
