//! Inputs to begin with, made of events on standard input.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
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

/// Writes those of a target into a directory.
pub fn write(target: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let lines = io::stdin().lock().lines().collect::<io::Result<Vec<_>>>()?;
    let seeds: Vec<Vec<u8>> = match target {
        "event" => lines.into_iter().map(String::into_bytes).collect(),
        "record" => {
            let control = [Rules::default().to_record(Some(1)), tick_record(Timestamp::UNIX_EPOCH, None)];
            lines.into_iter().map(String::into_bytes).chain(control).collect()
        }
        "rows" => ROWS.iter().map(|rows| rows.as_bytes().to_vec()).collect(),
        "state" => states(&lines)?,
        "position" => vec![vec![1], vec![2], vec![3]],
        other => return Err(format!("there is no target {other}").into()),
    };
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed{number}")), seed)?;
    }
    Ok(())
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
        let record = Record::parse(line.as_bytes(), &TimeZone::UTC)?;
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
