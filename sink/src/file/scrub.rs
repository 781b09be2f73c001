//! Lines about erased contacts are overwritten where they stand: others keep their places, and doing it again after a
//! crash changes nothing.

use touchline_core::notice::{Left, Notice, Notices};

/// What a line becomes, with blanks behind it. No alert is shorter.
const BLANK: &[u8] = br#"{"change":"erased"}"#;

/// Overwrites the line at a place, if it names somebody who is forgotten; whether it has.
pub fn scrub(notices: &Notices, line: &mut [u8], place: u64) -> bool {
    let left = match notices.left(line, place) {
        Left::All => return false,
        Left::Part(part) => part,
        Left::Nothing => BLANK.to_vec(),
    };
    let (head, blanks) = line.split_at_mut(left.len().min(line.len()));
    head.copy_from_slice(&left[..head.len()]);
    blanks.fill(b' ');
    true
}

/// What the notice leaves in the file: that somebody was erased, and not who.
pub fn receipt(notice: &Notice<'_>) -> Vec<u8> {
    let (id, sequence, erased_at) = (&notice.id, notice.sequence, &notice.erased_at);
    let text = |text: &str| serde_json::Value::from(text);
    format!(
        r#"{{"id":{},"rule":"contact","change":"erased","sequence":{sequence},"erased_at":{}}}"#,
        text(id),
        text(erased_at)
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_length() {
        let notice = r#"{"id":"0f","rule":"contact","change":"erased","sequence":1,"account":"a","contact":"c","erased_at":"2024-01-01T00:00:00Z"}"#;
        let mut notices = Notices::default();
        notices.add(&Notice::of(notice.as_bytes()).unwrap(), 1);
        let check = |line: &str, expected: &str| {
            let mut bytes = line.as_bytes().to_vec();
            assert_eq!(scrub(&notices, &mut bytes, 0), line != expected);
            assert_eq!(bytes.len(), line.len());
            assert_eq!(String::from_utf8(bytes).unwrap().trim_end(), expected);
        };
        check(r#"{"account":"a","contact":"c","score":1}"#, r#"{"change":"erased"}"#);
        check(r#"{"account":"a","contacts":["b","c"]}"#, r#"{"account":"a","contacts":["b"]}"#);
        check(r#"{"account":"a","contact":"b"}"#, r#"{"account":"a","contact":"b"}"#);
    }
}
