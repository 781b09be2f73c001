//! The times of counted engagements, kept as spans: maximal runs in which no gap is longer than [`MERGED`].
//!
//! Every gap that can be a lapse is longer than that (a threshold is at least one month), so the spans say all that
//! lapses depend on, in far less room than the times themselves. Both ends of a span are times of engagements. A time can
//! be added; to take one out, the spans are made anew from the times that are left.

use jiff::{SignedDuration, Timestamp};

use crate::codec::{Corrupt, Reader, put_time, put_time_option, put_uint};

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
pub struct Spans(Vec<Span>);

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
    pub fn as_slice(&self) -> &[Span] {
        &self.0
    }

    /// The last time.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.last().map(|span| span.end)
    }

    /// The time after `last` where `last` ends a span; `None` where it does not end one.
    pub fn gap_after(&self, last: Timestamp) -> Option<Option<Timestamp>> {
        let place = self.0.binary_search_by_key(&last, |span| span.end).ok()?;
        Some(self.0.get(place + 1).map(|span| span.start))
    }

    /// Whether a span begins or ends with this time.
    pub fn is_bound(&self, time: Timestamp) -> bool {
        let place = self.0.partition_point(|span| span.end < time);
        self.0.get(place).is_some_and(|span| span.start == time || span.end == time)
    }

    /// (end of a span, start of the next): every gap, the open one last.
    pub fn gaps(&self) -> impl Iterator<Item = (Timestamp, Option<Timestamp>)> {
        self.0.iter().enumerate().map(|(place, span)| (span.end, self.0.get(place + 1).map(|next| next.start)))
    }

    /// Adds a time.
    pub fn add(&mut self, time: Timestamp) -> Added {
        // The first span that does not end before the time.
        let place = match self.0.last() {
            Some(last) if last.end < time => self.0.len(),
            _ => self.0.partition_point(|span| span.end < time),
        };
        if self.0.get(place).is_some_and(|span| span.start <= time) {
            return Added::Inside;
        }
        let before = place.checked_sub(1).and_then(|place| self.0.get(place)).map(|span| span.end);
        let after = self.0.get(place).map(|span| span.start);
        let joins_before = before.is_some_and(|before| time.duration_since(before) <= MERGED);
        let joins_after = after.is_some_and(|after| after.duration_since(time) <= MERGED);
        match (joins_before, joins_after) {
            (true, true) => {
                let start = self.0[place - 1].start;
                self.0[place].start = start;
                self.0.remove(place - 1);
            }
            (true, false) => self.0[place - 1].end = time,
            (false, true) => self.0[place].start = time,
            (false, false) => self.0.insert(place, Span { start: time, end: time }),
        }
        Added::Between { before, after }
    }

    /// Adds all times of other spans: gaps come out as if each time had been added.
    pub fn merge(&mut self, other: &Spans) {
        let mut all = Vec::with_capacity(self.0.len() + other.0.len());
        all.extend_from_slice(&self.0);
        all.extend_from_slice(&other.0);
        all.sort_unstable_by_key(|span| span.start);
        self.0.clear();
        for span in all {
            match self.0.last_mut() {
                Some(last) if span.start.duration_since(last.end) <= MERGED => last.end = last.end.max(span.end),
                _ => self.0.push(span),
            }
        }
    }

    /// Appends the spans to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uint(out, self.0.len() as u64);
        for span in &self.0 {
            put_time(out, span.start);
            // Most of a contact's are of one engagement.
            put_time_option(out, (span.end != span.start).then_some(span.end));
        }
    }

    /// Reads what [`Spans::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Spans, Corrupt> {
        let count = reader.count()?;
        let mut spans = Vec::with_capacity(count);
        for _ in 0..count {
            let start = reader.time()?;
            spans.push(Span { start, end: reader.time_option()?.unwrap_or(start) });
        }
        Ok(Spans(spans))
    }
}

impl FromIterator<Timestamp> for Spans {
    fn from_iter<I: IntoIterator<Item = Timestamp>>(times: I) -> Spans {
        let mut spans = Spans::default();
        for time in times {
            spans.add(time);
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_keep_every_gap_longer_than_merged(days in proptest::collection::vec(0i64..400, 0..60)) {
            let time = |day: &i64| Timestamp::from_second(day * 86_400).unwrap();
            let spans: Spans = days.iter().map(time).collect();
            let mut sorted: Vec<_> = days.iter().map(time).collect();
            sorted.sort();
            sorted.dedup();
            let long = |pair: &&[Timestamp]| pair[1].duration_since(pair[0]) > MERGED;
            let expected: Vec<_> = sorted.windows(2).filter(long).map(|pair| (pair[0], Some(pair[1]))).collect();
            let gaps: Vec<_> = spans.gaps().filter(|gap| gap.1.is_some()).collect();
            prop_assert_eq!(gaps, expected);
            prop_assert_eq!(spans.last(), sorted.last().copied());
            let (left, right) = days.split_at(days.len() / 2);
            let mut merged: Spans = left.iter().map(time).collect();
            merged.merge(&right.iter().map(time).collect());
            prop_assert_eq!(&merged, &spans);
            let mut bytes = Vec::new();
            spans.encode(&mut bytes);
            prop_assert_eq!(Spans::decode(&mut Reader::new(&bytes, "spans")).unwrap(), spans);
        }
    }
}
