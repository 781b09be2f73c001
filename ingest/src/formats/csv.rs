//! CSV: a header of canonical field names, in any order, then one record a row. A row becomes a canonical JSON object,
//! which goes through the parser that every other record goes through; nothing is checked twice, or in another way.
//!
//! - An empty cell is an absent field.
//! - A cell of a number or flag is written as one, if it is one; the parser refuses it if not. `TRUE` is `true`.
//! - `consent.email`, `consent.phone`, … are the members of `consent`.
//! - A column of another name is an unknown field, and text. One without a name is `column_N`.

use std::collections::BTreeSet;

use csv_core::ReadRecordResult;
use serde_json::value::RawValue;
use touchline_core::event::Reject;
use touchline_core::field::{Field, Type};

use super::Fault;

/// What every record needs, whatever its kind.
const REQUIRED: [&str; 4] = ["id", "source", "kind", "occurred_at"];
/// How many columns an error names.
const SHOWN_COLUMNS: usize = 30;
/// How much of a column's name an error repeats.
const SHOWN_CHARS: usize = 40;
/// Room for the text of a usual row.
const USUAL_BYTES: usize = 1024;
/// Room for the cells of a usual row.
const USUAL_CELLS: usize = 64;

/// Why a first line is no header: an error of the command, since every row after it would be a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Without a column that every record needs.
    #[error("the first line is no header of events: it lacks {lacks}; needed are {}, found are {found}{advice}", REQUIRED.join(", "))]
    Lacks {
        /// The columns that are not there.
        lacks: String,
        /// Those that are.
        found: String,
        /// What may have happened.
        advice: &'static str,
    },
    /// With a column twice.
    #[error("the header has the column `{column}` twice; rename one; found are {found}")]
    Twice {
        /// Which.
        column: String,
        /// All of them.
        found: String,
    },
    /// Not text.
    #[error("the header is not UTF-8: byte {at} is no part of a character; write the file as UTF-8")]
    NotUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// Longer than a row can be.
    #[error(
        "the first line has more than a row's {} bytes, or opens a quote and does not close it: it is no header",
        crate::lines::LONGEST_BYTES
    )]
    TooLong,
}

/// How a cell stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Text,
    Number,
    Flag,
    Object,
}

#[derive(Debug)]
struct Column {
    /// Of the row's cells.
    cell: usize,
    /// `"name":`
    key: Vec<u8>,
    form: Cell,
}

/// A valid header: what the cells of the rows after it mean.
#[derive(Debug)]
pub struct Header {
    cells: usize,
    columns: Vec<Column>,
    /// `"consent":` and its members.
    objects: Vec<(Vec<u8>, Vec<Column>)>,
}

impl Header {
    /// Parses the first row of a file.
    ///
    /// # Errors
    /// What is wrong with it, which columns were found and which are needed.
    pub fn parse(row: &[u8]) -> Result<Header, HeaderError> {
        let text = std::str::from_utf8(row).map_err(|error| HeaderError::NotUtf8 { at: error.valid_up_to() })?;
        let mut cells = Cells::default();
        cells.split(text.as_bytes());
        let name = |(number, cell): (usize, &str)| match cell.trim() {
            "" => format!("column_{}", number + 1),
            name => name.to_owned(),
        };
        let names: Vec<String> = cells.iter().enumerate().map(name).collect();
        check(text, &names)?;
        Ok(Header::of(&names))
    }

    fn of(names: &[String]) -> Header {
        let mut header = Header { cells: names.len(), columns: Vec::new(), objects: Vec::new() };
        for (cell, name) in names.iter().enumerate() {
            let column = |name: &str, form| Column { cell, key: key(name), form };
            let Some((object, member)) = member_of_object(name) else {
                header.columns.push(column(name, form_of(name)));
                continue;
            };
            let object = key(object);
            match header.objects.iter_mut().find(|(key, _)| *key == object) {
                Some((_, members)) => members.push(column(member, Cell::Text)),
                None => header.objects.push((object, vec![column(member, Cell::Text)])),
            }
        }
        header
    }

