//! A contact's timeline: the newest entries in its record, older ones in pages, so that most events read one record and
//! write one record whatever the length of the history.
//!
//! A page holds the entries from its key's place on, up to the next page's; the first page's place is before everything.
//! What lies at or after the contact's `floor` is in the record.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::codec::Corrupt;
use crate::contact::Contact;
use crate::entry::{Entries, Entry};
use crate::erasure::OtherErasureKey;
use crate::event::Event;
use crate::keys;
use crate::state::State;

/// Entries in the record; more are moved to a page.
const RECENT: usize = 24;
/// Their bytes, ten times what most take: the record is written again with every event.
const RECENT_BYTES: usize = 32 << 10;
/// Entries that are moved at once, and so the size of a new page.
const PAGE: usize = 16;
/// A page that late events have grown beyond this is split.
const PAGE_MOST: usize = 2 * PAGE;
/// The same in bytes, unless it is one entry.
const PAGE_BYTES: usize = 2 * RECENT_BYTES;

/// Why a step failed: nothing of it may be kept.
#[derive(Debug, thiserror::Error)]
pub enum StepError<E> {
    /// The state could not be read.
    #[error("the state cannot be read")]
    State(#[source] E),
    /// The state was read and makes no sense.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Contacts have been forgotten with another key.
    #[error(transparent)]
    ErasureKey(#[from] OtherErasureKey),
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
    /// The record that this event names, as it stands; account and contact are left empty.
    pub fn find(&mut self, event: &Event<'_>) -> Result<Option<Event<'static>>, S> {
        let unpack = |entry: Option<Entry<'_>>| Ok(entry.map(Entry::event).transpose()?.map(Event::into_owned));
        if self.is_recent(event) {
            return unpack(self.contact.recent.find(event)?);
        }
        unpack(self.page_of(&place(event))?.1.find(event)?)
    }

    /// Adds an event; there must be no entry of its names.
    pub fn insert(&mut self, event: &Event<'_>) -> Result<(), S> {
        self.contact.entries += 1;
        if self.is_recent(event) {
            self.contact.recent.insert(event)?;
            return self.spill();
        }
        let (start, mut entries) = self.page_of(&place(event))?;
        entries.insert(event)?;
        if entries.len() > PAGE_MOST || (entries.len() > 1 && entries.as_bytes().len() > PAGE_BYTES) {
            let newer = entries.split_off(entries.len() / 2)?;
            if let Some(first) = newer.first()? {
                self.write_page(&first.key()?, &newer);
            }
        }
        self.write_page(&start, &entries);
        Ok(())
    }

    /// Takes out the entry of the record that this event names, if there is one.
    pub fn remove(&mut self, event: &Event<'_>) -> Result<bool, S> {
        let is_removed = if self.is_recent(event) {
            self.contact.recent.remove(event)?
        } else {
            let (start, mut entries) = self.page_of(&place(event))?;
            let is_removed = entries.remove(event)?;
            if is_removed {
                self.write_page(&start, &entries);
            }
            is_removed
        };
        self.contact.entries = self.contact.entries.saturating_sub(u64::from(is_removed));
        Ok(is_removed)
    }

    /// Visits the entries from `from` (a [`keys::entry`], a [`keys::moment`], or empty) on, page by page, ascending; stops
    /// when told to.
    pub fn scan<B>(
        &mut self,
        from: &[u8],
        mut visit: impl FnMut(Entry<'_>) -> std::result::Result<ControlFlow<B>, Corrupt>,
    ) -> Result<Option<B>, S> {
        let mut visit_all = |entries: &Entries| {
            for entry in entries.iter() {
                let entry = entry?;
                if entry.is_from(from)?
                    && let ControlFlow::Break(found) = visit(entry)?
                {
                    return Ok(Some(found));
                }
            }
            Ok::<_, Corrupt>(None)
        };
        if self.contact.floor.as_deref().is_some_and(|floor| from < floor) {
            let end = keys::end_of(&keys::page(self.key, &[]));
            let (start, _) = self.page_of(from)?;
            let mut next = keys::page(self.key, &start);
            while let Some((key, value)) = self.state.first(&next, &end).map_err(StepError::State)? {
                if let Some(found) = visit_all(&Entries::from_bytes(&value)?)? {
                    return Ok(Some(found));
                }
                next = keys::after(&key);
            }
        }
        Ok(visit_all(&self.contact.recent)?)
    }

    /// Pages of entries from before those of the record, ascending: as many as it takes to have `least` with those.
    pub fn older(&mut self, least: usize) -> Result<Vec<Entries>, S> {
        let (mut pages, mut count) = (Vec::new(), self.contact.recent.len());
        let Some(floor) = self.contact.floor.as_deref() else { return Ok(pages) };
        let (first, mut to) = (keys::page(self.key, &[]), keys::page(self.key, floor));
        while count < least
            && let Some((key, value)) = self.state.last(&first, &to).map_err(StepError::State)?
        {
            let page = Entries::from_bytes(&value)?;
            count += page.len();
            pages.push(page);
            to = key;
        }
        pages.reverse();
        Ok(pages)
    }

    fn is_recent(&self, event: &Event<'_>) -> bool {
        let Some(floor) = self.contact.floor.as_deref() else { return true };
        // Most moments differ.
        match floor[..floor.len().min(keys::TIME_BYTES)].cmp(&keys::time_bytes(event.occurred_at)) {
            Ordering::Equal => floor <= place(event).as_slice(),
            order => order == Ordering::Less,
        }
    }

    /// The page that holds a place: its own place, and its entries.
    fn page_of(&mut self, place: &[u8]) -> Result<(Vec<u8>, Entries), S> {
        let first = keys::page(self.key, &[]);
        let to = keys::after(&keys::page(self.key, place));
        match self.state.last(&first, &to).map_err(StepError::State)? {
            Some((key, value)) => Ok((key[first.len()..].to_vec(), Entries::from_bytes(&value)?)),
            None => Ok((Vec::new(), Entries::default())),
        }
    }

    fn write_page(&mut self, start: &[u8], entries: &Entries) {
        self.state.put(keys::page(self.key, start), entries.as_bytes().to_vec());
    }

    /// Moves the oldest entries of the record to a page of their own, if there are too many; all of them, if they are large.
    fn spill(&mut self) -> Result<(), S> {
        let recent = &mut self.contact.recent;
        let moved = match (recent.len(), recent.as_bytes().len()) {
            (count, bytes) if bytes > RECENT_BYTES => count,
            (count, _) if count > RECENT => PAGE,
            _ => return Ok(()),
        };
        let newer = recent.split_off(moved)?;
        let page = std::mem::replace(recent, newer);
        let floor = match (self.contact.recent.first()?, page.newest()?) {
            (Some(first), _) => first.key()?,
            (None, Some(last)) => keys::after(&last.key()?),
            (None, None) => return Ok(()),
        };
        let start = self.contact.floor.replace(floor.into_boxed_slice()).unwrap_or_default();
        self.write_page(&start, &page);
        Ok(())
    }
}

fn place(event: &Event<'_>) -> Vec<u8> {
    keys::entry(event.occurred_at, &event.source, &event.id, event.revision.is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::state::Memory;

    /// Some are large: it takes a few of those to fill a record.
    fn line(at: i64, id: u8, revision: Option<i64>) -> String {
        let revision = revision.map_or(String::new(), |revision| format!(r#","revision":{revision}"#));
        let body = "b".repeat(if at % 4 == 0 { RECENT_BYTES / 3 } else { 10 });
        let at = jiff::Timestamp::from_second(at * 3_600).unwrap();
        format!(
            r#"{{"id":"{id}","source":"s","kind":"touch","occurred_at":"{at}","contact":"c","channel":"email","body":"{body}"{revision}}}"#
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
                    prop_assert_eq!(timeline.remove(&event).unwrap(), model.remove(&place).is_some());
                } else if found.is_none() {
                    timeline.insert(&event).unwrap();
                    model.insert(place, Event { contact: "".into(), ..event.into_owned() });
                }
                prop_assert!(contact.recent.len() <= RECENT && contact.recent.as_bytes().len() <= RECENT_BYTES);
                prop_assert_eq!(contact.entries, model.len() as u64);
            }
            let pages = Timeline { contact: &mut contact, key: &key, state: &mut state }.older(RECENT).unwrap();
            let newest = pages.iter().flat_map(Entries::iter).chain(contact.recent.iter());
            let newest: Vec<_> = newest.map(|entry| entry.unwrap().event().unwrap().into_owned()).collect();
            prop_assert!(newest.len() >= model.len().min(RECENT));
            prop_assert!(newest.iter().rev().zip(model.values().rev()).all(|(one, other)| one == other));
            for from in [None, Some(from)] {
                let bytes = from.map(|at| keys::moment(jiff::Timestamp::from_second(at * 3_600).unwrap())).unwrap_or_default();
                let mut seen = Vec::new();
                Timeline { contact: &mut contact, key: &key, state: &mut state }
                    .scan(&bytes, |entry| {
                        seen.push(entry.event()?.into_owned());
                        Ok(ControlFlow::<()>::Continue(()))
                    })
                    .unwrap();
                let expected: Vec<_> = model.iter().filter(|(place, _)| from.is_none_or(|at| place.0 >= at)).map(|(_, entry)| entry.clone()).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
