//! The notice that a contact has been erased: it comes among the alerts, behind all that are about the contact, and says
//! for the last time who that is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event;
use crate::publish::key_parts;

/// The bytes that a notice cannot be without: most alerts need not be parsed to see that they are none.
const CHANGE_QUOTED: &[u8] = b"\"erased\"";
const RULE: &str = "contact";
const CHANGE: &str = "erased";

/// Whom to forget.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Notice<'a> {
    /// What the contact is known by from here on.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    change: Cow<'a, str>,
    /// How often the contact has been erased.
    pub sequence: i64,
    /// The account.
    #[serde(borrow)]
    pub account: Cow<'a, str>,
    /// The contact.
    #[serde(borrow)]
    pub contact: Cow<'a, str>,
    /// When that was asked for; RFC 3339.
    #[serde(borrow)]
    pub erased_at: Cow<'a, str>,
}

/// Whom an alert names.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    account: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    contact: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    contacts: Option<&'a RawValue>,
}

impl<'a> Notice<'a> {
    /// The notice that is published as this alert; `None` for all others.
    pub fn of(alert: &'a [u8]) -> Option<Notice<'a>> {
        memmem::find(alert, CHANGE_QUOTED)?;
        let notice: Notice<'_> = serde_json::from_slice(alert).ok()?;
        (notice.rule == RULE && notice.change == CHANGE).then_some(notice)
    }
}

/// Contacts to be forgotten, each in all that comes before its notice.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Account → contact → the place of its last notice.
    places: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What is left of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it.
    All,
    /// All but some names that it listed: not longer than it was.
    Part(Vec<u8>),
    /// It was about somebody who is forgotten.
    Nothing,
}

impl Notices {
    /// Whoever is named in it is forgotten in what comes before `place`.
    pub fn add(&mut self, notice: &Notice<'_>, place: u64) {
        self.places.entry(notice.account.to_string()).or_default().insert(notice.contact.to_string(), place);
    }

    /// Whether nobody is to be forgotten.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the key of a score or of a fact may be somebody's who is forgotten: an account, and behind `|` the contact. That
    /// of a record with a revision does not tell whose in the account it is.
    pub fn are_of_key(&self, key: &[u8]) -> bool {
        let parts = key_parts(key);
        let Some(contacts) = parts.first().and_then(|account| self.places.get(account)) else { return false };
        match &parts[..] {
            [account] => event::owner(account).is_some_and(|owner| contacts.contains_key(owner)),
            [_, _, _] => true,
            [_, contact, ..] => contacts.contains_key(contact),
            [] => false,
        }
    }

    /// What is left of the alert at this place: the contact's own goes, and its account's if that is nobody else.
    pub fn left(&self, alert: &[u8], place: u64) -> Left {
        self.applied(alert, place).unwrap_or(Left::All)
    }

    fn applied(&self, alert: &[u8], place: u64) -> Option<Left> {
        let Ok(named) = serde_json::from_slice::<Named<'_>>(alert) else {
            // Half of it may have been overwritten when the power went.
            let is_in = |contact: &String| memmem::find(alert, contact.as_bytes()).is_some();
            return self.places.values().flat_map(BTreeMap::keys).any(is_in).then_some(Left::Nothing);
        };
        let account = named.account?;
        let contacts = self.places.get(&*account)?;
        let is_forgotten = |contact: &str| contacts.get(contact).is_some_and(|until| place < *until);
        let owner = named.contact.as_deref().or_else(|| event::owner(&account));
        if owner.is_some_and(is_forgotten) {
            return Some(Left::Nothing);
        }
        let list = named.contacts?.get();
        let listed: Vec<Cow<'_, str>> = serde_json::from_str(list).ok()?;
        let kept: Vec<_> = listed.iter().filter(|contact| !is_forgotten(contact)).collect();
        if kept.len() == listed.len() {
            return None;
        }
        let start = list.as_ptr() as usize - alert.as_ptr() as usize;
        let part = [&alert[..start], &serde_json::to_vec(&kept).ok()?, &alert[start + list.len()..]].concat();
        // Written otherwise it may have grown, for a name that is written with escapes: then it is better gone.
        Some(if part.len() <= alert.len() { Left::Part(part) } else { Left::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_an_alert() {
        let mut notices = Notices::default();
        for (account, contact) in [("a.com", "jo \"j\" ü"), ("~bo", "bo")] {
            let notice = serde_json::json!({"id": "0f", "rule": "contact", "change": "erased", "sequence": 1,
                "account": account, "contact": contact, "erased_at": "2024-01-01T00:00:00Z", "tick": null})
            .to_string();
            notices.add(&Notice::of(notice.as_bytes()).unwrap(), 5);
        }
        let check = |alert: &str, place, expected: Left| assert_eq!(notices.left(alert.as_bytes(), place), expected);
        let own = r#"{"id":"1","rule":"lapse","account":"a.com","contact":"jo \"j\" \u00fc","score":1.5}"#;
        check(own, 4, Left::Nothing);
        check(own, 5, Left::All);
        check(&own.replace("jo ", "joe "), 0, Left::All);
        check(&own.replace("a.com", "b.com"), 0, Left::All);
        let account = r#"{"account":"a.com","contact":null,"contacts":["al","jo \"j\" ü","zoe"],"score":1}"#;
        check(account, 0, Left::Part(account.replace(r#""jo \"j\" ü","#, "").into_bytes()));
        check(r#"{"account":"a.com","contact":null,"contacts":["al"]}"#, 0, Left::All);
        check(r#"{"account":"~bo","contact":null,"contacts":[]}"#, 0, Left::Nothing);
        check("not JSON", 0, Left::All);
        check(r#"{"half":"jo \"j\" ü "#, 0, Left::All);
        check("half of bo", 0, Left::Nothing);
        check(r#"{"id":"bo"}"#, 0, Left::All);
        let check_key = |key: &str, is_of: bool| assert_eq!(notices.are_of_key(key.as_bytes()), is_of, "{key}");
        check_key("~bo", true);
        check_key("~bo|bo", true);
        check_key("~bo|bo|2024-01-01T00:00:00Z|crm|1", true);
        check_key("~bo|al", false);
        check_key("a.com", false);
        check_key("a.com|crm|1", true);
        check_key("b.com|crm|1", false);
        assert_eq!(Notice::of(own.as_bytes()), None);
    }
}
