//! The tables that changes go to, and the statements that write them. Pure.
//!
//! A statement takes one array of texts a column and casts them itself: the server checks every value, and what a value
//! is on the wire is what a person reads in a dead letter.

use std::fmt::Write;

/// What a column holds, and where its value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The key of the change.
    Key,
    /// The value of the change, as a whole.
    Record,
    /// The member of the column's name: a string.
    Text,
    /// A time in UTC, as a string.
    Time,
    /// A decimal number as a string, or a JSON number: kept digit for digit.
    Decimal,
    /// A JSON number that is a float.
    Float,
    /// A JSON number that is a whole one.
    Whole,
    /// `true` or `false`; absent is `false`.
    Flag,
    /// Any JSON.
    Json,
}

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Kind::Key | Kind::Text => "text",
            Kind::Record | Kind::Json => "jsonb",
            Kind::Time => "timestamptz",
            Kind::Decimal => "numeric",
            Kind::Float => "double precision",
            Kind::Whole => "bigint",
            Kind::Flag => "boolean",
        }
    }
}

/// A column: the name of the JSON member that it holds.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Without it there is no row.
    pub is_required: bool,
}

/// A table of the current schema.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns of its primary key; the first is the key of the change.
    pub key: &'static [&'static str],
    /// The column by which a row is newer than another of its key; of two alike, the later change stands.
    pub guard: &'static str,
    /// All columns that are written.
    pub columns: &'static [Column],
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_required: false }
}

const fn required(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_required: true }
}

const ALERT_COLUMNS: &[Column] = &[
    required("id", Kind::Key),
    required("sequence", Kind::Whole),
    required("rule", Kind::Text),
    required("change", Kind::Text),
    required("account", Kind::Text),
    column("contact", Kind::Text),
    column("owner", Kind::Text),
    column("segment", Kind::Text),
    column("last_engagement_at", Kind::Time),
    column("due", Kind::Time),
    column("recovered_at", Kind::Time),
    column("tick", Kind::Time),
    column("late_s", Kind::Whole),
    column("backlog", Kind::Flag),
    column("score", Kind::Float),
    required("record", Kind::Record),
];

/// Every alert as it stands.
pub static ALERTS: Table = Table { name: "alerts", key: &["id"], guard: "sequence", columns: ALERT_COLUMNS };

/// Every change of every alert.
pub static ALERT_CHANGES: Table =
    Table { name: "alert_changes", key: &["id", "sequence"], guard: "sequence", columns: ALERT_COLUMNS };

/// The latest scores.
pub static SCORES: Table = Table {
    name: "scores",
    key: &["key"],
    guard: "version",
    columns: &[
        required("key", Kind::Key),
        required("version", Kind::Whole),
        required("account", Kind::Text),
        column("contact", Kind::Text),
        column("score", Kind::Float),
        column("parts", Kind::Json),
        column("half_life_days", Kind::Float),
        column("as_of", Kind::Time),
        column("last_engagement_at", Kind::Time),
        column("last_two_way_at", Kind::Time),
        column("due", Kind::Time),
        column("touches_since", Kind::Whole),
        column("engagements", Kind::Whole),
        column("state", Kind::Text),
        required("record", Kind::Record),
    ],
};

/// Events as processed, and what is derived from them.
pub static FACTS: Table = Table {
    name: "facts",
    key: &["key"],
    guard: "version",
    columns: &[
        required("key", Kind::Key),
        required("version", Kind::Whole),
        required("fact", Kind::Text),
        column("id", Kind::Text),
        column("source", Kind::Text),
        column("account", Kind::Text),
        column("contact", Kind::Text),
        column("occurred_at", Kind::Time),
        column("revision", Kind::Whole),
        column("title", Kind::Text),
        column("by", Kind::Text),
        column("campaign", Kind::Text),
        column("content", Kind::Text),
        column("cost", Kind::Decimal),
        column("currency", Kind::Text),
        column("channel", Kind::Text),
        column("offer", Kind::Text),
        column("vehicle", Kind::Text),
        column("interaction", Kind::Text),
        column("status", Kind::Text),
        column("scheduled_for", Kind::Time),
        column("occasion", Kind::Text),
        column("target", Kind::Text),
        column("minutes", Kind::Decimal),
        column("in_response_to", Kind::Text),
        column("measure", Kind::Text),
        column("score", Kind::Decimal),
        column("ref", Kind::Text),
        column("stage", Kind::Text),
        column("outcome", Kind::Text),
        column("amount", Kind::Decimal),
        column("product", Kind::Text),
        column("quantity", Kind::Decimal),
        column("last_engagement_at", Kind::Time),
        column("lapsed_at", Kind::Time),
        column("recovered_at", Kind::Time),
        required("record", Kind::Record),
    ],
};

/// All tables, in the order in which every transaction writes them: two that write the same rows wait for each other
/// instead of both.
pub static TABLES: [&Table; 4] = [&ALERT_CHANGES, &ALERTS, &FACTS, &SCORES];

impl Table {
    /// Writes rows, given as one array of texts a column in the order of the columns, sorted by key: those that are new,
    /// and over older ones. What is there already is left alone.
    pub fn upsert(&self) -> String {
        let listed = |prefix: &str, suffix: fn(&Column) -> String| {
            let items = self.columns.iter().map(|column| format!("{prefix}\"{}\"{}", column.name, suffix(column)));
            items.collect::<Vec<_>>().join(", ")
        };
        let plain = |_: &Column| String::new();
        let (names, values) = (listed("", plain), listed("given.", |column| format!("::{}", column.kind.sql())));
        let mut sql = format!("insert into {} as stored ({names}) select {values} from unnest(", self.name);
        for place in 1..=self.columns.len() {
            let comma = if place > 1 { ", " } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(sql, "{comma}${place}::text[]");
        }
        let _ = write!(sql, ") as given ({names}) on conflict ({}) do update set ", self.quoted_key(""));
        sql.push_str(&listed("", |column| format!(" = excluded.\"{}\"", column.name)));
        let guard = self.guard;
        let _ = write!(sql, " where stored.{guard} < excluded.{guard}");
        let _ = write!(sql, " or stored.{guard} = excluded.{guard} and stored.record <> excluded.record");
        sql
    }

    /// Deletes what stands under the keys of changes, given as one array of texts; locked in order first, as a delete
    /// alone would not.
    pub fn delete(&self) -> String {
        let (table, first) = (self.name, self.key.first().copied().unwrap_or_default());
        let (key, stored, gone) = (self.quoted_key(""), self.quoted_key("stored."), self.quoted_key("gone."));
        format!(
            "with gone as (select {key} from {table} where \"{first}\" = any($1::text[]) order by {key} for update) \
             delete from {table} as stored using gone where ({stored}) = ({gone})"
        )
    }

    fn quoted_key(&self, prefix: &str) -> String {
        self.key.iter().map(|name| format!("{prefix}\"{name}\"")).collect::<Vec<_>>().join(", ")
    }
}
