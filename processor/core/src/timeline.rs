//! A contact's timeline: the newest entries in its record, older ones in pages, so that most events read one record and
//! write one record whatever the length of the history.
//!
//! A page holds the entries from its key's place on, up to the next page's; the first page's place is before everything.
//! What lies at or after the contact's `floor` is in the record.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::codec::{Corrupt, Reader};
use crate::contact::Contact;
use crate::entry::Entry;
use crate::event::Event;
use crate::keys;
use crate::state::State;

/// Entries in the record; more are moved to a page.
const RECENT: usize = 24;
/// Entries that are moved at once, and so the size of a new page.
const PAGE: usize = 16;
/// A page that late events have grown beyond this is split.
const PAGE_MOST: usize = 2 * PAGE;

/// Why a step failed: nothing of it may be kept.
#[derive(Debug, thiserror::Error)]
pub enum StepError<E> {
    /// The state could not be read.
    #[error("the state cannot be read")]
    State(#[source] E),
    /// The state was read and makes no sense.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// The result of anything that reads the state.
pub type Result<T, S> = std::result::Result<T, StepError<<S as State>::Error>>;

/// Which timeline: the contact's record, its key, and the state around it.
pub(crate) struct Timeline<'a, S> {
    pub contact: &'a mut Contact,
    pub key: &'a [u8],
    pub state: &'a mut S,
}

impl<S: State> Timeline<'_, S> {
    /// The entry of the record that this event names.
    pub fn find(&mut self, event: &Event<'_>) -> Result<Option<Entry>, S> {
        let entry = Self::place(event);
        if self.is_recent(&entry) {
            return Ok(search(&self.contact.recent, event).ok().map(|place| self.contact.recent[place].clone()));
        }
        let (_, entries) = self.page_of(&entry)?;
        Ok(search(&entries, event).ok().map(|place| entries[place].clone()))
    }

    /// Adds an event; there must be no entry of its names.
    pub fn insert(&mut self, event: &Event<'_>) -> Result<(), S> {
        self.contact.entries += 1;
        let place = Self::place(event);
        if self.is_recent(&place) {
            let place = search(&self.contact.recent, event).unwrap_or_else(|place| place);
            self.contact.recent.insert(place, Entry::of(event));
            return if self.contact.recent.len() > RECENT { self.spill() } else { Ok(()) };
        }
        let (start, mut entries) = self.page_of(&place)?;
        let place = search(&entries, event).unwrap_or_else(|place| place);
        entries.insert(place, Entry::of(event));
        if entries.len() > PAGE_MOST {
            let newer = entries.split_off(PAGE);
            if let Some(first) = newer.first() {
                let start = first.key()?;
                self.write_page(&start, &newer);
            }
        }
        self.write_page(&start, &entries);
        Ok(())
    }

    /// Takes out the entry of the record that this event names.
    pub fn remove(&mut self, event: &Event<'_>) -> Result<Option<Entry>, S> {
        let entry = Self::place(event);
        let removed = if self.is_recent(&entry) {
            search(&self.contact.recent, event).ok().map(|place| self.contact.recent.remove(place))
        } else {
            let (start, mut entries) = self.page_of(&entry)?;
            let removed = search(&entries, event).ok().map(|place| entries.remove(place));
            if removed.is_some() {
                self.write_page(&start, &entries);
            }
            removed
        };
        self.contact.entries -= u64::from(removed.is_some());
        Ok(removed)
    }

    /// Visits the entries from `from` (a [`keys::entry`], or empty) on, page by page, ascending; stops when told to.
    pub fn scan(&mut self, from: &[u8], mut visit: impl FnMut(&Entry) -> ControlFlow<()>) -> Result<(), S> {
        if !self.is_recent_key(from) {
            let end = keys::end_of(&keys::page(self.key, &[]));
            let (start, _) = self.page_of(from)?;
            let mut next = keys::page(self.key, &start);
            while let Some((key, value)) = self.state.first(&next, &end).map_err(StepError::State)? {
                for entry in decode_page(&value)? {
                    if entry.key()?.as_slice() >= from && visit(&entry).is_break() {
                        return Ok(());
                    }
                }
                next = keys::after(&key);
            }
        }
        for entry in &self.contact.recent {
            if entry.key()?.as_slice() >= from && visit(entry).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn place(event: &Event<'_>) -> Vec<u8> {
        keys::entry(event.occurred_at, &event.source, &event.id, event.revision.is_some())
    }

    fn is_recent(&self, entry: &[u8]) -> bool {
        self.is_recent_key(entry)
    }

    fn is_recent_key(&self, entry: &[u8]) -> bool {
        self.contact.floor.as_deref().is_none_or(|floor| floor <= entry)
    }

    /// The page that holds a place: its own place, and its entries.
    fn page_of(&mut self, entry: &[u8]) -> Result<(Vec<u8>, Vec<Entry>), S> {
        let first = keys::page(self.key, &[]);
        let to = keys::after(&keys::page(self.key, entry));
        match self.state.last(&first, &to).map_err(StepError::State)? {
            Some((key, value)) => Ok((key[first.len()..].to_vec(), decode_page(&value)?)),
            None => Ok((Vec::new(), Vec::new())),
        }
    }

    fn write_page(&mut self, start: &[u8], entries: &[Entry]) {
        let mut value = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut value));
        self.state.put(keys::page(self.key, start), value);
    }

