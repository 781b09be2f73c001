//! Words that stand in most records of a timeline, as one byte each in its packed form, and vehicles in that of a tally.
//!
//! The number of a word stands in stored timelines: once assigned it must never be changed, and new words are added at the
//! end. Any other word is stored as it is, so nothing depends on what is listed but how much room a timeline takes.

use smol_str::SmolStr;

use crate::codec::{Corrupt, Reader, put_bytes};

/// Stands before a word that has no number.
const OTHER: u8 = 0xff;

/// Appends a word: its number, or all of it.
pub(crate) fn put(out: &mut Vec<u8>, word: &str) {
    match number(word) {
        Some(number) => out.push(number),
        None => {
            out.push(OTHER);
            put_bytes(out, word.as_bytes());
        }
    }
}

/// Reads what [`put`] wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<SmolStr, Corrupt> {
    match reader.byte()? {
        OTHER => Ok(reader.text()?.into()),
        number => word(number).map(SmolStr::new_static).ok_or(reader.corrupt()),
    }
}

macro_rules! words {
    ($($number:literal $word:literal)*) => {
        /// The number of a word, if it has one.
        pub(crate) fn number(word: &str) -> Option<u8> {
            match word { $($word => Some($number),)* _ => None }
        }

        /// The word of a number.
        pub(crate) fn word(number: u8) -> Option<&'static str> {
            match number { $($number => Some($word),)* _ => None }
        }

        #[cfg(test)]
        const WORDS: &[(u8, &str)] = &[$(($number, $word)),*];
    };
}

words! {
    // Interaction and status.
    0 "two_way" 1 "one_way" 2 "passive" 3 "machine" 4 "attended" 5 "planned" 6 "no_show" 7 "cancelled"
    // Vehicles.
    8 "conference" 9 "roundtable" 10 "seminar" 11 "newsletter" 12 "whitepaper" 13 "magazine" 14 "webcast"
    15 "virtual_meeting" 16 "meeting" 17 "community" 18 "web" 19 "email" 20 "call" 21 "demo" 22 "webinar" 23 "event"
    // Channels.
    24 "phone" 25 "post" 26 "social" 27 "ad" 28 "sms" 29 "chat" 30 "direct_mail"
    // Contents and whom they are for.
    31 "solution" 32 "strategy" 33 "product" 34 "technical" 35 "lob" 36 "mixed"
    // Measures, stages and outcomes.
    37 "nps" 38 "referral" 39 "reference_call" 40 "case_study" 41 "speaking" 42 "review" 43 "recommendation"
    44 "opportunity" 45 "order" 46 "renewal" 47 "churn" 48 "open" 49 "won" 50 "lost"
    51 "USD" 52 "EUR" 53 "GBP" 54 "CHF" 55 "JPY"
    // Profiles.
    56 "line_of_business" 57 "functional" 58 "decision_maker" 59 "user" 60 "business" 61 "customer" 62 "prospect"
    63 "out_of_market" 64 "internal" 65 "active" 66 "left"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_pairs() {
        for (number_of, word_of) in WORDS {
            assert_eq!(number(word_of), Some(*number_of));
            assert_eq!(word(*number_of), Some(*word_of));
            assert_ne!(*number_of, OTHER);
        }
        let words = WORDS.iter().map(|(_, word)| *word).chain(["", "a word of nobody else"]);
        for word in words {
            let mut bytes = Vec::new();
            put(&mut bytes, word);
            assert_eq!(read(&mut Reader::new(&bytes, "word")).unwrap(), word);
        }
    }
}
