//! Who an event is about, once its fields are known to be valid. Pure: the same event and configuration give the same
//! account and contact, so that a record may be ingested twice.
//!
//! What stands in the event is kept; what is missing is taken from an e-mail address. After [`Identity::resolve`] an
//! event has an account, and it has a contact unless it is a `value`, `profile`, `action` or void of an account.

mod free_mail;

use std::borrow::Cow;
use std::collections::BTreeSet;

use touchline_core::event::{ALIAS, Event, Field, KEY_BYTES, Kind, Reject, is_email, mail_domain};

use free_mail::FREE_MAIL;

/// A contact without an account becomes one, with [`ALIAS`] before it.
const ALIASED_BYTES: usize = KEY_BYTES - ALIAS.len_utf8();

/// Resolves events to accounts and contacts.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    internal_domains: BTreeSet<String>,
}

/// An event of ours, or of our own people.
#[derive(Clone, Debug, PartialEq)]
pub enum Tracked<'a> {
    /// To be processed.
    Event(Event<'a>),
    /// Of staff, an agency or a test: to be counted, and not to be tracked.
    Internal,
}

impl Identity {
    /// `internal_domains` are those of staff, agencies and tests; their subdomains are meant too.
    pub fn new(internal_domains: impl IntoIterator<Item = String>) -> Identity {
        Identity { internal_domains: internal_domains.into_iter().map(|domain| domain.to_lowercase()).collect() }
    }

    /// Fills in the account and contact that an event does not give.
    ///
    /// # Errors
    /// Names the field without which it cannot be known whom the event is about.
    pub fn resolve<'a>(&self, mut event: Event<'a>) -> Result<Tracked<'a>, Reject> {
        if event.contact.is_empty()
            && event.kind == Kind::Profile
            && let Some(contact) = contact_of_email(&event)?
        {
            event.contact = Cow::Owned(contact);
        }
        if event.account.is_empty() {
            event.account = Cow::Owned(account_of(&event)?);
        }
        Ok(if self.is_internal(&event) { Tracked::Internal } else { Tracked::Event(event) })
    }

    fn is_internal(&self, event: &Event<'_>) -> bool {
        if self.internal_domains.is_empty() {
            return false;
        }
        mail_domain(&event.contact).is_some_and(|domain| self.is_ours(domain)) || self.is_ours(&event.account)
    }

    /// Whether a domain is internal, or below one that is.
    fn is_ours(&self, domain: &str) -> bool {
        let domain = domain.to_lowercase();
        std::iter::successors(Some(&*domain), |domain| domain.split_once('.').map(|(_, parent)| parent))
            .any(|domain| self.internal_domains.contains(domain))
    }
}

/// The contact that a profile with nothing but an e-mail address is about.
fn contact_of_email(event: &Event<'_>) -> Result<Option<String>, Reject> {
    const FIELD: &str = "email";
    let Some(email) = event.text(Field::Email) else { return Ok(None) };
    if !is_email(email) {
        return Err(Reject::Malformed {
            field: Cow::Borrowed(FIELD),
            found: format!("{:?}", email.chars().take(KEY_BYTES).collect::<String>()),
            takes: Cow::Borrowed("an e-mail address where the profile has no contact"),
        });
    }
    let contact = email.to_lowercase();
    if contact.len() > KEY_BYTES {
        return Err(Reject::TooLong { field: FIELD, bytes: contact.len(), limit: KEY_BYTES });
    }
    Ok(Some(contact))
}

/// The account of an event that names none: the company behind an e-mail address, else the contact alone.
fn account_of(event: &Event<'_>) -> Result<String, Reject> {
    let email = match event.kind {
        Kind::Profile => event.text(Field::Email).map(str::to_lowercase),
        _ => None,
    };
    let domains = [Some(&*event.contact), email.as_deref()].into_iter().flatten().filter_map(mail_domain);
    if let Some(domain) = domains.into_iter().find(|domain| !is_free_mail(domain) && domain.len() <= KEY_BYTES) {
        return Ok(domain.to_owned());
    }
    match event.contact.len() {
        0 => Err(Reject::Missing { field: "account", of: without_contact(event) }),
        1..=ALIASED_BYTES => Ok(format!("{ALIAS}{}", event.contact)),
        bytes => Err(Reject::TooLong { field: "contact", bytes, limit: ALIASED_BYTES }),
    }
}

fn without_contact(event: &Event<'_>) -> &'static str {
    match (event.void, event.kind) {
        (true, _) => "void without a contact",
        (_, Kind::Profile) => "profile without a contact or an e-mail address",
        (_, Kind::Action) => "action without a contact",
        _ => "value without a contact",
    }
}

/// Whether a mail domain is a provider's whose customers have no employer in common. `domain` is in lower case.
fn is_free_mail(domain: &str) -> bool {
    FREE_MAIL.binary_search(&domain).is_ok()
}
