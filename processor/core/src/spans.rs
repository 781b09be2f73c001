//! The times of counted engagements, kept as spans: maximal runs in which no gap is longer than [`MERGED`].
//!
//! Every gap that can be a lapse is longer than that (a threshold is at least one month), so the spans say all that
//! lapses depend on, in far less room than the times themselves. Both ends of a span are times of engagements. A time can
//! be added; to take one out, the spans are made anew from the times that are left.

use jiff::{SignedDuration, Timestamp};

use crate::codec::{Corrupt, Reader, put_time, put_time_option};
use crate::tail::{Item, Tail};

/// The longest gap inside a span.
pub const MERGED: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A run of engagements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first time.
    pub start: Timestamp,
    /// The last time.
    pub end: Timestamp,
}

/// Disjoint spans, ascending, more than [`MERGED`] apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Tail<Span>);

impl Item for Span {
    const WHAT: &'static str = "list of engagements";

    fn put(self, out: &mut Vec<u8>) {
        put_time(out, self.start);
        // Most of a contact's are of one engagement.
        put_time_option(out, (self.end != self.start).then_some(self.end));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Span, Corrupt> {
        let start = reader.time()?;
        Ok(Span { start, end: reader.time_option()?.unwrap_or(start) })
    }
}

/// What adding a time did to the gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// No gap that is longer than [`MERGED`] has changed, and the last time is what it was.
    Inside,
    /// The gap from `before` to `after` is now two.
    Between {
        /// The time before, if any.
        before: Option<Timestamp>,
        /// The time after, if any.
        after: Option<Timestamp>,
    },
}

impl Spans {
    /// The spans, ascending.
    pub fn to_vec(&self) -> Result<Vec<Span>, Corrupt> {
        self.0.to_vec()
    }

    /// The first time.
    pub fn first(&self) -> Result<Option<Timestamp>, Corrupt> {
        Ok(self.0.iter().next().transpose()?.map(|span| span.start))
    }

    /// The last time.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.last().map(|span| span.end)
    }

    /// The time after `last` where `last` ends a span; `None` where it does not end one.
    pub fn gap_after(&self, last: Timestamp) -> Result<Option<Option<Timestamp>>, Corrupt> {
        // Most often it is the newest.
        if self.last().is_none_or(|end| end <= last) {
            return Ok((self.last() == Some(last)).then_some(None));
        }
        let gap = self.gaps()?.into_iter().find(|(end, _)| *end == last);
        Ok(gap.map(|(_, next)| next))
    }

    /// (end of a span, start of the next): every gap, the open one last.
    pub fn gaps(&self) -> Result<Vec<(Timestamp, Option<Timestamp>)>, Corrupt> {
        let spans = self.to_vec()?;
        let next = spans.iter().skip(1).map(|next| Some(next.start)).chain([None]);
        Ok(spans.iter().map(|span| span.end).zip(next).collect())
    }

    /// Adds a time.
    pub fn add(&mut self, time: Timestamp) -> Result<Added, Corrupt> {
        let one = Span { start: time, end: time };
        let Some(last) = self.0.last() else {
            self.0.push(one);
            return Ok(Added::Between { before: None, after: None });
        };
        if time < last.start {
            return self.add_before(time);
        }
        if time <= last.end {
            return Ok(Added::Inside);
        }
        if is_merged(last.end, time) {
            self.0.replace_last(Span { end: time, ..last });
        } else {
            self.0.push(one);
        }
        Ok(Added::Between { before: Some(last.end), after: None })
    }

    /// Adds a time that lies before the last span.
    fn add_before(&mut self, time: Timestamp) -> Result<Added, Corrupt> {
        let mut spans = self.to_vec()?;
        // The first span that does not end before the time.
        let place = spans.partition_point(|span| span.end < time);
        if spans.get(place).is_some_and(|span| span.start <= time) {
            return Ok(Added::Inside);
        }
        let before = place.checked_sub(1).and_then(|place| spans.get(place)).map(|span| span.end);
        let after = spans.get(place).map(|span| span.start);
        let joins_before = before.is_some_and(|before| is_merged(before, time));
        let joins_after = after.is_some_and(|after| is_merged(time, after));
        match (joins_before, joins_after) {
            (true, true) => {
                let start = spans[place - 1].start;
                spans[place].start = start;
                spans.remove(place - 1);
            }
            (true, false) => spans[place - 1].end = time,
            (false, true) => spans[place].start = time,
            (false, false) => spans.insert(place, Span { start: time, end: time }),
        }
        self.0 = spans.into_iter().collect();
        Ok(Added::Between { before, after })
    }

    /// Adds all times of other spans: gaps come out as if each time had been added.
    pub fn merge(&mut self, other: &Spans) -> Result<(), Corrupt> {
        let mut all = self.to_vec()?;
        all.extend(other.to_vec()?);
        all.sort_unstable_by_key(|span| span.start);
        self.0 = Tail::default();
        for span in all {
            match self.0.last() {
                Some(last) if is_merged(last.end, span.start) => {
                    self.0.replace_last(Span { end: last.end.max(span.end), ..last });
                }
                _ => self.0.push(span),
            }
        }
        Ok(())
    }

    /// Appends the spans to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    /// Reads what [`Spans::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Spans, Corrupt> {
        Tail::decode(reader).map(Spans)
    }
}

/// Whether a gap is not kept.
fn is_merged(from: Timestamp, to: Timestamp) -> bool {
    to.duration_since(from) <= MERGED
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(days: &[i64]) -> Spans {
        let mut spans = Spans::default();
        days.iter().for_each(|day| _ = spans.add(time(*day)).unwrap());
        spans
    }

    fn time(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    proptest! {
        #[test]
        fn spans_keep_every_gap_longer_than_merged(days in proptest::collection::vec(0i64..400, 0..60)) {
            let spans = of(&days);
            let mut sorted: Vec<_> = days.iter().map(|day| time(*day)).collect();
            sorted.sort();
            sorted.dedup();
            let long = |pair: &&[Timestamp]| pair[1].duration_since(pair[0]) > MERGED;
            let expected: Vec<_> = sorted.windows(2).filter(long).map(|pair| (pair[0], Some(pair[1]))).collect();
            let gaps: Vec<_> = spans.gaps().unwrap().into_iter().filter(|gap| gap.1.is_some()).collect();
            for (end, next) in &gaps {
                prop_assert_eq!(spans.gap_after(*end).unwrap(), Some(*next));
            }
            prop_assert_eq!(gaps, expected);
            prop_assert_eq!(spans.last(), sorted.last().copied());
            prop_assert_eq!(spans.first().unwrap(), sorted.first().copied());
            let (left, right) = days.split_at(days.len() / 2);
            let mut merged = of(left);
            merged.merge(&of(right)).unwrap();
            prop_assert_eq!(&merged, &spans);
            let mut bytes = Vec::new();
            spans.encode(&mut bytes);
            prop_assert_eq!(Spans::decode(&mut Reader::new(&bytes, "spans")).unwrap(), spans);
        }
    }
}
