//! Every way in which a record or a file can be wrong, with the sentence that a person reads. The records around it are
//! taken.

use std::io::Read;

use proptest::prelude::*;

use crate::kit::{check, check_refused, event, events, gzip, ids, zstd};

/// A bad line between two good ones.
fn check_line(line: impl AsRef<[u8]>, error: &str) {
    let mut bytes = (event("before") + "\n").into_bytes();
    let at = bytes.len();
    bytes.extend_from_slice(line.as_ref());
    bytes.extend_from_slice(b"\n");
    bytes.extend_from_slice(event("after").as_bytes());
    check("events.jsonl", bytes, &["before", &format!("dead letter, line 2 at {at}: {error}"), "after"]);
}

/// A member of an otherwise good event of a kind, which is said to be wrong.
fn check_field(kind: &str, member: &str, error: &str) {
    let (contact, needed) = match kind {
        "touch" => (r#""contact":"ann","#, r#""channel":"email","#),
        "engagement" => (r#""contact":"ann","#, r#""vehicle":"call","#),
        "advocacy" => (r#""contact":"ann","#, r#""measure":"nps","#),
        "value" => ("", r#""measure":"order","#),
        _ => ("", ""),
    };
    let contact = if member.contains("\"contact\"") { "" } else { contact };
    let needed = needed.split('"').nth(1).filter(|name| !member.contains(name)).map_or("", |_| needed);
    check_line(
        format!(
            r#"{{"id":"x","source":"crm","kind":"{kind}","occurred_at":"2024-03-05T10:11:12Z","account":"acme",{contact}{needed}{member}}}"#
        ),
        error,
    );
}

#[test]
fn lines_that_are_no_object() {
    check_line("nonsense", "the record is not a JSON object: expected ident at column 2");
    check_line("[1,2]", "the record is not a JSON object: invalid type: sequence, expected an object at column 0");
    check_line("17", "the record is not a JSON object: invalid type: integer `17`, expected an object at column 2");
    check_line(r#"{"id":"x""#, "the record is not a JSON object: EOF while parsing an object at column 9");
    check_line(event("x") + ",", "the record is not a JSON object: trailing characters at column 133");
    check_line(r#"{"id":'x'}"#, "the record is not a JSON object: expected value at column 7");
    check_line(
        b"{\"id\":\"\xff\xfe\"}",
        "the record is not UTF-8: byte 7 is no part of a character; write it as UTF-8",
    );
    check_line("{}", "field `kind` is missing; every event needs it");
    let long = format!("\"{}\"", "a".repeat(1000));
    let shown = format!("invalid type: string \"{}…, expected an object", "a".repeat(1000));
    let shown: String = shown.chars().take(160).collect();
    check_line(long, &format!("the record is not a JSON object: {shown}…"));
}

#[test]
fn a_line_that_is_too_long_is_counted_and_not_kept() {
    for bytes in [1024 * 1024 + 1, 20_000_000] {
        check_line(
            "x".repeat(bytes),
            &format!("the record has {bytes} bytes; at most 1048576 are taken: send the content by reference"),
        );
        check_line(
            "x".repeat(bytes) + "\r",
            &format!("the record has {bytes} bytes; at most 1048576 are taken: send the content by reference"),
        );
    }
    let longest = "x".repeat(1024 * 1024) + "\r";
    check_line(longest, "the record is not a JSON object: expected value at column 1");
}

#[test]
fn fields_of_the_envelope() {
    for field in ["id", "source", "kind", "occurred_at"] {
        let text = event("x").replace(&format!("\"{field}\":"), &format!("\"not_{field}\":"));
        check_line(text, &format!("field `{field}` is missing; every event needs it"));
    }
    let with = |from: &str, to: &str| event("x").replace(from, to);
    check_line(
        with("engagement", "purchase"),
        r#"field `kind` is "purchase"; it takes one of touch, engagement, advocacy, value, profile, action"#,
    );
    check_line(with(r#""x""#, "5"), "field `id` is 5; it takes a string");
    check_line(with(r#""x""#, r#""""#), "field `id` is missing; every event needs it");
    check_line(with(r#""x""#, "null"), "field `id` is missing; every event needs it");
    check_line(with(r#""x""#, r#""x","id":"y""#), "field `id` is given twice; keep one");
    let long = "x".repeat(1025);
    check_line(with(r#""x""#, &format!("\"{long}\"")), "field `id` has 1025 bytes; at most 1024 are taken");
    check_line(with("crm", &"x".repeat(257)), "field `source` has 257 bytes; at most 256 are taken");
    check_line(with("acme", &"x".repeat(257)), "field `account` has 257 bytes; at most 256 are taken");
    check_line(with("ann", &"x".repeat(257)), "field `contact` has 257 bytes; at most 256 are taken");
    check_field("engagement", r#""contact":null"#, "field `contact` is missing; every engagement needs it");
    check_field("touch", r#""contact":"""#, "field `contact` is missing; every touch needs it");
    check_field("touch", r#""revision":1.5"#, "field `revision` is 1.5; it takes an integer");
    check_field("touch", r#""revision":"1""#, r#"field `revision` is "1"; it takes an integer"#);
    check_field("touch", r#""void":"yes""#, r#"field `void` is "yes"; it takes true or false"#);
    check_field("touch", r#""void":true"#, "field `revision` is missing; every void needs it");
    let half = r#"field `id` is "\ud800"; it takes text whose \u escapes are whole characters"#;
    check_line(with(r#""x""#, r#""\ud800""#), half);
}

#[test]
fn times() {
    let at = |time: &str, error: &str| check_line(event("x").replace("2024-03-05T10:11:12Z", time), error);
    let takes = "it takes a date and time that exist, with their offset, such as 2024-03-05T10:11:12Z";
    for time in
        ["2024-02-30T00:00:00Z", "2023-02-29", "2024-13-01", "2024-03-05T25:00:00Z", "2024-03-05T10:11:12", "soon"]
    {
        at(time, &format!("field `occurred_at` is \"{time}\"; {takes}"));
    }
    check_line(
        event("x").replace("\"2024-03-05T10:11:12Z\"", "1709633472"),
        "field `occurred_at` is 1709633472; it takes a string",
    );
    at(
        "2024-06-01T00:10:01Z",
        "field `occurred_at` is 2024-06-01T00:10:01Z, more than ten minutes after the record arrived at 2024-06-01T00:00:00Z; if it is planned, say `status` planned and give the moment as `scheduled_for`",
    );
    check_field(
        "engagement",
        r#""scheduled_for":"2024-06-31T00:00:00Z""#,
        &format!("field `scheduled_for` is \"2024-06-31T00:00:00Z\"; {takes}"),
    );
}

#[test]
fn a_moment_ahead_is_within_what_clocks_differ() {
    check("events.jsonl", event("x").replace("2024-03-05T10:11:12Z", "2024-06-01T00:10:00Z"), &["x"]);
}

#[test]
fn fields_of_the_kinds() {
    check_field("touch", r#""channel":null"#, "field `channel` is missing; every touch needs it");
    check_field("engagement", r#""vehicle":null"#, "field `vehicle` is missing; every engagement needs it");
    check_field("value", r#""measure":"""#, "field `measure` is missing; every value needs it");
    check_field(
        "engagement",
        r#""interaction":"threeway""#,
        r#"field `interaction` is "threeway"; it takes one of two_way, one_way, passive, machine"#,
    );
    check_field(
        "engagement",
        r#""status":"maybe""#,
        r#"field `status` is "maybe"; it takes one of attended, planned, no_show, cancelled"#,
    );
    check_field("engagement", r#""minutes":"30""#, r#"field `minutes` is "30"; it takes a number"#);
    check_field("engagement", r#""minutes":1e999"#, "field `minutes` is 1e999; it takes a number");
    let decimal = r#"it takes a decimal number as a string, such as "12.50""#;
    check_field("touch", r#""cost":12.5"#, "field `cost` is 12.5; it takes a string");
    check_field("touch", r#""cost":"12,50""#, &format!(r#"field `cost` is "12,50"; {decimal}"#));
    check_field("value", r#""amount":"1e3""#, &format!(r#"field `amount` is "1e3"; {decimal}"#));
    let text = "y".repeat(8193);
    check_field("touch", &format!(r#""title":"{text}""#), "field `title` has 8193 bytes; at most 8192 are taken");
    let word = "y".repeat(129);
    check_field("touch", &format!(r#""campaign":"{word}""#), "field `campaign` has 129 bytes; at most 128 are taken");
    check_field(
        "profile",
        r#""timezone":"Mars/Olympus""#,
        r#"field `timezone` is "Mars/Olympus"; it takes a time zone of the IANA database, such as "Europe/Berlin""#,
    );
    check_field("profile", r#""deleted":1"#, "field `deleted` is 1; it takes true or false");
    let words = r#"it takes an object of strings, such as {"email": "out"}"#;
    check_field("profile", r#""consent":["email"]"#, &format!(r#"field `consent` is ["email"]; {words}"#));
    check_field("profile", r#""consent":{"email":1}"#, &format!(r#"field `consent` is {{"email":1}}; {words}"#));
    check_field("profile", r#""consent":{"a":"in","a":"out"}"#, "field `consent.a` is given twice; keep one");
    let long = "y".repeat(120);
    let many: Vec<String> = (0..100).map(|n| format!(r#""{n}":"{long}""#)).collect();
    let many = format!(r#""consent":{{{}}}"#, many.join(","));
    let bytes = many.len() - r#""consent":"#.len();
    check_field("profile", &many, &format!("field `consent` has {bytes} bytes; at most 8192 are taken"));
}

#[test]
fn unknown_fields() {
    let bomb = format!(r#""deep":{}{}"#, "[".repeat(65), "]".repeat(65));
    check_field("touch", &bomb, "field `deep` is nested more than 64 levels deep; flatten it");
    let bomb = format!(r#""deep":{}{}"#, r#"{"a":"#.repeat(100_000), format_args!("1{}", "}".repeat(100_000)));
    check_field("touch", &bomb, "field `deep` is nested more than 64 levels deep; flatten it");
    check_line(
        "[".repeat(500_000),
        "the record is not a JSON object: invalid type: sequence, expected an object at column 0",
    );
    check_field("touch", r#""mine":1,"mine":2"#, "field `mine` is given twice; keep one");
    check_field(
        "touch",
        r#""mine":["\ud83d","\ude00"]"#,
        r#"field `mine` is ["\ud83d","\ude00"]; it takes text whose \u escapes are whole characters"#,
    );
    check("events.jsonl", event("x").replace(r#"}"#, r#","mine":["\ud83d\ude00","\\ud800"]}"#), &["x"]);
}

#[test]
fn whom_an_event_is_about() {
    let line = |kind: &str, rest: &str| {
        format!(r#"{{"id":"x","source":"crm","kind":"{kind}","occurred_at":"2024-03-05T10:11:12Z"{rest}}}"#)
    };
    check_line(
        line("value", r#","measure":"order""#),
        "field `account` is missing; every value without a contact needs it",
    );
    check_line(line("action", ""), "field `account` is missing; every action without a contact needs it");
    check_line(
        line("profile", ""),
        "field `account` is missing; every profile without a contact or an e-mail address needs it",
    );
    check_line(
        line("touch", r#","void":true,"revision":2"#),
        "field `account` is missing; every void without a contact needs it",
    );
    check_line(
        line("profile", r#","email":"n/a","account":"acme""#),
        r#"field `email` is "n/a"; it takes an e-mail address where the profile has no contact"#,
    );
    let email = format!("{}@acme.com", "x".repeat(250));
    check_line(
        line("profile", &format!(r#","email":"{email}""#)),
        "field `email` has 259 bytes; at most 256 are taken",
    );
    let contact = "x".repeat(256);
    check_line(
        line("profile", &format!(r#","contact":"{contact}""#)),
        "field `contact` has 256 bytes; at most 255 are taken",
    );
}

#[test]
fn records_of_a_log() {
    check_line(r#"{"kind":"tick"}"#, "the record is not a JSON object: missing field `through`");
    let lines = format!("{}\n{}\n", r#"{"kind":"tick","through":"2030-01-01T00:00:00Z"}"#, r#"{"kind":"rules"}"#);
    check("log.jsonl", lines, &["tick 2030-01-01T00:00:00Z", "rules"]);
}

#[test]
fn files_with_nothing_in_them() {
    check("empty.jsonl", "", &["warning: empty.jsonl holds no records"]);
    check("empty.csv", "", &["warning: empty.csv holds no records"]);
    check("empty.jsonl.gz", "", &["warning: empty.jsonl.gz holds no records"]);
    check("empty.jsonl.gz", gzip(b""), &["warning: empty.jsonl.gz holds no records"]);
    check("blank.jsonl", "\n \r\n\t\n  ", &["warning: blank.jsonl holds no records"]);
    check("mark.jsonl", "\u{feff}", &["warning: mark.jsonl holds no records"]);
    check("header.csv", "id,source,kind,occurred_at\n", &["warning: header.csv holds no records"]);
}

#[test]
fn a_truncated_file_gives_all_whole_records() {
    let lines = events(0, 100);
    let ids = ids(0, 100);
    // The first compressed part is whole; the second loses its end.
    let mut whole = gzip(lines.as_bytes());
    let rest = gzip(event("lost").as_bytes());
    whole.extend_from_slice(&rest[..4]);
    let damage = format!(
        "dead letter, line 101 at {}: the file is damaged after {} decompressed bytes: it ends where its compressed data goes on. What stands before was read; get the file again and run the same command, which goes on there",
        lines.len(),
        lines.len()
    );
    let mut expect: Vec<&str> = ids.iter().map(String::as_str).collect();
    expect.push(&damage);
    check("events.jsonl.gz", &whole, &expect);
    let mut whole = zstd(lines.as_bytes());
    let rest = zstd(event("lost").as_bytes());
    // Zstandard gives a block when it has all of it, and not before; a checksum of four bytes follows.
    whole.extend_from_slice(&rest[..rest.len() - 5]);
    check("events.jsonl.zst", &whole, &expect);
}

#[test]
fn what_is_left_of_a_record_stands_in_the_dead_letter() {
    let lines = format!("{}\n{}", event("a"), event("cut"));
    let stored = flate2::Compression::none();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), stored);
    std::io::Write::write_all(&mut encoder, lines.as_bytes()).unwrap();
    let mut bytes = encoder.finish().unwrap();
    // A trailer of eight bytes, then thirty of the text.
    bytes.truncate(bytes.len() - 38);
    let (at, end) = (event("a").len() + 1, lines.len() - 30);
    check(
        "events.jsonl.gz",
        &bytes,
        &[
            "a",
            &format!(
                "dead letter, line 2 at {at}: the file is damaged after {end} decompressed bytes: it ends where its compressed data goes on. What stands before was read; get the file again and run the same command, which goes on there"
            ),
        ],
    );
}

#[test]
fn a_corrupt_file() {
    let lines = events(0, 10);
    let ids = ids(0, 10);
    let mut bytes = gzip(lines.as_bytes());
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    let damage = format!(
        "dead letter, line 11 at {0}: the file is damaged after {0} decompressed bytes: its compressed data is wrong (corrupt gzip stream does not have a matching checksum). What stands before was read; get the file again and run the same command, which goes on there",
        lines.len()
    );
    let mut expect: Vec<&str> = ids.iter().map(String::as_str).collect();
    expect.push(&damage);
    check("events.jsonl.gz", &bytes, &expect);
}

#[test]
fn rows_that_are_wrong() {
    const HEADER: &str = "id,source,kind,occurred_at,account,contact,vehicle,minutes\n";
    const GOOD: &str = ",crm,engagement,2024-03-05T10:11:12Z,acme,ann,call,\n";
    let row = |row: &str, error: &str| {
        let bytes = format!("{HEADER}a{GOOD}{row}\nz{GOOD}");
        let at = HEADER.len() + 1 + GOOD.len();
        check("events.csv", bytes, &["a", &format!("dead letter, line 3 at {at}: {error}"), "z"]);
    };
    let cells = "a cell that holds a comma, a quote or a line end stands in quotes";
    row("x,crm", &format!("the row has 2 cells where the header has 8 columns; {cells}"));
    row(
        "x,crm,engagement,2024-03-05T10:11:12Z,acme,ann,call,1,5",
        &format!("the row has 9 cells where the header has 8 columns; {cells}"),
    );
    row("x,crm,engagement,2024-03-05T10:11:12Z,acme,ann,call,007", r#"field `minutes` is "007"; it takes a number"#);
    row("x,crm,engagement,2024-03-05T10:11:12Z,acme,ann,,", "field `vehicle` is missing; every engagement needs it");
    row(",crm,engagement,2024-03-05T10:11:12Z,acme,ann,call,", "field `id` is missing; every event needs it");
    row(
        "x,crm,engagement,05.03.2024,acme,ann,call,",
        r#"field `occurred_at` is "05.03.2024"; it takes a date and time that exist, with their offset, such as 2024-03-05T10:11:12Z"#,
    );
    row(
        "x,crm,purchase,2024-03-05,acme,ann,call,",
        r#"field `kind` is "purchase"; it takes one of touch, engagement, advocacy, value, profile, action"#,
    );
    row(
        "x,crm,engagement,2025-03-05T10:11:12Z,acme,ann,call,",
        "field `occurred_at` is 2025-03-05T10:11:12Z, more than ten minutes after the record arrived at 2024-06-01T00:00:00Z; if it is planned, say `status` planned and give the moment as `scheduled_for`",
    );
    let long = "y".repeat(2_000_000);
    row(&format!("x,{long}"), "the record has 2000002 bytes; at most 1048576 are taken: send the content by reference");
    let mut bytes = format!("{HEADER}a{GOOD}").into_bytes();
    let at = bytes.len();
    bytes.extend_from_slice(b"x,\xff\n");
    let error = format!(
        "dead letter, line 3 at {at}: the record is not UTF-8: byte 2 is no part of a character; write it as UTF-8"
    );
    check("events.csv", bytes, &["a", &error]);
}

#[test]
fn a_quote_that_is_not_closed_costs_its_line() {
    const HEADER: &str = "id,source,kind,occurred_at,account,contact,vehicle\n";
    const GOOD: &str = ",crm,engagement,2024-03-05T10:11:12Z,acme,ann,call\n";
    let stray = "x,crm,\"engagement,2024-03-05T10:11:12Z,acme,ann,call\n";
    let error = format!(
        "dead letter, line 3 at {}: the row opens a quote and does not close it within 1048576 bytes or before the file ends; close it, and double the quotes inside it",
        HEADER.len() + 1 + GOOD.len()
    );
    check("events.csv", format!("{HEADER}a{GOOD}{stray}y{GOOD}z{GOOD}"), &["a", &error, "y", "z"]);
    let many = 2 * 1024 * 1024 / GOOD.len();
    let bytes = format!("{HEADER}a{GOOD}{stray}{}", format!("y{GOOD}").repeat(many));
    let mut expect = vec!["a", &error];
    expect.resize(many + 2, "y");
    check("events.csv", bytes, &expect);
}

#[test]
fn headers_that_are_none() {
    let needed = "needed are id, source, kind, occurred_at";
    check_refused(
        "events.csv",
        event("x"),
        &format!(
            "DIR/events.csv: the first line is no header of events: it lacks id, source, kind, occurred_at; {needed}, found are {{\"id\":\"x\", source:\"crm\", kind:\"engagement\", occurred_at:\"2024-03-05T10:11:12Z\", account:\"acme\", contact:\"ann\", vehicle:\"call\"}}; it begins like JSON: say --format jsonl"
        ),
    );
    check_refused(
        "events.csv",
        "id;source;kind;occurred_at\n1;2;3;4\n",
        &format!(
            "DIR/events.csv: the first line is no header of events: it lacks id, source, kind, occurred_at; {needed}, found are id;source;kind;occurred_at; columns are separated by commas, not by semicolons or tabs"
        ),
    );
    check_refused(
        "events.csv.gz",
        gzip(b"id,source,when\n"),
        &format!(
            "DIR/events.csv.gz: the first line is no header of events: it lacks kind, occurred_at; {needed}, found are id, source, when"
        ),
    );
    check_refused(
        "events.csv",
        "id,source,kind,occurred_at,id\n",
        "DIR/events.csv: the header has the column `id` twice; rename one; found are id, source, kind, occurred_at, id",
    );
    check_refused(
        "events.csv",
        "id,source,kind,occurred_at,consent.email,consent\n",
        "DIR/events.csv: the header has the column `consent` twice; rename one; found are id, source, kind, occurred_at, consent.email, consent",
    );
    check_refused(
        "events.csv",
        b"id,\xe9,kind\n",
        "DIR/events.csv: the header is not UTF-8: byte 3 is no part of a character; write the file as UTF-8",
    );
    check_refused(
        "events.csv",
        "x".repeat(3_000_000),
        "DIR/events.csv: the first line has more than a row's 1048576 bytes, or opens a quote and does not close it: it is no header",
    );
}

#[test]
fn files_that_cannot_be_read() {
    use crate::kit::{open, sentences};
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("day.jsonl")).unwrap();
    std::fs::write(dir.path().join("events"), "").unwrap();
    let path = |name: &str| dir.path().join(name);
    let shown = |name: &str| path(name).display().to_string();
    let Err(errors) = open(&[path("none.jsonl"), path("day.jsonl"), path("events")]) else { panic!("they are taken") };
    assert_eq!(std::error::Error::source(&errors[0]).unwrap().to_string(), "No such file or directory (os error 2)");
    assert_eq!(
        sentences(errors),
        [
            format!("{} cannot be opened", shown("none.jsonl")),
            format!("{} is a directory; name the files in it", shown("day.jsonl")),
            format!(
                "the name of {} does not tell its format (.jsonl, .ndjson, .json and .csv do, also before .gz or .zst); say --format jsonl or --format csv",
                shown("events")
            ),
        ]
    );
    std::fs::write(path("a.jsonl"), "").unwrap();
    let Err(errors) = open(&[path("a.jsonl"), path("./a.jsonl")]) else { panic!("they are taken") };
    assert_eq!(sentences(errors), [format!("{} is given twice; name it once", shown("./a.jsonl"))]);
    check_refused(
        "book.csv",
        b"PK\x03\x04 and so on",
        "DIR/book.csv is a zip archive (a workbook of a spreadsheet is one); unpack it, or save it as CSV",
    );
    check_refused("wide.csv", b"\xff\xfei\0d\0", "DIR/wide.csv is UTF-16 text; write it as UTF-8");
}

/// All lines that a decompressor can give of a damaged file. Not byte by byte: flate2 may keep back what it has
/// decompressed if the input ends while the buffer has no room.
fn whole_lines(mut decoder: impl Read) -> usize {
    let (mut buffer, mut lines) = (vec![0; 1 << 16], 0);
    while let Ok(bytes @ 1..) = decoder.read(&mut buffer) {
        lines += buffer[..bytes].iter().filter(|byte| **byte == b'\n').count();
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_file_cut_anywhere_gives_all_that_can_be_had(cut in 0.0f64..1.0, zst in any::<bool>(), seed in any::<u32>()) {
        // Lines that do not compress to nothing.
        let mut noise = u64::from(seed) | 1;
        let mut next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            event(&format!("{:x}", noise >> 8)) + "\n"
        };
        let text: String = (0..1500).map(|_| next()).collect();
        let packed = if zst { zstd(text.as_bytes()) } else { gzip(text.as_bytes()) };
        // As many as tell that it is compressed.
        let packed = &packed[..(packed.len() as f64 * cut) as usize];
        prop_assume!(packed.len() >= 4);
        let lines = if zst {
            whole_lines(zstd::Decoder::new(packed).unwrap())
        } else {
            whole_lines(flate2::read::MultiGzDecoder::new(packed))
        };
        let (dir, path) = crate::kit::file("events.jsonl", packed);
        let mut files = crate::kit::open(&[path]).unwrap();
        let found = crate::kit::read(&mut files, dir.path());
        prop_assert_eq!(found.len(), lines + 1);
        prop_assert!(found[lines].contains("the file is damaged after"), "{}", found[lines]);
        prop_assert_eq!(files.counts().dead, 1);
    }

    #[test]
    fn a_file_with_wrong_bits_does_no_harm(at in 0.1f64..1.0, bit in 0u8..8, zst in any::<bool>()) {
        let text = events(0, 2000);
        let mut packed = if zst { zstd(text.as_bytes()) } else { gzip(text.as_bytes()) };
        let at = (packed.len() as f64 * at) as usize;
        packed[at] ^= 1 << bit;
        let (dir, path) = crate::kit::file("events.jsonl", &packed);
        let mut files = crate::kit::open(&[path]).unwrap();
        let found = crate::kit::read(&mut files, dir.path());
        // A bit that nobody looks at is no damage.
        prop_assert!(found == ids(0, 2000) || files.counts().reasons.contains_key("damaged"));
    }
}
