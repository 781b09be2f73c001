//! What good records become.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use touchline_core::record::Record;
use touchline_ingest::formats::canonical::Decoded;
use touchline_ingest::{Decoder, Files, FilesPosition, Identity, Item, Zones};

use crate::kit::{arrived, canonical, check, event, file, gzip, options, zstd};

/// The canonical bytes of the only event of a file.
fn only_event(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let (_dir, path) = file(name, bytes.as_ref());
    let mut files = Files::open(&[path], options(None), FilesPosition::default()).unwrap();
    match files.next(arrived()).unwrap() {
        Item::Record(taken) => match taken.record {
            Record::Event(event) => canonical(&event),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The account and contact of a kind of event that gives these members, or that it is internal.
fn check_identity(kind: &str, members: &str, expect: &str) {
    let decoder = Decoder { identity: Identity::new(["ours.example".to_owned()]), ..Decoder::default() };
    let needed = match kind {
        "touch" => r#","channel":"email""#,
        "value" => r#","measure":"order""#,
        _ => "",
    };
    let line = format!(
        r#"{{"id":"x","source":"crm","kind":"{kind}","occurred_at":"2024-03-05T10:11:12Z"{needed},{members}}}"#
    );
    let found = match decoder.decode(line.as_bytes(), arrived()).unwrap() {
        Decoded::Record(Record::Event(event)) => format!("{} | {}", event.account, event.contact),
        Decoded::Internal => "internal".to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, expect, "{line}");
}

#[test]
fn whom_an_event_is_about() {
    check_identity("touch", r#""account":"Acme","contact":"Ann""#, "Acme | Ann");
    check_identity("touch", r#""account":"Acme","contact":"Ann@Beta.com""#, "Acme | ann@beta.com");
    check_identity("touch", r#""contact":"Ann@Beta.com""#, "beta.com | ann@beta.com");
    check_identity("touch", r#""account":"","contact":"ann@beta.com""#, "beta.com | ann@beta.com");
    check_identity("touch", r#""contact":"ann@GMail.com""#, "~ann@gmail.com | ann@gmail.com");
    check_identity("touch", r#""contact":"Ann""#, "~Ann | Ann");
    check_identity("touch", r#""contact":"a@b@c""#, "~a@b@c | a@b@c");
    check_identity("profile", r#""email":"Ann@Beta.com""#, "beta.com | ann@beta.com");
    check_identity("profile", r#""email":"Ann@GMX.de""#, "~ann@gmx.de | ann@gmx.de");
    check_identity("profile", r#""contact":"Ann","email":"ann@beta.com""#, "beta.com | Ann");
    check_identity("profile", r#""contact":"ann@gmail.com","email":"Ann@Beta.com""#, "beta.com | ann@gmail.com");
    check_identity("profile", r#""contact":"Ann","email":"ann@gmail.com""#, "~Ann | Ann");
    check_identity("profile", r#""account":"acme","email":null"#, "acme | ");
    check_identity("value", r#""account":"acme""#, "acme | ");
    check_identity("action", r#""account":"acme","on":"1""#, "acme | ");
    check_identity("touch", r#""void":true,"revision":1,"account":"acme""#, "acme | ");
}

#[test]
fn our_own_people_are_not_tracked() {
    check_identity("touch", r#""contact":"ann@ours.example""#, "internal");
    check_identity("touch", r#""account":"acme","contact":"ann@Mail.Ours.example""#, "internal");
    check_identity("touch", r#""account":"Ours.Example","contact":"ann""#, "internal");
    check_identity("value", r#""account":"uk.ours.example""#, "internal");
    check_identity("profile", r#""email":"ann@ours.example""#, "internal");
    check_identity("touch", r#""contact":"ann@yours.example""#, "yours.example | ann@yours.example");
    check_identity("touch", r#""contact":"ann@ours.example.com""#, "ours.example.com | ann@ours.example.com");
    let ours = event("x").replace("ann", "ann@ours.example");
    check("events.jsonl", format!("{}\n{ours}\n{}\n", event("a"), event("b")), &["a", "internal", "b"]);
}

#[test]
fn bare_dates_are_in_the_zone_of_their_source() {
    let zones = Zones::new([("crm".to_owned(), TimeZone::get("America/New_York").unwrap())]);
    let decoder = Decoder { zones, ..Decoder::default() };
    for (source, expect) in [("crm", "2024-03-05T05:00:00Z"), ("web", "2024-03-05T00:00:00Z")] {
        let line = event("x").replace("2024-03-05T10:11:12Z", "2024-03-05").replace("crm", source);
        let Decoded::Record(Record::Event(event)) = decoder.decode(line.as_bytes(), arrived()).unwrap() else {
            panic!()
        };
        assert_eq!(event.occurred_at.to_string(), expect);
    }
}

#[test]
fn however_a_file_is_packed() {
    let lines = format!("{}\n\n{}\n{}", event("a"), event("b"), event("c"));
    let expect = ["a", "b", "c"];
    for name in ["events.jsonl", "events.ndjson", "events.json", "EVENTS.JSONL"] {
        check(name, &lines, &expect);
        check(name, lines.replace('\n', "\r\n"), &expect);
        check(name, format!("\u{feff}{lines}"), &expect);
    }
    // What the bytes are counts, and not what the name says.
    for name in ["events.jsonl", "events.jsonl.gz", "events.jsonl.zst"] {
        check(name, &lines, &expect);
        check(name, gzip(lines.as_bytes()), &expect);
        check(name, zstd(lines.as_bytes()), &expect);
        let (first, second) = lines.as_bytes().split_at(100);
        check(name, [gzip(first), gzip(second)].concat(), &expect);
        check(name, [zstd(first), zstd(second)].concat(), &expect);
        let skippable = b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab".to_vec();
        check(name, [skippable, zstd(lines.as_bytes())].concat(), &expect);
    }
}

#[test]
fn a_row_is_the_event_that_its_cells_say() {
    let header = "\u{feff}kind, occurred_at ,id,source,contact,account,minutes,vehicle,title,\"my, own\",,void";
    let row = r#"engagement,2024-03-05T11:11:12+01:00,1,crm,Ann@Acme.com,, 30 ,call,"said ""yes"", twice"#;
    let row = format!("{row}\nand left\",ja,7,FALSE");
    let expect = r#"{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-03-05T10:11:12Z","account":"acme.com","contact":"ann@acme.com","title":"said \"yes\", twice\nand left","vehicle":"call","minutes":30,"column_11":"7","my, own":"ja"}"#;
    for end in ["", "\n", "\r\n"] {
        assert_eq!(
            only_event("events.csv", format!("{header}{}{row}{end}", if end.is_empty() { "\n" } else { end })),
            expect
        );
    }
    assert_eq!(only_event("events.csv.gz", gzip(format!("{header}\n{row}\n").as_bytes())), expect);
}

#[test]
fn dotted_columns_are_the_members_of_their_field() {
    let header = "id,source,kind,occurred_at,contact,account,consent.email,consent.phone,deleted,utm.source";
    let row = "1,crm,profile,2024-03-05,ann,acme,in,out,TRUE,x";
    let expect = r#"{"id":"1","source":"crm","kind":"profile","occurred_at":"2024-03-05T00:00:00Z","account":"acme","contact":"ann","consent":{"email":"in","phone":"out"},"deleted":true,"utm.source":"x"}"#;
    assert_eq!(only_event("events.csv", format!("{header}\n{row}\n")), expect);
    let row = "1,crm,profile,2024-03-05,ann,acme,,,,";
    let expect = r#"{"id":"1","source":"crm","kind":"profile","occurred_at":"2024-03-05T00:00:00Z","account":"acme","contact":"ann"}"#;
    assert_eq!(only_event("events.csv", format!("{header}\n{row}\n")), expect);
    let rows = "id,source,kind,occurred_at,contact,account,consent\n1,crm,profile,2024-03-05,ann,acme,\"{\"\"email\"\": \"\"in\"\"}\"\n";
    assert!(only_event("events.csv", rows).contains(r#""consent":{"email":"in"}"#));
}

/// Members of an event: known and unknown, present, null and empty.
fn members() -> impl Strategy<Value = Map<String, Value>> {
    let text = prop_oneof![
        "[a-zA-Z0-9 @.äß\\\\\"\n]{0,12}".prop_map(Value::from),
        Just(Value::Null),
        Just(Value::from("")),
        "[a-c]{1,3}@[A-C]{1,3}\\.com".prop_map(Value::from),
    ];
    let any = prop_oneof![
        text.clone(),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::collection::vec(text.clone(), 0..3).prop_map(Value::from),
        prop::collection::btree_map("[a-d \"]{0,3}", text.clone(), 0..3).prop_map(|map| json!(map)),
    ];
    let zone = prop::sample::select(vec!["Z", "+00:00", "-05:30", "+14:00"]);
    let time = (0u32..24, 0u32..60, prop::sample::select(vec!["", ".5", ".123456789"]), zone)
        .prop_map(|(h, m, fraction, zone)| Value::from(format!("2024-02-28T{h:02}:{m:02}:07{fraction}{zone}")));
    let kind = prop::sample::select(vec!["touch", "engagement", "advocacy", "value", "profile", "action"]);
    let texts = prop::collection::btree_map(
        prop::sample::select(vec![
            "title", "contact", "account", "email", "by", "ref", "channel", "vehicle", "measure", "reason",
        ]),
        text.clone(),
        0..8,
    );
    let times = prop::collection::btree_map(
        prop::sample::select(vec!["scheduled_for", "until", "paused_until", "last_engagement_at"]),
        time.clone(),
        0..3,
    );
    let unknown = prop::collection::btree_map("x_[a-z \"ü]{0,4}", any, 0..4);
    ("[a-z]{1,4}", kind, time, texts, times, unknown).prop_map(|(id, kind, at, texts, times, unknown)| {
        let mut map = Map::new();
        let text = [("channel", "c"), ("vehicle", "v"), ("measure", "m"), ("contact", "Ann"), ("account", "A")];
        map.extend(text.map(|(name, value)| (name.to_owned(), Value::from(value))));
        map.extend(texts.into_iter().map(|(name, value)| (name.to_owned(), value)));
        map.extend(times.into_iter().map(|(name, value)| (name.to_owned(), value)));
        map.extend(unknown);
        for (name, value) in
            [("id", Value::from(id)), ("source", "crm".into()), ("kind", kind.into()), ("occurred_at", at)]
        {
            map.insert(name.to_owned(), value);
        }
        map
    })
}

/// The names of the known fields of a kind, as the documentation of events lists them.
fn known(kind: &str) -> Vec<&'static str> {
    let row = match kind {
        "touch" => "title url by campaign content cost currency channel offer",
        "engagement" => {
            "title url by campaign content cost currency vehicle interaction status scheduled_for occasion target minutes in_response_to"
        }
        "advocacy" => "measure score ref",
        "value" => "measure ref stage outcome amount currency product quantity",
        "profile" => {
            "name job_title role seniority audience segment owner email timezone account_name domain parent lifecycle employment consent paused_until last_engagement_at merged_into deleted"
        }
        _ => "on do by to until reason",
    };
    let envelope = "id source kind occurred_at account contact revision void";
    envelope.split(' ').chain(row.split(' ')).collect()
}

/// What the canonical form of an event should be equal to, worked out with nothing but `serde_json::Value`.
fn normal(mut map: Map<String, Value>) -> Map<String, Value> {
    let kind = map["kind"].as_str().unwrap_or_default().to_owned();
    let known = known(&kind);
    map.retain(|name, value| {
        let clears = value.is_null() && kind == "profile" && name != "account" && name != "contact";
        !known.contains(&name.as_str()) || clears || !(value.is_null() || *value == "")
    });
    for (name, value) in &mut map {
        let is_time =
            ["occurred_at", "scheduled_for", "until", "paused_until", "last_engagement_at"].contains(&name.as_str());
        if let (true, true, Some(text)) = (is_time, known.contains(&name.as_str()), value.as_str()) {
            *value = Value::from(text.parse::<jiff::Timestamp>().unwrap().to_string());
        }
        let is_key = name == "account" || name == "contact";
        if let (true, Some(text)) = (is_key, value.as_str()) {
            let sides: Vec<&str> = text.split('@').collect();
            if sides.len() == 2 && sides.iter().all(|side| !side.is_empty()) && !text.contains(char::is_whitespace) {
                *value = Value::from(text.to_lowercase());
            }
        }
    }
    map
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_canonical_form_says_what_the_input_said(map in members(), spaces in any::<bool>()) {
        let value = Value::Object(map.clone());
        let text = if spaces { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        match Record::parse(text.as_bytes(), &TimeZone::UTC) {
            Ok(Record::Event(event)) => {
                let written = canonical(&event);
                prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), Value::Object(normal(map)));
                // Nothing is left to normalise.
                let Ok(Record::Event(again)) = Record::parse(written.as_bytes(), &TimeZone::UTC) else { panic!("{written}") };
                prop_assert_eq!(canonical(&again), written);
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(reject) => {
                // Only a required field that was made empty can be wrong here.
                let map = normal(map);
                let lacks = |name: &str| !map.contains_key(name);
                let expected = match map["kind"].as_str().unwrap() {
                    "touch" => lacks("contact") || lacks("channel"),
                    "engagement" => lacks("contact") || lacks("vehicle"),
                    "advocacy" => lacks("contact") || lacks("measure"),
                    "value" => lacks("measure"),
                    _ => false,
                };
                prop_assert!(expected, "{reject}");
            }
        }
    }
}
