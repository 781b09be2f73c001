//! The times of counted engagements of a contact or an account: their [`Spans`], and how many there are a day, so that a
//! time can be taken out of many thousands without counting all of them again.

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_int, put_uint};
use crate::spans::{Added, Spans};

/// Seconds in a day (of UTC; what matters is only that days are of one length).
const DAY_S: i64 = 86_400;
/// Times on days that are together at most so many lie no further apart than a span's longest gap.
const MERGED_DAYS: i64 = 7;

/// Times, as spans and as numbers by day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    spans: Spans,
    /// (day, how many times), ascending; none is zero.
    days: Vec<(i64, u64)>,
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
        self.count(time.as_second().div_euclid(DAY_S), 1);
        self.spans.add(time)
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Coverage) {
        other.days.iter().for_each(|(day, times)| self.count(*day, *times));
        self.spans.merge(&other.spans);
    }

    /// Takes out the times of `before` and adds those of `after`. `false`: the spans cannot be told from what is left,
    /// and all has to be summed again.
    pub fn replace(&mut self, before: &Coverage, after: &Coverage) -> bool {
        after.days.iter().for_each(|(day, times)| self.count(*day, *times));
        let can_take_out = before.days.iter().all(|(day, times)| self.discount(*day, *times));
        let is_inside =
            |time: Timestamp| after.spans.as_slice().iter().any(|span| span.start <= time && time <= span.end);
        let bounds = before.spans.as_slice().iter().flat_map(|span| [span.start, span.end]);
        let gone: Vec<_> = bounds.filter(|time| !is_inside(*time)).collect();
        let is_safe = can_take_out
            && !gone.iter().any(|time| self.spans.is_bound(*time))
            && before.days.iter().all(|(day, _)| self.is_dense(*day));
        if is_safe {
            self.spans.merge(&after.spans);
        }
        is_safe
    }

    /// Whether the times that are left show that taking out others of this day, which bounded no span, changed none:
    /// the spans on both sides hang together without them, or never did with them.
    fn is_dense(&self, day: i64) -> bool {
        let place = self.days.partition_point(|(other, _)| *other < day);
        let before = place.checked_sub(1).and_then(|place| self.days.get(place)).map(|(before, _)| *before);
        let is_left = self.days.get(place).is_some_and(|(other, _)| *other == day);
        let after = self.days.get(place + usize::from(is_left)).map(|(after, _)| *after);
        if is_left {
            // Only at this distance does it depend on the time of day whether two days are one span.
            let depends = |other: Option<i64>| other.is_some_and(|other| (other - day).abs() == MERGED_DAYS);
            return !depends(before) && !depends(after);
        }
        before.zip(after).is_some_and(|(before, after)| after - before < MERGED_DAYS)
    }

    fn count(&mut self, day: i64, times: u64) {
        let place = match self.days.last() {
            Some((last, _)) if *last < day => self.days.len(),
            _ => self.days.partition_point(|(other, _)| *other < day),
        };
        match self.days.get_mut(place) {
            Some((other, count)) if *other == day => *count += times,
            _ => self.days.insert(place, (day, times)),
        }
    }

    fn discount(&mut self, day: i64, times: u64) -> bool {
        let Ok(place) = self.days.binary_search_by_key(&day, |(other, _)| *other) else { return false };
        let Some((_, count)) = self.days.get_mut(place) else { return false };
        let Some(left) = count.checked_sub(times) else { return false };
        *count = left;
        if left == 0 {
            self.days.remove(place);
        }
        true
    }

    /// Appends the coverage to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.spans.encode(out);
        put_uint(out, self.days.len() as u64);
        let mut last = 0;
        for (day, times) in &self.days {
            put_int(out, day - last);
            put_uint(out, *times);
            last = *day;
        }
    }

    /// Reads what [`Coverage::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Coverage, Corrupt> {
        let spans = Spans::decode(reader)?;
        let count = reader.count()?;
        let (mut days, mut last) = (Vec::with_capacity(count), 0i64);
        for _ in 0..count {
            last = last.checked_add(reader.int()?).ok_or(reader.corrupt())?;
            days.push((last, reader.uint()?));
        }
        Ok(Coverage { spans, days })
    }

    /// Memory behind it.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(self.spans.as_slice()) + size_of_val(&*self.days)
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
