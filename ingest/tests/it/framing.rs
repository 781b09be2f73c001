//! Bytes to lines and rows: no panic, nothing lost, whatever comes and however it comes.

use std::io::{self, Read};

use proptest::prelude::*;
use touchline_ingest::lines::{Framed, Framing, LONGEST_BYTES, Lines, Place};
use touchline_ingest::{Files, FilesPosition, Format, Item};

use crate::kit::{arrived, event, file, options};

/// Gives its bytes in pieces of the given sizes, again and again, and has no more for now between them if it is live.
struct Dribble<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    reads: usize,
    live: bool,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.live && self.reads.is_multiple_of(2) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = self.sizes[self.reads % self.sizes.len()].min(buffer.len()).min(self.bytes.len());
        buffer[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

/// All that is found, with its bytes, and the number of blank lines.
fn frames(source: impl Read, framing: Framing) -> (Vec<(Framed, Vec<u8>)>, u64) {
    let (mut lines, mut blanks, mut found) = (Lines::new(source, framing, 0, 1), 0, Vec::new());
    loop {
        match lines.next(&mut blanks).unwrap() {
            Framed::End => return (found, blanks),
            Framed::Pending => {}
            framed => found.push((framed, lines.bytes().to_vec())),
        }
    }
}

fn place(framed: Framed) -> Place {
    match framed {
        Framed::Record(place) | Framed::TooLong(place, _) | Framed::Unclosed(place) => place,
        other => panic!("{other:?}"),
    }
}

/// Text with all that matters to framing.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\"".to_vec()),
        Just(b",".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just(b" ".to_vec()),
        Just(vec![b'x'; LONGEST_BYTES - 1]),
        Just(vec![b'"'; LONGEST_BYTES / 2]),
        prop::collection::vec(any::<u8>(), 0..6),
        "[a-c]{0,3}".prop_map(String::into_bytes),
    ];
    let weighted = prop_oneof![40 => prop::collection::vec(small(), 0..40), 1 => prop::collection::vec(piece, 0..12)];
    weighted.prop_map(|pieces| pieces.concat())
}

