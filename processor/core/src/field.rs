//! The fields of canonical events, as one table: name, type, and the kinds that have it, in the order of the canonical form.
//!
//! A field that a kind does not have is an unknown field there: kept, never interpreted. The number of a field stands in
//! stored timelines: once assigned it must never be changed, and new fields are
//! added at the end.

use crate::event::Kind;

/// What a field holds, and so how it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A short name from an open list, or a key: at most [`WORD_BYTES`].
    Word,
    /// Free text: at most [`TEXT_BYTES`].
    Text,
    /// A decimal number as a string, never a float.
    Decimal,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Bool,
    /// RFC 3339 with offset, or a bare date.
    Time,
    /// A time zone of the IANA database.
    Zone,
    /// One of [`crate::event::Interaction`].
    Interaction,
    /// One of [`crate::event::Status`].
    Status,
    /// An object of words.
    Words,
}

/// A name from an open list is a key in scores and metrics; longer ones are sentences in the wrong place.
pub const WORD_BYTES: usize = 128;
/// The longest URL that browsers and servers agree on; a title or reason is shorter.
pub const TEXT_BYTES: usize = 8 * 1024;

const TOUCH: u8 = 1;
const ENGAGEMENT: u8 = 1 << 1;
const ADVOCACY: u8 = 1 << 2;
const VALUE: u8 = 1 << 3;
const PROFILE: u8 = 1 << 4;
const ACTION: u8 = 1 << 5;

/// One row of [`TABLE`].
#[derive(Debug)]
pub struct Row {
    /// The field.
    pub field: Field,
    /// Its name in JSON.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    kinds: u8,
    required: u8,
}

impl Row {
    /// Whether events of this kind have the field.
    pub fn is_of(&self, kind: Kind) -> bool {
        self.kinds & bit(kind) != 0
    }

    /// Its place among the fields of a kind: that of the table, but for two fields that also stand further up in it.
    pub fn rank(&self, kind: Kind) -> u16 {
        const BEHIND: u16 = 1;
        let place = |field: Field| 2 * u16::from(field as u8);
        match (kind, self.field) {
            (Kind::Value, Field::Currency) => place(Field::Amount) + BEHIND,
            (Kind::Action, Field::By) => place(Field::Do) + BEHIND,
            (_, field) => place(field),
        }
    }

    /// Whether events of this kind must have the field.
    pub fn required_in(&self, kind: Kind) -> bool {
        self.required & bit(kind) != 0
    }
}

fn bit(kind: Kind) -> u8 {
    1 << (kind as u8)
}

macro_rules! table {
    ($($field:ident = $number:literal, $name:literal, $type:ident, $kinds:expr, $required:expr;)*) => {
        /// A field beside the envelope (`id`, `source`, `kind`, `occurred_at`, `account`, `contact`, `revision`, `void`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are those of the table in the documentation")]
        pub enum Field { $($field = $number),* }

        /// All fields, in canonical order.
        pub static TABLE: &[Row] = &[$(Row { field: Field::$field, name: $name, kind: Type::$type, kinds: $kinds, required: $required }),*];

        impl Field {
            /// The field that has this number in stored timelines.
            pub fn from_number(number: u8) -> Option<Field> {
                match number { $($number => Some(Field::$field),)* _ => None }
            }

            /// The field of this name, whatever the kind.
            pub fn from_name(name: &str) -> Option<Field> {
                match name { $($name => Some(Field::$field),)* _ => None }
            }

            /// Its row of the table.
            pub fn row(self) -> &'static Row {
                &TABLE[self as usize]
            }
        }
    };
}

table! {
    Title = 0, "title", Text, TOUCH | ENGAGEMENT, 0;
    Url = 1, "url", Text, TOUCH | ENGAGEMENT, 0;
    By = 2, "by", Word, TOUCH | ENGAGEMENT | ACTION, 0;
    Campaign = 3, "campaign", Word, TOUCH | ENGAGEMENT, 0;
    Content = 4, "content", Word, TOUCH | ENGAGEMENT, 0;
    Cost = 5, "cost", Decimal, TOUCH | ENGAGEMENT, 0;
    Currency = 6, "currency", Word, TOUCH | ENGAGEMENT | VALUE, 0;
    Channel = 7, "channel", Word, TOUCH, TOUCH;
    Offer = 8, "offer", Word, TOUCH, 0;
    Vehicle = 9, "vehicle", Word, ENGAGEMENT, ENGAGEMENT;
    Interaction = 10, "interaction", Interaction, ENGAGEMENT, 0;
    Status = 11, "status", Status, ENGAGEMENT, 0;
    ScheduledFor = 12, "scheduled_for", Time, ENGAGEMENT, 0;
    Occasion = 13, "occasion", Text, ENGAGEMENT, 0;
    Target = 14, "target", Word, ENGAGEMENT, 0;
    Minutes = 15, "minutes", Number, ENGAGEMENT, 0;
    InResponseTo = 16, "in_response_to", Text, ENGAGEMENT, 0;
    Measure = 17, "measure", Word, ADVOCACY | VALUE, ADVOCACY | VALUE;
    Score = 18, "score", Number, ADVOCACY, 0;
    Ref = 19, "ref", Text, ADVOCACY | VALUE, 0;
    Stage = 20, "stage", Word, VALUE, 0;
    Outcome = 21, "outcome", Word, VALUE, 0;
    Amount = 22, "amount", Decimal, VALUE, 0;
    Product = 23, "product", Word, VALUE, 0;
    Quantity = 24, "quantity", Number, VALUE, 0;
    Name = 25, "name", Text, PROFILE, 0;
    JobTitle = 26, "job_title", Text, PROFILE, 0;
    Role = 27, "role", Word, PROFILE, 0;
    Seniority = 28, "seniority", Word, PROFILE, 0;
    Audience = 29, "audience", Word, PROFILE, 0;
    Segment = 30, "segment", Word, PROFILE, 0;
    Owner = 31, "owner", Text, PROFILE, 0;
    Email = 32, "email", Text, PROFILE, 0;
    Timezone = 33, "timezone", Zone, PROFILE, 0;
    AccountName = 34, "account_name", Text, PROFILE, 0;
    Domain = 35, "domain", Text, PROFILE, 0;
    Parent = 36, "parent", Text, PROFILE, 0;
    Lifecycle = 37, "lifecycle", Word, PROFILE, 0;
    Employment = 38, "employment", Word, PROFILE, 0;
    Consent = 39, "consent", Words, PROFILE, 0;
    PausedUntil = 40, "paused_until", Time, PROFILE, 0;
    LastEngagementAt = 41, "last_engagement_at", Time, PROFILE, 0;
    MergedInto = 42, "merged_into", Text, PROFILE, 0;
    Deleted = 43, "deleted", Bool, PROFILE, 0;
    On = 44, "on", Text, ACTION, 0;
    Do = 45, "do", Word, ACTION, 0;
    To = 46, "to", Text, ACTION, 0;
    Until = 47, "until", Time, ACTION, 0;
    Reason = 48, "reason", Text, ACTION, 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fields_number_is_its_place_in_the_table() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.field as usize, place);
            assert_eq!(Field::from_number(place as u8), Some(row.field));
            assert_eq!(Field::from_name(row.name), Some(row.field));
        }
    }
}
