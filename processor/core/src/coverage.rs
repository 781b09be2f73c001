//! The times of counted engagements of a contact or an account: their [`Spans`], and how many there are in each half of a
//! week, so that a time can be taken out of many thousands without counting all of them again.

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_int, put_uint};
use crate::spans::{Added, MERGED, Spans};

/// Times in neighbouring halves are no further apart than a span's longest gap, and those of halves that have two or more
/// between them always are.
const HALF_NS: i128 = MERGED.as_nanos() / 2;

/// Times, as spans and as numbers by half of a week.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    spans: Spans,
    /// (which half, how many times), ascending; none is zero.
    halves: Vec<(i32, u32)>,
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
    pub fn add(&mut self, time: Timestamp) -> Added {
        self.count(half(time), 1);
        self.spans.add(time)
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Coverage) {
        other.halves.iter().for_each(|(half, times)| self.count(*half, *times));
        self.spans.merge(&other.spans);
    }

    /// Takes out the times of `before` and adds those of `after`. `false`: the spans cannot be told from what is left,
    /// and all has to be summed again.
    pub fn replace(&mut self, before: &Coverage, after: &Coverage) -> bool {
        after.halves.iter().for_each(|(half, times)| self.count(*half, *times));
        let can_take_out = before.halves.iter().all(|(half, times)| self.discount(*half, *times));
        let is_inside =
            |time: Timestamp| after.spans.as_slice().iter().any(|span| span.start <= time && time <= span.end);
        let bounds = before.spans.as_slice().iter().flat_map(|span| [span.start, span.end]);
        let gone: Vec<_> = bounds.filter(|time| !is_inside(*time)).collect();
        let is_safe = can_take_out
            && !gone.iter().any(|time| self.spans.is_bound(*time))
            && before.halves.iter().all(|(half, _)| self.is_dense(*half));
        if is_safe {
            self.spans.merge(&after.spans);
        }
        is_safe
    }

    /// Whether the times that are left show that taking out others of this half, which bounded no span, changed none:
    /// some are left, and what is before and after them either hangs together with any of them or with none.
    fn is_dense(&self, half: i32) -> bool {
        let Ok(place) = self.halves.binary_search_by_key(&half, |(other, _)| *other) else { return false };
        let is_certain = |other: Option<&(i32, u32)>| other.is_none_or(|(other, _)| other.abs_diff(half) != 2);
        is_certain(place.checked_sub(1).and_then(|before| self.halves.get(before)))
            && is_certain(self.halves.get(place + 1))
    }

    fn count(&mut self, half: i32, times: u32) {
        let place = match self.halves.last() {
            Some((last, _)) if *last < half => self.halves.len(),
            _ => self.halves.partition_point(|(other, _)| *other < half),
        };
        match self.halves.get_mut(place) {
            Some((other, count)) if *other == half => *count = count.saturating_add(times),
            _ => self.halves.insert(place, (half, times)),
        }
    }

    fn discount(&mut self, half: i32, times: u32) -> bool {
        let Ok(place) = self.halves.binary_search_by_key(&half, |(other, _)| *other) else { return false };
        let Some((_, count)) = self.halves.get_mut(place) else { return false };
        let Some(left) = count.checked_sub(times) else { return false };
        *count = left;
        if left == 0 {
            self.halves.remove(place);
        }
        true
    }

    /// Appends the coverage to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.spans.encode(out);
        put_uint(out, self.halves.len() as u64);
        let mut last = 0;
        for (half, times) in &self.halves {
            put_int(out, i64::from(half - last));
            put_uint(out, u64::from(*times));
            last = *half;
        }
    }

    /// Reads what [`Coverage::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Coverage, Corrupt> {
        let spans = Spans::decode(reader)?;
        let count = reader.count()?;
        let (mut halves, mut last) = (Vec::with_capacity(count), 0i32);
        for _ in 0..count {
            let step = i32::try_from(reader.int()?).ok();
            last = step.and_then(|step| last.checked_add(step)).ok_or(reader.corrupt())?;
            halves.push((last, u32::try_from(reader.uint()?).map_err(|_| reader.corrupt())?));
        }
        Ok(Coverage { spans, halves })
    }

    /// Memory behind it.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(self.spans.as_slice()) + size_of_val(&*self.halves)
    }
}

impl FromIterator<Timestamp> for Coverage {
    fn from_iter<I: IntoIterator<Item = Timestamp>>(times: I) -> Coverage {
        let mut coverage = Coverage::default();
        for time in times {
            coverage.add(time);
        }
        coverage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_can_be_replaced_is_as_if_it_had_never_been(
            others in proptest::collection::vec(0i64..2_000, 0..60),
            before in proptest::collection::vec(0i64..2_000, 0..8),
            after in proptest::collection::vec(0i64..2_000, 0..8),
        ) {
            let time = |hours: &i64| Timestamp::from_second(hours * 3_600).unwrap();
            let of = |lists: &[&Vec<i64>]| lists.iter().flat_map(|list| list.iter().map(time)).collect::<Coverage>();
            let mut coverage = of(&[&others, &before]);
            if coverage.replace(&of(&[&before]), &of(&[&after])) {
                prop_assert_eq!(coverage, of(&[&others, &after]));
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
            let of = |lists: &[&Vec<_>]| lists.iter().flat_map(|list| list.iter().map(time)).collect::<Coverage>();
            let mut coverage = of(&[&others, &before]);
            if coverage.replace(&of(&[&before]), &of(&[&after])) {
                prop_assert_eq!(coverage, of(&[&others, &after]));
            }
        }

        #[test]
        fn among_many_a_time_is_replaced_without_counting_again(place in 0usize..200, after in 0i64..4_000) {
            let time = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
            let many: Coverage = (0..400).map(|n| time(n * 10)).collect();
            let (before, after) = (time(1_000 + place as i64 * 10), time(after));
            let mut coverage = many.clone();
            prop_assert!(coverage.replace(&[before].into_iter().collect(), &[after].into_iter().collect()));
        }
    }
}
