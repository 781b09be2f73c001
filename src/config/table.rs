//! Reads parsed TOML key by key and collects every mistake on the way.
//!
//! A section is a function of a [`Table`]: it asks for each key that it knows, with a default and a decoder from
//! [`super::value`], and gets a value whatever the file says; a mistake is noted, and the value then given never leaves
//! [`super::parse`]. The keys asked for *are* the schema: what the file has beyond them is an unknown key, and they are
//! what suggestions are drawn from. A section therefore asks for its keys even where the file lacks its table.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::mistakes::Finding;
use super::value::{Read, kind_of, nearest};

/// A value with its place in the text.
type Spanned<'t> = toml::Spanned<DeValue<'t>>;

/// What reading a document has brought to light.
#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    /// Every (table, key) that a section asked for.
    known: Vec<(String, &'static str)>,
    /// Judged at the end, when all known keys have been heard of: the place, table and name of each key not asked for.
    unknown: Vec<(usize, String, String)>,
}

/// One table of the file, perhaps absent.
pub(super) struct Table<'n, 't> {
    notes: &'n mut Notes,
    /// Key path; empty for the root.
    path: String,
    /// Offset of the header: where a missing key is reported.
    at: usize,
    entries: Option<&'t DeTable<'t>>,
    asked: Vec<&'static str>,
    /// Further keys are no mistake.
    open: bool,
}

/// Reads a whole document with `read`; what that returns means something only if there are no findings.
pub(super) fn read<'t, T>(document: &'t DeTable<'t>, read: impl FnOnce(&mut Table<'_, 't>) -> T) -> (T, Vec<Finding>) {
    let mut notes = Notes::default();
    let value = Table::enter(&mut notes, String::new(), 0, Some(document), read);
    let Notes { mut findings, known, unknown } = notes;
    findings.extend(unknown.into_iter().map(|(at, table, key)| {
        let advice = advise(&known, &table, &key);
        Finding { at, key: join(&table, &key), what: format!("unknown key{advice}") }
    }));
    (value, findings)
}

