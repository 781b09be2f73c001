//! Inputs to begin with, made of the table of fields and of events on standard input; and the words that matter.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use touchline_core::event::Kind;
use touchline_core::field::{TABLE, Type};
use touchline_core::keys;
use touchline_core::output::Published;
use touchline_core::record::{Record, tick_record};
use touchline_core::rules::Rules;
use touchline_core::state::{Memory, State};
use touchline_core::step::{Machine, Step};

const ROWS: &[&str] = &[
    "id,source,kind,occurred_at,account,contact,vehicle\n1,crm,engagement,2026-01-05,a.example,p,call\n",
    "id;source;kind;occurred_at;contact\r\n\"a \"\"b\"\"\";crm;touch;2026-01-05T10:00:00Z;p@a.example\r\n",
    "id,source,kind,occurred_at,account,contact,detail.campaign,amount,void,revision\n1,crm,value,2026-01-05,a,p,\"x\n,y\",1.50,true,3\n\n",
];

/// What stands around the fields of the table, and what some of them may be.
const WORDS: &[&str] = &[
    "id",
    "source",
    "kind",
    "occurred_at",
    "account",
    "contact",
    "revision",
    "void",
    "true",
    "false",
    "null",
    "tick",
    "rules",
    "through",
    "two_way",
    "one_way",
    "passive",
    "machine",
    "attended",
    "planned",
    "no_show",
    "cancelled",
];

/// Writes those of a target into a directory, and the words beside it.
pub fn write(target: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let words = WORDS.iter().copied().chain(TABLE.iter().map(|row| row.name)).chain(Kind::ALL.map(Kind::name));
    fs::write(dir.with_extension("dict"), words.map(|word| format!("\"{word}\"\n")).collect::<String>())?;
    let mut lines = io::stdin().lock().lines().collect::<io::Result<Vec<_>>>()?;
    lines.extend(Kind::ALL.iter().flat_map(|kind| events(*kind)));
    let seeds: Vec<Vec<u8>> = match target {
        "event" => lines.into_iter().map(String::into_bytes).collect(),
        "record" => {
            let control = [Rules::default().to_record(Some(1)), tick_record(Timestamp::UNIX_EPOCH, None)];
            lines.into_iter().map(String::into_bytes).chain(control).collect()
        }
        "rows" => ROWS.iter().map(|rows| rows.as_bytes().to_vec()).collect(),
        "state" => states(&lines)?,
        "position" => vec![vec![1], vec![2], vec![3]],
        "alert" => [NOTICE].into_iter().chain(ALERTS).map(|alert| alert.as_bytes().to_vec()).collect(),
        other => return Err(format!("there is no target {other}").into()),
    };
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed{number}")), seed)?;
    }
    Ok(())
}

/// That somebody is to be forgotten.
pub const NOTICE: &str = r#"{"id":"0f","rule":"contact","change":"erased","sequence":1,"account":"a","contact":"p \"q\"","erased_at":"2026-01-05T00:00:00Z","tick":null}"#;

/// Alerts that name that one, or others.
const ALERTS: [&str; 3] = [
    r#"{"id":"1","rule":"account_lapse","change":"opened","sequence":1,"account":"a","contact":null,"contacts":["o","p \"q\"","p \u0022q\u0022"],"score":1.5}"#,
    r#"{"id":"2","rule":"lapse","change":"opened","sequence":1,"account":"a","contact":"p \"q\"","score":1.5}"#,
    r#"{"id":"3","rule":"account_lapse","change":"opened","sequence":1,"account":"~p","contact":null,"contacts":[]}"#,
];

/// Events of a kind: with all of its fields, and withdrawn.
fn events(kind: Kind) -> [String; 2] {
    let value = |of| match of {
        Type::Word | Type::Text => "\"a \\u00e9 word\"",
        Type::Decimal => "\"-12.50\"",
        Type::Number => "1.5e1",
        Type::Bool => "false",
        Type::Time => "\"2026-01-05T10:00:00.123+02:00\"",
        Type::Zone => "\"Europe/Vienna\"",
        Type::Interaction => "\"two_way\"",
        Type::Status => "\"attended\"",
        Type::Words => "{\"email\":\"yes\"}",
    };
    let begin = format!("{{\"id\":\"1\",\"source\":\"s\",\"kind\":\"{}\",\"occurred_at\":\"2026-01-05\"", kind.name());
    let begin = format!("{begin},\"account\":\"a\",\"contact\":\"p\",\"revision\":2");
    let fields = TABLE.iter().filter(|row| row.is_of(kind)).map(|row| format!(",\"{}\":{}", row.name, value(row.kind)));
    let whole = format!("{begin}{},\"of theirs\":[1,null]}}", fields.collect::<String>());
    [whole, format!("{begin},\"void\":true}}")]
}

/// The states that these events make, as `main.rs` tells them apart.
fn states(lines: &[String]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let (mut state, mut out, mut keys) = (Memory::default(), Vec::<Published>::new(), Vec::new());
    let mut machine = Machine::load(&mut state).map_err(|error| error.to_string())?;
    let mut apply = |record: &Record<'_>, state: &mut Memory| -> Result<(), Box<dyn Error>> {
        let mut step = machine.apply(record, state, &mut out).map_err(|error| error.to_string())?;
        while step == Step::More {
            step = machine.resume(state, &mut out).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    for line in lines {
        let record = Record::parse(line.as_bytes(), &TimeZone::UTC).map_err(|reject| format!("{reject}: {line}"))?;
        if let Record::Event(event) = &record {
            keys.push((keys::account(&event.account), keys::contact(&event.account, &event.contact)));
        }
        apply(&record, &mut state)?;
    }
    apply(&Record::tick("2030-01-01T00:00:00Z".parse()?), &mut state)?;
    let mut seeds = Vec::new();
    for (account, contact) in keys {
        if let Some(found) = state.take_contact(&contact)? {
            let mut seed = vec![0];
            found.encode(&mut seed);
            seeds.push(seed);
            seeds.push([&[2], &*contact].concat());
        }
        if let Some(found) = state.take_account(&account)? {
            let mut seed = vec![1];
            found.encode(&mut seed);
            seeds.push(seed);
        }
    }
    Ok(seeds)
}