    /// Appends one row as a canonical JSON object. `cells` is room to work in.
    ///
    /// # Errors
    /// The row is not UTF-8, or does not have the header's number of cells.
    pub fn write_json(&self, row: &[u8], cells: &mut Cells, out: &mut Vec<u8>) -> Result<(), Fault> {
        std::str::from_utf8(row).map_err(|error| Reject::NotUtf8 { at: error.valid_up_to() })?;
        cells.split(row);
        if cells.len() != self.cells {
            return Err(Fault::Cells { found: cells.len(), columns: self.cells });
        }
        out.push(b'{');
        write_members(&self.columns, cells, out);
        for (key, members) in &self.objects {
            if members.iter().any(|member| !cells.get(member.cell).is_empty()) {
                separate(out);
                out.extend_from_slice(key);
                out.push(b'{');
                write_members(members, cells, out);
                out.push(b'}');
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// What every header must be.
fn check(text: &str, names: &[String]) -> Result<(), HeaderError> {
    let found = || {
        let shown = |name: &String| name.chars().take(SHOWN_CHARS).collect::<String>();
        let mut shown: Vec<String> = names.iter().take(SHOWN_COLUMNS).map(shown).collect();
        if names.len() > SHOWN_COLUMNS {
            shown.push(format!("… ({} in all)", names.len()));
        }
        shown.join(", ")
    };
    let lacks: Vec<&str> = REQUIRED.into_iter().filter(|name| !names.iter().any(|found| found == name)).collect();
    if !lacks.is_empty() {
        return Err(HeaderError::Lacks { lacks: lacks.join(", "), found: found(), advice: advice(text, names.len()) });
    }
    // A column of a whole object has the place of its members.
    let objects: BTreeSet<&str> =
        names.iter().filter_map(|name| member_of_object(name)).map(|(object, _)| object).collect();
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).chain(objects).collect();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    match twice {
        Some(column) => Err(HeaderError::Twice { column: column.to_owned(), found: found() }),
        None => Ok(()),
    }
}

fn advice(text: &str, columns: usize) -> &'static str {
    if text.trim_start().starts_with('{') {
        "; it begins like JSON: say --format jsonl"
    } else if columns == 1 && text.contains([';', '\t']) {
        "; columns are separated by commas, not by semicolons or tabs"
    } else {
        ""
    }
}

/// `consent.email` → (`consent`, `email`), where the first is a field that holds words.
fn member_of_object(name: &str) -> Option<(&str, &str)> {
    let (object, member) = name.split_once('.')?;
    let is_object = !member.is_empty() && Field::from_name(object).is_some_and(|field| field.row().kind == Type::Words);
    is_object.then_some((object, member))
}

fn form_of(name: &str) -> Cell {
    match (name, Field::from_name(name).map(|field| field.row().kind)) {
        ("revision", _) | (_, Some(Type::Number)) => Cell::Number,
        ("void", _) | (_, Some(Type::Bool)) => Cell::Flag,
        (_, Some(Type::Words)) => Cell::Object,
        _ => Cell::Text,
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    write_text(name, &mut key);
    key.push(b':');
    key
}

fn write_members(columns: &[Column], cells: &Cells, out: &mut Vec<u8>) {
    for column in columns {
        let cell = cells.get(column.cell);
        if !cell.is_empty() {
            separate(out);
            out.extend_from_slice(&column.key);
            write_cell(cell, column.form, out);
        }
    }
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// A cell that is not of its column's form becomes text, and the parser says what it should have been.
fn write_cell(cell: &str, form: Cell, out: &mut Vec<u8>) {
    let trimmed = cell.trim();
    let literal = match form {
        Cell::Text => None,
        Cell::Number => json(trimmed).filter(|json| json.starts_with(|c: char| c == '-' || c.is_ascii_digit())),
        Cell::Object => json(trimmed).filter(|json| json.starts_with('{')),
        Cell::Flag => ["true", "false"].into_iter().find(|flag| flag.eq_ignore_ascii_case(trimmed)),
    };
    match literal {
        Some(literal) => out.extend_from_slice(literal.as_bytes()),
        None => write_text(cell, out),
    }
}

fn json(text: &str) -> Option<&str> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail, and a string is always JSON.
    let _ = serde_json::to_writer(out, text);
}

/// One row, split into cells; kept from row to row for its room.
#[derive(Debug)]
pub struct Cells {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    len: usize,
}

impl Default for Cells {
    fn default() -> Cells {
        // Rows come without their line ends; a line end inside is part of a cell.
        let reader = csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Cells { reader, text: vec![0; USUAL_BYTES], ends: vec![0; USUAL_CELLS], len: 0 }
    }
}

impl Cells {
    /// Splits a row that has no line end behind it.
    fn split(&mut self, row: &[u8]) {
        self.reader.reset();
        // No cell is longer than its row.
        if self.text.len() < row.len() {
            self.text.resize(row.len(), 0);
        }
        let (mut read, mut written, mut cells) = (0, 0, 0);
        loop {
            let (result, consumed, wrote, ended) =
                self.reader.read_record(&row[read..], &mut self.text[written..], &mut self.ends[cells..]);
            (read, written, cells) = (read + consumed, written + wrote, cells + ended);
            match result {
                // Once more, with nothing: that ends the last cell.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.len = cells;
    }

    fn len(&self) -> usize {
        self.len
    }

    /// A cell's text: the row was UTF-8, and cells end at ASCII characters, so this is never empty for want of it.
    fn get(&self, cell: usize) -> &str {
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] };
        std::str::from_utf8(&self.text[start..self.ends[cell]]).unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len).map(|cell| self.get(cell))
    }
}