/// What may have been meant by an unknown key: a near name, else all names of its table, and the table that has its like.
fn advise(known: &[(String, &'static str)], table: &str, key: &str) -> String {
    let siblings: Vec<&str> = known.iter().filter(|(t, _)| t == table).map(|(_, k)| *k).collect();
    if let Some(near) = nearest(key, siblings.iter().copied()) {
        return format!("; did you mean `{near}`?");
    }
    let home = known.iter().find(|(t, k)| *k == key && !t.is_empty() && !t.contains('['));
    let home = home.map(|(t, k)| format!("; [{t}] has a `{k}`")).unwrap_or_default();
    format!("; known here: {}{home}", siblings.join(", "))
}

impl<'t> Table<'_, 't> {
    fn enter<T>(
        notes: &mut Notes,
        path: String,
        at: usize,
        entries: Option<&'t DeTable<'t>>,
        read: impl FnOnce(&mut Table<'_, 't>) -> T,
    ) -> T {
        let mut table = Table { notes, path, at, entries, asked: Vec::new(), open: false };
        let value = read(&mut table);
        table.leave();
        value
    }

    fn leave(self) {
        let Table { notes, path, entries, asked, open, .. } = self;
        if !open {
            let beyond = entries.into_iter().flatten().filter(|(key, _)| !asked.contains(&key.get_ref().as_ref()));
            notes.unknown.extend(beyond.map(|(k, _)| (k.span().start, path.clone(), k.get_ref().to_string())));
        }
        notes.known.extend(asked.into_iter().map(|key| (path.clone(), key)));
    }

    /// Whether the file has it.
    pub fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    /// Leaves keys that are not asked for alone.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// The decoded value of `key`, if the file has it.
    pub fn opt<T>(&mut self, key: &'static str, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        let value = self.ask(key)?;
        self.decode(join(&self.path, key), value, decode)
    }

    /// The decoded value of `key`, else `default`.
    pub fn or<T>(&mut self, key: &'static str, default: T, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> T {
        self.opt(key, decode).unwrap_or(default)
    }

    /// The decoded value of a required key.
    pub fn need<T>(&mut self, key: &'static str, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        self.require(key);
        self.opt(key, decode)
    }

    /// Notes it if the file lacks `key`.
    pub fn require(&mut self, key: &'static str) {
        if self.entries.is_none_or(|entries| !entries.contains_key(key)) {
            self.wrong(key, "is required and missing".to_owned());
        }
    }

    /// Checks a key whose value this version has no use for.
    pub fn check<T>(&mut self, key: &'static str, decode: impl Fn(&DeValue<'_>) -> Read<T>) {
        self.opt(key, decode);
    }

    /// The decoded elements of an array, each judged in its own place; one that repeats another is a mistake. `None` if
    /// the file lacks it, and if anything is wrong with it.
    pub fn set<T: Ord>(&mut self, key: &'static str, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<BTreeSet<T>> {
        let value = self.ask(key)?;
        let path = join(&self.path, key);
        let Some(elements) = value.get_ref().as_array() else {
            self.note(value.span().start, path, expected("an array", value.get_ref()));
            return None;
        };
        let mut set = BTreeSet::new();
        for (i, element) in elements.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let item = self.decode(path.clone(), element, &decode);
            if item.is_some_and(|item| !set.insert(item)) {
                self.note(element.span().start, path, "is listed twice".to_owned());
            }
        }
        (set.len() == elements.len()).then_some(set)
    }

    /// A table whose keys are the user's own names, such as segments.
    pub fn map<T>(&mut self, key: &'static str, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> BTreeMap<String, T> {
        self.table(key, |t| {
            t.open();
            let mut map = BTreeMap::new();
            for (name, value) in t.entries.into_iter().flatten() {
                let decoded = t.decode(join(&t.path, name.get_ref()), value, &decode);
                map.extend(decoded.map(|value| (name.get_ref().to_string(), value)));
            }
            map
        })
    }

    /// A table of this table; `read` is also called if the file lacks it, and then finds no keys.
    pub fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'_, 't>) -> T) -> T {
        let path = join(&self.path, key);
        let value = self.ask(key);
        let entries = value.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.note(value.span().start, path.clone(), expected(&format!("the table [{path}]"), value.get_ref()));
            }
            table
        });
        let at = value.map_or(self.at, |value| value.span().start);
        Table::enter(self.notes, path, at, entries, read)
    }

    /// The repeated table `[[key]]`, one call of `read` for each.
    pub fn tables<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Table<'_, 't>) -> T) -> Vec<T> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let path = join(&self.path, key);
        let Some(elements) = value.get_ref().as_array() else {
            self.note(value.span().start, path, format!("can be repeated: write [[{key}]], with two brackets"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (i, element) in elements.iter().enumerate() {
            let (path, at) = (format!("{path}[{i}]"), element.span().start);
            match element.get_ref().as_table() {
                Some(entries) => tables.push(Table::enter(self.notes, path, at, Some(entries), &mut read)),
                None => self.note(at, path, expected(&format!("the table [[{key}]]"), element.get_ref())),
            }
        }
        tables
    }

    /// Every value here and below by its dotted name, however the dots are written: `"a.b" = 1` or `a.b = 1`.
    pub fn leaves<T>(&mut self, judge: impl Fn(&str, &DeValue<'_>) -> Read<T>) -> BTreeMap<String, T> {
        let mut leaves = BTreeMap::new();
        let mut tables: Vec<(String, &DeTable<'_>)> =
            self.entries.map(|table| (String::new(), table)).into_iter().collect();
        while let Some((prefix, table)) = tables.pop() {
            for (key, value) in table {
                let name =
                    if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
                match value.get_ref() {
                    DeValue::Table(inner) => tables.push((name, inner)),
                    leaf => match judge(&name, leaf) {
                        Ok(value) => drop(leaves.insert(name, value)),
                        Err(what) => self.note(value.span().start, join(&self.path, &name), what),
                    },
                }
            }
        }
        leaves
    }

    /// Notes a mistake at the value of `key`, or at the table's header if the file lacks the key.
    pub fn wrong(&mut self, key: &str, what: String) {
        let at = self.entries.and_then(|entries| entries.get(key)).map_or(self.at, |value| value.span().start);
        self.note(at, join(&self.path, key), what);
    }

    /// The value of `key`, which is known from here on.
    fn ask(&mut self, key: &'static str) -> Option<&'t Spanned<'t>> {
        self.asked.push(key);
        self.entries?.get(key)
    }

    fn decode<T>(&mut self, path: String, value: &Spanned<'_>, decode: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        decode(value.get_ref()).map_err(|what| self.note(value.span().start, path, what)).ok()
    }

    fn note(&mut self, at: usize, key: String, what: String) {
        self.notes.findings.push(Finding { at, key, what });
    }
}

/// `table.key`; a key that TOML would quote is quoted.
fn join(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

fn expected(what: &str, found: &DeValue<'_>) -> String {
    format!("expected {what}, not {}", kind_of(found))
}
