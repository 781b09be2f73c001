//! Changes as the processor publishes them.

use touchline_core::output::Topic;
use touchline_sink::Change;

/// One published under a key, or a tombstone; the place in the feed does not matter here.
pub fn change(topic: Topic, key: &str, value: Option<&str>) -> Change {
    crate::kit::change(0, topic, key, value)
}

pub fn alert(id: &str, sequence: i64, change_name: &str, members: &str) -> Change {
    let value = format!(
        r#"{{"id":"{id}","rule":"lapse","change":"{change_name}","sequence":{sequence},"account":"acme.com","contact":"jo@acme.com",{members}"score":63.2}}"#
    );
    change(Topic::Alerts, id, Some(&value))
}

pub fn score(key: &str, version: i64, members: &str) -> Change {
    let (account, contact) = key.split_once('|').unwrap();
    let value = format!(r#"{{"account":"{account}","contact":"{contact}",{members}"version":{version}}}"#);
    change(Topic::Scores, key, Some(&value))
}

pub fn fact(key: &str, version: i64, kind: &str, members: &str) -> Change {
    let value = format!(
        r#"{{"id":"{key}","source":"crm","fact":"{kind}","occurred_at":"2024-03-05T00:00:00Z","account":"acme.com","contact":"jo@acme.com",{members}"version":{version}}}"#
    );
    change(Topic::Facts, key, Some(&value))
}

/// The notice that a contact has been erased, for the so-manieth time.
pub fn notice(account: &str, contact: &str, sequence: i64) -> Change {
    let value = format!(
        r#"{{"id":"0f","rule":"contact","change":"erased","sequence":{sequence},"account":"{account}","contact":"{contact}","erased_at":"2024-05-0{sequence}T00:00:00Z","tick":null}}"#
    );
    change(Topic::Alerts, "0f", Some(&value))
}

pub fn tombstone(topic: Topic, key: &str) -> Change {
    change(topic, key, None)
}
