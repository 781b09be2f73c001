//! Records that are wrong, in every way: each becomes a dead letter with its bytes, its place and a sentence, and the
//! records around it are processed. (The sentences themselves are tested where they are made.)

use serde_json::{Value, json};

use crate::community::{self, AS_OF, TRUTH, gzip, text, zstd};
use crate::harness::Place;
use crate::log::engagement;

/// A good record.
fn good(number: usize) -> String {
    engagement(&format!("good{number}"), "2024-01-15T12:00:00Z", &format!("c{number}"))
}

/// A record of a kind, with these members after the envelope.
fn record(kind: &str, members: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"x","source":"crm","kind":"{kind}","occurred_at":"2024-01-15T12:00:00Z","account":"acme",{members}}}"#
    )
    .into_bytes()
}

/// An engagement with one thing replaced by another.
fn with(from: &str, to: &str) -> Vec<u8> {
    engagement("x", "2024-01-15T12:00:00Z", "ann").replace(from, to).into_bytes()
}

/// Wrong lines, and what is said of each.
fn wrong() -> Vec<(Vec<u8>, &'static str)> {
    let call = |members: &str| record("engagement", &format!(r#""contact":"ann","vehicle":"call",{members}"#));
    let long = |bytes: usize| "y".repeat(bytes);
    let at = |time: &str| with("2024-01-15T12:00:00Z", time);
    vec![
        (b"nonsense".to_vec(), "not a JSON object"),
        (b"[1,2]".to_vec(), "not a JSON object"),
        (br#"{"id":"x","#.to_vec(), "not a JSON object: EOF"),
        (good(0).into_bytes().repeat(2), "trailing characters"),
        (b"\0\0\0\0".to_vec(), "not a JSON object"),
        (b"{\"id\":\"\xff\xfe\"}".to_vec(), "not UTF-8: byte 7"),
        (b"{}".to_vec(), "field `kind` is missing"),
        (with("engagement", "purchase"), r#"field `kind` is "purchase"; it takes one of touch, engagement"#),
        (with(r#""id":"x","#, ""), "field `id` is missing"),
        (with(r#""source":"crm","#, ""), "field `source` is missing"),
        (with(r#""occurred_at":"#, r#""at":"#), "field `occurred_at` is missing"),
        (with(r#""contact":"ann","#, ""), "field `contact` is missing; every engagement needs it"),
        (with(r#""vehicle":"call""#, r#""vehicle":"""#), "field `vehicle` is missing; every engagement needs it"),
        (record("touch", r#""contact":"ann""#), "field `channel` is missing; every touch needs it"),
        (record("advocacy", r#""contact":"ann""#), "field `measure` is missing; every advocacy needs it"),
        (with(r#""x""#, "7"), "field `id` is 7; it takes a string"),
        (with(r#""x""#, r#""x","id":"y""#), "field `id` is given twice"),
        (call(r#""minutes":"thirty""#), "field `minutes` is \"thirty\"; it takes a number"),
        (call(r#""status":"maybe""#), "field `status` is \"maybe\"; it takes one of attended"),
        (call(r#""interaction":3"#), "field `interaction` is 3; it takes a string"),
        (call(r#""cost":12.5"#), "field `cost` is 12.5; it takes a string"),
        (call(r#""revision":1.5"#), "field `revision` is 1.5; it takes an integer"),
        (call(r#""void":true"#), "field `revision` is missing; every void needs it"),
        (
            record("profile", r#""contact":"ann","timezone":"Mars/Olympus""#),
            "it takes a time zone of the IANA database",
        ),
        (record("profile", r#""contact":"ann","consent":["email"]"#), "it takes an object of strings"),
        (with(r#""x""#, &format!("{:?}", long(1025))), "field `id` has 1025 bytes; at most 1024 are taken"),
        (with("acme", &long(257)), "field `account` has 257 bytes; at most 256"),
        (with("ann", &long(257)), "field `contact` has 257 bytes; at most 256"),
        (call(&format!(r#""campaign":"{}""#, long(129))), "field `campaign` has 129 bytes; at most 128"),
        (call(&format!(r#""title":"{}""#, long(8193))), "field `title` has 8193 bytes; at most 8192"),
        (
            call(&format!(r#""deep":{}{}"#, "[".repeat(65), "]".repeat(65))),
            "field `deep` is nested more than 64 levels",
        ),
        (
            call(&format!(r#""deep":{}1{}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000))),
            "nested more than 64 levels",
        ),
        ("[".repeat(400_000).into_bytes(), "not a JSON object"),
        (call(r#""mine":"\ud800""#), "escapes are whole characters"),
        (
            long((1 << 20) + 1).into_bytes(),
            "has 1048577 bytes; at most 1048576 are taken: send the content by reference",
        ),
        (long(20_000_000).into_bytes(), "has 20000000 bytes; at most 1048576 are taken"),
        (at("2999-01-01T00:00:00Z"), "more than ten minutes after the record arrived"),
        (at("2023-02-29T00:00:00Z"), "a date and time that exist"),
        (at("2024-04-31"), "a date and time that exist"),
        (at("2024-01-15T12:00:00"), "with their offset"),
        (at("1705320000"), "field `occurred_at` is \"1705320000\""),
        (br#"{"kind":"tick"}"#.to_vec(), "missing field `through`"),
        (br#"{"kind":"tick","through":"soon"}"#.to_vec(), "not a JSON object"),
        (br#"{"kind":"rules","lapse":{"months":0}}"#.to_vec(), "it takes months, from 1 to 120"),
        (br#"{"kind":"rules","laps":{}}"#.to_vec(), "unknown field `laps`"),
    ]
}

/// How much of a record a dead letter keeps.
const RAW_BYTES: usize = 1 << 20;

/// What a dead letter must say besides its sentence.
fn expected(place: &Place, file: &str, line: usize, offset: usize, raw: &[u8]) -> Value {
    let topic = if file == "-" { file.to_owned() } else { place.canonical(file) };
    let mut letter = json!({"topic": topic, "stage": "ingest", "line": line, "offset": offset});
    match std::str::from_utf8(&raw[..raw.len().min(RAW_BYTES)]) {
        Ok(text) => letter["raw"] = text.into(),
        // The one that is not UTF-8: {"id":"\xff\xfe"}
        Err(_) => letter["raw_base64"] = "eyJpZCI6Iv/+In0=".into(),
    }
    if raw.len() > RAW_BYTES {
        letter["raw_bytes"] = raw.len().into();
    }
    letter
}

/// Compares dead letters with what was expected of each and a part of its sentence.
#[track_caller]
fn check_letters(place: &Place, expected: &[(Value, &str)]) {
    let mut letters = place.objects("out/dead_letters.jsonl");
    for (letter, (expected, sentence)) in letters.iter_mut().zip(expected) {
        let error = letter.as_object_mut().unwrap().remove("error").unwrap();
        assert!(error.as_str().unwrap().contains(sentence), "{sentence:?} is not in {error}");
        assert!(letter == expected, "{error}: {letter:.500} is not {expected:.500}");
    }
    assert_eq!(letters.len(), expected.len());
}

#[test]
fn lines() {
    // Line ends of both kinds, and blank lines, which are nothing.
    let (mut file, mut letters, mut number) = (Vec::new(), Vec::new(), 0);
    let place = Place::with(&[("wrong.jsonl", "")]);
    let ends: [&[u8]; 3] = [b"\n", b"\r\n", b"\n\n \t\n"];
    for ((raw, sentence), end) in wrong().into_iter().zip(ends.into_iter().cycle()) {
        file.extend_from_slice(good(number).as_bytes());
        file.extend_from_slice(end);
        let line = 1 + file.iter().filter(|byte| **byte == b'\n').count();
        letters.push((expected(&place, "wrong.jsonl", line, file.len(), &raw), sentence));
        file.extend_from_slice(&raw);
        file.extend_from_slice(end);
        number += 1;
    }
    file.extend_from_slice(good(number).as_bytes());
    place.write("wrong.jsonl", &file);
    let json = place.run("replay wrong.jsonl --out out --state state --as-of 2024-06-01 --json").ok().json();
    check_letters(&place, &letters);
    assert_eq!(json["dead_letters"].as_u64(), Some(letters.len() as u64));
    assert_eq!(json["events"].as_u64(), Some(number as u64 + 1));
    assert_eq!(place.read("out/lapses.csv").lines().count(), 1 + number + 1, "all that is good is processed");
    // They do not come again.
    let json = place.run("replay wrong.jsonl --out out --state state --as-of 2024-06-01 --json").ok().json();
    assert_eq!(json["dead_letters"], 0);
    check_letters(&place, &letters);

    // The same through a pipe, and told to people.
    place.write("wrong.jsonl.zst", zstd(&file));
    let ran = place.run("replay - --out out --as-of 2024-06-01 < wrong.jsonl.zst").ok();
    let told = format!("{} records could not be used", letters.len());
    assert!(ran.out.contains(&told) && ran.out.contains("dead_letters.jsonl says why"), "{}", ran.out);
    letters.iter_mut().for_each(|(letter, _)| letter["topic"] = "-".into());
    check_letters(&place, &letters);
}

#[test]
fn rows() {
    const HEADER: &str = "id,source,kind,occurred_at,account,contact,vehicle,minutes";
    let good = |id: &str| format!("{id},crm,engagement,2024-01-15,acme,{id},call,5");
    let wrong = [
        ("x,crm,engagement,2024-01-15", "the row has 4 cells where the header has 8 columns"),
        ("x,crm,engagement,2024-01-15,acme,ann,call,5,6", "the row has 9 cells"),
        ("x,crm,engagement,2024-01-15,acme,ann,call,five", "field `minutes` is \"five\"; it takes a number"),
        ("x,crm,engagement,,acme,ann,call,5", "field `occurred_at` is missing"),
        ("x,crm,engagement,2024-02-30,acme,ann,call,5", "a date and time that exist"),
        ("x,crm,engagement,2024-01-15,acme,ann,\"call,5", "opens a quote and does not close it"),
    ];
    let mut file = format!("{HEADER}\n");
    let place = Place::with(&[("wrong.csv", "")]);
    let mut letters = Vec::new();
    for (number, (raw, sentence)) in wrong.iter().enumerate() {
        file += &(good(&format!("good{number}")) + "\n");
        letters.push((expected(&place, "wrong.csv", file.lines().count() + 1, file.len(), raw.as_bytes()), *sentence));
        file += &format!("{raw}\n");
    }
    // Behind the open quote lines are rows again.
    file += &(good("last") + "\n");
    place.write("wrong.csv", file);
    let json = place.run("replay wrong.csv --out out --json").ok().json();
    check_letters(&place, &letters);
    assert_eq!(json["events"].as_u64(), Some(wrong.len() as u64 + 1));
}

#[test]
fn compressed_data_that_ends_too_early() {
    let whole = gzip(text(community::lines()));
    let cut = &whole[..whole.len() / 2];
    let place = Place::with(&[("h.jsonl.gz", cut)]);
    let command = format!("replay h.jsonl.gz --out out --state state --json --as-of {}", AS_OF);
    let json = place.run(&command).ok().json();
    assert_eq!(json["dead_letters"], 1);
    let letter = place.objects("out/dead_letters.jsonl").remove(0);
    let error = letter["error"].as_str().unwrap();
    assert!(
        error.contains("it ends where its compressed data goes on") && error.contains("get the file again"),
        "{error}"
    );
    // What is left of the line that was cut.
    let before = json["events"].as_u64().unwrap() as usize;
    assert!(before > 1000, "what stands before is processed");
    assert_eq!(letter["line"].as_u64(), Some(before as u64 + 1));
    assert_eq!(letter["offset"].as_u64(), Some(text(&community::lines()[..before]).len() as u64));
    assert!(community::lines()[before].starts_with(letter["raw"].as_str().unwrap()));
    // The file is got again, and the command goes on in it.
    place.write("h.jsonl.gz", whole);
    let json = place.run(&command).ok().json();
    assert_eq!(json["events"].as_u64(), Some((community::lines().len() - before) as u64));
    assert!(place.read("out/lapses.csv") == TRUTH);
}

#[test]
fn compressed_data_that_is_damaged() {
    let lines = &community::lines()[..2000];
    let (mut checksum, mut frames) = (gzip(text(lines)), zstd(text(lines)));
    *checksum.iter_mut().nth_back(7).unwrap() ^= 1;
    frames.extend_from_slice(b"\x28\xb5\x2f\xfdgarbage that is no frame at all");
    let end = text(lines).len() as u64;
    for (name, bytes) in [("h.jsonl.gz", checksum), ("h.jsonl.zst", frames)] {
        let place = Place::with(&[(name, bytes)]);
        for command in [format!("replay {name} --out out --json"), format!("replay - --out out --json < {name}")] {
            let json = place.run(&command).ok().json();
            assert_eq!((&json["events"], &json["dead_letters"]), (&2000.into(), &1.into()), "{command}");
            let letter = place.objects("out/dead_letters.jsonl").remove(0);
            assert_eq!((&letter["line"], &letter["offset"]), (&2001.into(), &end.into()), "{letter}");
            let error = letter["error"].as_str().unwrap();
            assert!(
                error.contains(&format!("damaged after {end} decompressed bytes: its compressed data is wrong")),
                "{error}"
            );
        }
    }
}

#[test]
fn nothing_is_something_to_note() {
    for (name, bytes) in [
        ("empty.jsonl", Vec::new()),
        ("blank.jsonl", b"\n \n\r\n".to_vec()),
        ("empty.jsonl.gz", gzip("")),
        ("empty.jsonl.zst", zstd("")),
        ("empty.csv", Vec::new()),
        ("header.csv", b"id,source,kind,occurred_at\n".to_vec()),
    ] {
        let place = Place::with(&[(name, bytes)]);
        let ran = place.run(&format!("replay {name} --out out")).ok();
        assert!(ran.out.contains(&format!("Note: {name} holds no records.")), "{name}: {ran}");
        assert_eq!(ran.err, "", "{name}: once is enough");
        assert_eq!(place.read("out/lapses.csv"), "account,contact,last_engagement_at,lapsed_at,recovered_at\n");
        let json = place.run(&format!("replay - --out out --json < {name}"));
        // A pipe has no name that tells CSV.
        if !name.contains("csv") {
            assert_eq!(json.ok().json()["warnings"][0], "standard input holds no records");
        }
    }
}