    /// Moves the oldest entries of the record to a page of their own.
    fn spill(&mut self) -> Result<(), S> {
        let page: Vec<Entry> = self.contact.recent.drain(..PAGE).collect();
        let start = self.contact.floor.take().unwrap_or_default();
        self.write_page(&start, &page);
        if let Some(first) = self.contact.recent.first() {
            self.contact.floor = Some(first.key()?.into_boxed_slice());
        }
        Ok(())
    }
}

fn search(entries: &[Entry], event: &Event<'_>) -> std::result::Result<usize, usize> {
    let compare = |entry: &Entry| entry.compare(event.occurred_at, &event.source, &event.id, event.revision.is_some());
    // Most events are newer than all.
    match entries.last().map(compare) {
        None => Err(0),
        Some(Ordering::Less) => Err(entries.len()),
        Some(_) => entries.binary_search_by(compare),
    }
}

fn decode_page(value: &[u8]) -> std::result::Result<Vec<Entry>, Corrupt> {
    let mut reader = Reader::new(value, "timeline page");
    let mut entries = Vec::with_capacity(PAGE_MOST);
    while !reader.is_empty() {
        entries.push(Entry::decode(&mut reader)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::state::Memory;

    fn line(at: i64, id: u8, revision: Option<i64>) -> String {
        let revision = revision.map_or(String::new(), |revision| format!(r#","revision":{revision}"#));
        let at = jiff::Timestamp::from_second(at * 3_600).unwrap();
        format!(
            r#"{{"id":"{id}","source":"s","kind":"touch","occurred_at":"{at}","contact":"c","channel":"email"{revision}}}"#
        )
    }

    proptest! {
        /// Against a sorted map, with enough records at few moments that pages fill, split and begin with equal times.
        #[test]
        fn a_timeline_is_a_sorted_map(
            steps in proptest::collection::vec((0..40i64, 0..8u8, any::<bool>(), 0..5u8), 0..400),
            from in 0..40i64,
        ) {
            let (mut contact, mut state, mut model) = (Contact::default(), Memory::default(), BTreeMap::new());
            let key = keys::contact("a", "c");
            for (at, id, is_revised, action) in steps {
                let text = line(at, id, is_revised.then_some(1));
                let event = Event::parse(text.as_bytes(), &TimeZone::UTC).unwrap();
                let place = (at, id.to_string(), is_revised);
                let mut timeline = Timeline { contact: &mut contact, key: &key, state: &mut state };
                let found = timeline.find(&event).unwrap();
                prop_assert_eq!(found.as_ref(), model.get(&place));
                if action == 0 {
                    prop_assert_eq!(timeline.remove(&event).unwrap(), model.remove(&place));
                } else if found.is_none() {
                    timeline.insert(&event).unwrap();
                    model.insert(place, Entry::of(&event));
                }
                prop_assert!(contact.recent.len() <= RECENT);
                prop_assert_eq!(contact.entries, model.len() as u64);
            }
            for from in [None, Some(from)] {
                let bytes = from.map(|at| keys::moment(jiff::Timestamp::from_second(at * 3_600).unwrap())).unwrap_or_default();
                let mut seen = Vec::new();
                Timeline { contact: &mut contact, key: &key, state: &mut state }
                    .scan(&bytes, |entry| {
                        seen.push(entry.clone());
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                let expected: Vec<_> = model.iter().filter(|(place, _)| from.is_none_or(|at| place.0 >= at)).map(|(_, entry)| entry.clone()).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