fn small() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        2 => Just(b"\"".to_vec()),
        2 => Just(b",".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(b"\xef\xbb\xbf".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        3 => "[a-c]{1,3}".prop_map(String::into_bytes),
    ]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..8, 1usize..3000, Just(usize::MAX)], 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_sizes_of_reads_change_nothing(bytes in text(), mut sizes in sizes(), rows in any::<bool>(), live in any::<bool>()) {
        let framing = if rows { Framing::Rows } else { Framing::Lines };
        // A megabyte byte by byte takes its time.
        if bytes.len() > 100_000 {
            sizes.iter_mut().for_each(|size| *size = (*size).max(5000));
        }
        let whole = frames(&bytes[..], framing);
        let pieces = frames(Dribble { bytes: &bytes, sizes, reads: 0, live }, framing);
        prop_assert!(whole == pieces);
    }

    #[test]
    fn every_byte_and_line_belongs_somewhere(bytes in text(), rows in any::<bool>()) {
        let framing = if rows { Framing::Rows } else { Framing::Lines };
        let (found, blanks) = frames(&bytes[..], framing);
        let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let text = &bytes[mark..];
        let lines = text.split_inclusive(|byte| *byte == b'\n').count() as u64;
        let mut end = mark as u64;
        let mut taken = 0;
        for (framed, kept) in &found {
            let place = place(*framed);
            let between = &bytes[end as usize..place.start as usize];
            prop_assert!(between.trim_ascii().is_empty());
            let part = &bytes[place.start as usize..place.end as usize];
            prop_assert!(part.starts_with(kept));
            prop_assert!(kept.len() <= LONGEST_BYTES);
            let before = bytes[mark..place.start as usize].iter().filter(|byte| **byte == b'\n').count() as u64;
            prop_assert_eq!(place.line, before + 1);
            taken += part.split_inclusive(|byte| *byte == b'\n').count() as u64;
            end = place.end;
        }
        prop_assert!(bytes[end as usize..].trim_ascii().is_empty());
        prop_assert_eq!(taken + blanks, lines);
    }

    #[test]
    fn lines_are_the_lines_of_the_text(bytes in text()) {
        let (found, _) = frames(&bytes[..], Framing::Lines);
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let expect: Vec<&[u8]> = text
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| match line.strip_suffix(b"\n") {
                Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
                None => line,
            })
            .filter(|line| line.len() > LONGEST_BYTES || !line.trim_ascii().is_empty())
            .collect();
        prop_assert_eq!(found.len(), expect.len());
        for ((framed, kept), line) in found.iter().zip(expect) {
            match framed {
                Framed::Record(_) => prop_assert!(kept == line),
                Framed::TooLong(_, bytes) => {
                    prop_assert_eq!(*bytes, line.len() as u64);
                    prop_assert!(kept == &line[..LONGEST_BYTES] && line.len() > LONGEST_BYTES);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn rows_are_the_rows_of_the_reference(rows in prop::collection::vec(prop::collection::vec("[a-c ,\"\nä]{0,4}", 3..4), 0..8)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["id", "source", "kind", "occurred_at", "x", "y", "z"]).unwrap();
        for row in &rows {
            let head = ["1", "crm", "profile", "2024-03-05"];
            writer.write_record(head.into_iter().chain(row.iter().map(String::as_str))).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        // The reference names the contact's account in no column, so each row is refused for the same reason.
        let (_dir, path) = file("rows.csv", &bytes);
        let mut files = Files::open(&[path], options(None), FilesPosition::default()).unwrap();
        for _ in &rows {
            let Item::Dead(dead) = files.next(arrived()).unwrap() else { panic!("no dead letter") };
            prop_assert_eq!(dead.error, "field `account` is missing; every profile without a contact or an e-mail address needs it");
        }
        prop_assert!(matches!(files.next(arrived()).unwrap(), Item::End));
    }

    #[test]
    fn rows_and_cells_are_cut_as_the_reference_cuts_them(bytes in prop::collection::vec(small(), 0..40)) {
        let bytes = bytes.concat();
        // The reference ends rows at a lone return too, and has no opinion on quotes that do not end.
        // A mark before a row is skipped, wherever the row stands.
        let bytes = String::from_utf8_lossy(&bytes).replace(['\u{feff}', '\r'], "").into_bytes();
        let (found, _) = frames(&bytes[..], Framing::Rows);
        prop_assume!(!found.iter().any(|(framed, _)| matches!(framed, Framed::Unclosed(_))));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[..]);
        let expect: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        // Rows of blanks alone are rows to the reference.
        let is_blank = |row: &csv::StringRecord| row.len() == 1 && row[0].trim_ascii().is_empty();
        let cells = |row: &[u8]| {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(row);
            reader.records().map(Result::unwrap).next()
        };
        let found: Vec<csv::StringRecord> =
            found.iter().filter_map(|(_, row)| cells(row)).filter(|row| !is_blank(row)).collect();
        prop_assert_eq!(found, expect.into_iter().filter(|row| !is_blank(row)).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_files_do_no_harm(bytes in text(), good in any::<bool>(), csv in any::<bool>()) {
        let mut all = Vec::new();
        if csv {
            all.extend_from_slice(b"id,source,kind,occurred_at,account,contact,vehicle\n");
        }
        if good && !csv {
            all.extend_from_slice((event("a") + "\n").as_bytes());
        }
        all.extend_from_slice(&bytes);
        let (_dir, path) = file("x", &all);
        let format = Some(if csv { Format::Csv } else { Format::Canonical });
        // A UTF-16 mark, for example.
        let Ok(mut files) = Files::open(&[path], options(format), FilesPosition::default()) else { return Ok(()) };
        let (mut records, mut dead) = (0, 0);
        loop {
            match files.next(arrived()).unwrap() {
                Item::Record(_) | Item::Internal => records += 1,
                Item::Dead(letter) => {
                    dead += 1;
                    prop_assert!(letter.raw.len() <= LONGEST_BYTES);
                    let _ = letter.to_json();
                }
                Item::Idle => prop_assert!(false),
                Item::End => break,
            }
        }
        let counts = files.counts();
        prop_assert_eq!((counts.read, counts.dead), (records + dead, dead));
        if !csv && !all.starts_with(b"\x1f\x8b") {
            let text = all.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&all);
            let lines = text.split_inclusive(|byte| *byte == b'\n').count() as u64;
            prop_assert_eq!(records + dead + counts.blank, lines);
        }
    }
}
