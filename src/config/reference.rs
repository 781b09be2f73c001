//! Every setting with what it takes, its default and what it means: docs/configuration.md is written from this.
//!
//! What a setting takes is written from the limits that [`super::sections`] holds it to. Tests compare the names with those
//! that the sections ask for, and the defaults with what is read where the file says nothing.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use touchline_core::rules::MONTHS;
use touchline_sink::webhook;

use super::sections::{
    COMMIT_INTERVAL, CONCURRENCY, COUNTS, FORMATS, HALF_LIFE, MAX_DELAY, MEMORY, OUTPUTS, PARTITIONS, PUBLISHED,
    REQUEST, RETRY_AFTER, SINK_KINDS, SNAPSHOT_EVERY, SPAN, THREADS, UNUSED,
};
use super::value::{SIZE_UNITS, TIME_UNITS, in_units};

/// A setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The header of its table.
    pub table: &'static str,
    /// Its name there.
    pub key: &'static str,
    /// What it may be.
    pub takes: String,
    /// What it is if nothing is said.
    pub default: Default,
    /// What it means.
    pub meaning: &'static str,
}

/// What a setting is if nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Default {
    /// There is none: it has to be said.
    Required,
    /// Nothing, which has a meaning of its own.
    Nothing,
    /// This, as it would be written.
    Is(String),
}

/// All settings, table by table.
pub fn settings() -> Vec<Setting> {
    [kafka(), topics(), sources(), lapse(), score(), state(), sinks(), webhooks(), databases()].concat()
}

fn kafka() -> Vec<Setting> {
    let table = "[kafka]";
    vec![
        is(
            table,
            "bootstrap_servers",
            "host:port, some with commas between",
            "\"127.0.0.1:9092\"",
            "Where to begin to look for brokers.",
        ),
        unset(
            table,
            "properties",
            "a table of librdkafka's properties",
            "Any property of librdkafka: TLS, SASL, … One whose name ends in `password`, `secret`, `token` or the like is `\"env:NAME\"` or `\"file:PATH\"`. What correctness needs (offsets, transactions, isolation) is set over it.",
        ),
    ]
}

fn topics() -> Vec<Setting> {
    let table = "[topics]";
    let named = |key, default: &str, meaning| is(table, key, "a topic's name", default, meaning);
    vec![
        named("prefix", "\"touchline\"", "In front of the names of topics, groups and transactions."),
        is(
            table,
            "partitions",
            whole(&PARTITIONS),
            "64",
            "Of the topic of events and of the outputs. Fixed once the topic is made; also the most workers there can be.",
        ),
        is(
            table,
            "unused",
            whole(&UNUSED),
            "0",
            "Partitions that somebody has added to the topic of events since: they cannot be taken away, and are left alone.",
        ),
        named("events", "\"touchline.events\"", "Canonical events, ticks and rules, keyed by account."),
        named("progress", "\"touchline.progress\"", "How complete each source is, and the rules."),
        named("alerts", "\"touchline.alerts\"", "Changes of alerts."),
        named("scores", "\"touchline.scores\"", "The latest score of each contact and account."),
        named("facts", "\"touchline.facts\"", "Events as processed, and episodes."),
        named("dead_letters", "\"touchline.dead_letters\"", "What could not be taken or delivered."),
    ]
}

fn sources() -> Vec<Setting> {
    let table = "[[source]]";
    vec![
        required(table, "name", "a text", "What its events say as their `source`."),
        unset(
            table,
            "topics",
            "an array of topics",
            "Where its events come from. Without any, the table only says something of events that come otherwise.",
        ),
        is(table, "format", words(&FORMATS), "\"canonical\"", "What its records are."),
        is(table, "timezone", "an IANA time zone", "\"UTC\"", "Of its dates without a time."),
        is(table, "priority", "a whole number", "0", "Where profiles of the same time disagree, the greater wins."),
        is(
            table,
            "max_delay",
            span(&MAX_DELAY),
            "\"0s\"",
            "How late its events may arrive: the clock stays so far behind.",
        ),
        is(table, "required", "true or false", "true", "Whether the clock waits for it."),
        unset(
            "[internal]",
            "domains",
            "an array of mail domains",
            "Our own people, agencies and tests, with all subdomains: counted, and not tracked.",
        ),
    ]
}

fn lapse() -> Vec<Setting> {
    let table = "[lapse]";
    vec![
        is(table, "months", whole(&MONTHS), "3", "Calendar months without a counted engagement that are a lapse."),
        unset(
            table,
            "segments",
            format!("a table: segment = {}", whole(&MONTHS)),
            "Other thresholds by the `segment` of the contact's profile, else the account's.",
        ),
        is(
            table,
            "warn",
            span(&SPAN),
            "\"14d\"",
            "`at_risk` so long before; a week after the engagement at the soonest.",
        ),
        is(table, "escalate", span(&SPAN), "\"30d\"", "`escalated` so long after."),
        is(
            table,
            "counts",
            format!("an array of {}", words(&COUNTS)),
            "[\"two_way\", \"one_way\", \"advocacy\"]",
            "What ends a silence.",
        ),
        unset(
            "[alerts]",
            "since",
            "a time stamp",
            "Alerts that were due before carry `backlog: true`. Unset: when the rules were first written; in `replay` none.",
        ),
    ]
}

fn score() -> Vec<Setting> {
    let weight = |table, key, default: &str, meaning| is(table, key, "0 to 1000000", default, meaning);
    let (table, roles) = ("[score]", "[score.roles]");
    vec![
        is(table, "half_life", span(&HALF_LIFE), "\"60d\"", "After which a point is half a point."),
        is(table, "k", "a number above 0", "10", "score = 100 (1 − e^(−points / k))."),
        weight(table, "two_way", "3", "Points of a conversation."),
        weight(table, "one_way", "1", "Points of attention without an answer."),
        weight(table, "advocacy", "3", "Points of advocacy."),
        unset(
            table,
            "vehicles",
            "a table: vehicle = 0 to 1000000",
            "What points are multiplied by; 1 for a vehicle that is not named. Advocacy is a vehicle of that name.",
        ),
        weight(roles, "decision_maker", "100", "Of decision makers in their account's score."),
        weight(roles, "line_of_business", "80", "Of line-of-business people."),
        weight(roles, "functional", "60", "Of functional people."),
        weight(roles, "user", "40", "Of users."),
        weight(roles, "unknown", "20", "Of those whose role is not known."),
    ]
}

fn state() -> Vec<Setting> {
    vec![
        is(
            "[state]",
            "dir",
            "a path",
            "\"state\"",
            "Where `process` keeps its state, one for each process; `replay` has --state.",
        ),
        is("[state]", "memory", bytes(&MEMORY), "\"1GiB\"", "For caches and write buffers of all partitions together."),
        unset(
            "[snapshots]",
            "url",
            "`file:///DIR`, `s3://BUCKET/PREFIX` or `none`",
            "Where copies of states go. `run` and `process` do not start without a decision; `none` only if the log of events is kept for ever.",
        ),
        is("[snapshots]", "every", span(&SNAPSHOT_EVERY), "\"5m\"", "A partition that changes is copied so often."),
        is("[processor]", "threads", whole(&THREADS), "2", "Workers of `process`, each with partitions of its own."),
        is(
            "[processor]",
            "commit_interval",
            span(&COMMIT_INTERVAL),
            "\"100ms\"",
            "Between commits. On Kafka a worker that is behind commits once a second.",
        ),
        is(
            "[processor]",
            "publish",
            format!("an array of {}", words(&PUBLISHED)),
            "[\"alerts\", \"scores\", \"facts\"]",
            "What is written; dead letters always are.",
        ),
        unset(
            "[erasure]",
            "key",
            "`\"env:NAME\"` or `\"file:PATH\"`",
            "At least 16 random bytes, the same for all processes and for good. Erased contacts are known again by a hash made with it. Unset, whoever has the state can try names.",
        ),
        is(
            "[http]",
            "listen",
            "an IP address and port",
            "\"127.0.0.1:9464\"",
            "`/metrics`, `/livez` and `/readyz`. One that other machines reach needs a certificate and a token.",
        ),
        unset("[http]", "certificate", "a path", "A chain of certificates in PEM; read again when it changes."),
        unset("[http]", "key", "a path", "Its key in PEM, as `BEGIN PRIVATE KEY`."),
        is(
            "[http]",
            "insecure",
            "true or false",
            "false",
            "Whether anybody who reaches it may ask in the clear: behind a mesh, or in a network of its own.",
        ),
        unset(
            "[http.tokens]",
            "read",
            "`\"env:NAME\"` or `\"file:PATH\"`, or an array of some",
            "At least 16 bytes; whoever sends one (`Authorization: Bearer …`) may look. `/livez` needs none, and without one `/readyz` does not say why.",
        ),
        unset(
            "[http.tokens]",
            "operate",
            "`\"env:NAME\"` or `\"file:PATH\"`, or an array of some",
            "The same for whoever may change things as well; there is nothing yet that takes it.",
        ),
    ]
}

fn sinks() -> Vec<Setting> {
    let table = "[[sink]]";
    vec![
        required(table, "name", "a text", "Its name, also in metrics and its consumer group."),
        required(table, "kind", words(&SINK_KINDS), "What it is; each kind has settings of its own."),
        required(table, "topics", format!("an array of {}", words(&OUTPUTS)), "What it delivers."),
        required(FILE, "dir", "a path", "Where its files are; no two sinks share one."),
    ]
}

fn webhooks() -> Vec<Setting> {
    let schedule = webhook::STANDARD_SCHEDULE.map(|pause| duration(&pause)).join(", ");
    let (timeout, concurrency) = (duration(&webhook::TIMEOUT), webhook::CONCURRENCY.to_string());
    vec![
        required(
            WEBHOOK,
            "url",
            "`https://…`, or where it is",
            "Where to; `\"env:NAME\"` or `\"file:PATH\"` if it holds a token.",
        ),
        required(
            WEBHOOK,
            "secret",
            "`\"env:NAME\"` or `\"file:PATH\"`, or an array of some",
            "`whsec_…`, to sign with; some, while one takes another's place.",
        ),
        is(
            WEBHOOK,
            "schedule",
            format!("an array of {}", span(&RETRY_AFTER)),
            &format!("[{schedule}]"),
            "Pauses between attempts; then it is a dead letter. While nothing gets through, one message after another is tried, and the time of all goes on: they are given up after as long, and fewer attempts.",
        ),
        is(WEBHOOK, "timeout", span(&REQUEST), &timeout, "For a whole attempt."),
        is(WEBHOOK, "concurrency", whole(&CONCURRENCY), &concurrency, "Requests at once."),
        is(WEBHOOK, "allow_private", "true or false", "false", "Whether addresses that are not public are fine."),
        is(WEBHOOK, "allow_http", "true or false", "false", "Whether plain HTTP is fine."),
        unset(WEBHOOK, "proxy", "`http://…` or `https://…`, or where it is", "A proxy to go through."),
        unset(WEBHOOK, "ca", "a path", "Certificates (PEM) of authorities to trust beside the system's."),
    ]
}

fn databases() -> Vec<Setting> {
    vec![
        required(POSTGRES, "url", "`postgresql://user@host:5432/database?sslmode=…`, or where it is", "The database."),
        unset(POSTGRES, "password", "`\"env:NAME\"` or `\"file:PATH\"`", "In the place of one in the URL."),
        is(
            POSTGRES,
            "schema",
            "a name",
            "\"touchline\"",
            "The schema of the tables, which touchline makes and keeps up to date.",
        ),
    ]
}

/// A file sink.
const FILE: &str = "[[sink]] kind = \"file\"";
/// A webhook.
const WEBHOOK: &str = "[[sink]] kind = \"webhook\"";
/// A database.
const POSTGRES: &str = "[[sink]] kind = \"postgres\"";

fn required(table: &'static str, key: &'static str, takes: impl Into<String>, meaning: &'static str) -> Setting {
    Setting { table, key, takes: takes.into(), default: Default::Required, meaning }
}

fn unset(table: &'static str, key: &'static str, takes: impl Into<String>, meaning: &'static str) -> Setting {
    Setting { table, key, takes: takes.into(), default: Default::Nothing, meaning }
}

fn is(
    table: &'static str,
    key: &'static str,
    takes: impl Into<String>,
    default: &str,
    meaning: &'static str,
) -> Setting {
    Setting { table, key, takes: takes.into(), default: Default::Is(default.to_owned()), meaning }
}

fn whole<T: std::fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("{} to {}", range.start(), range.end())
}

fn span(range: &RangeInclusive<Duration>) -> String {
    format!("{} to {}", duration(range.start()), duration(range.end()))
}

fn bytes(range: &RangeInclusive<u64>) -> String {
    format!("\"{}\" to \"{}\"", in_units(*range.start(), &SIZE_UNITS), in_units(*range.end(), &SIZE_UNITS))
}

/// As people write it.
fn duration(duration: &Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 { "\"0s\"".to_owned() } else { format!("\"{}\"", in_units(ms, &TIME_UNITS)) }
}

fn words<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
}

/// docs/configuration.md.
pub fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut table = "";
    for setting in settings() {
        if setting.table != table {
            table = setting.table;
            let _ = write!(out, "\n## `{table}`\n\n| setting | takes | default | what |\n|---|---|---|---|\n");
        }
        let default = match &setting.default {
            Default::Required => "required".to_owned(),
            Default::Nothing => "–".to_owned(),
            Default::Is(default) => format!("`{default}`"),
        };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", setting.key, setting.takes, setting.meaning);
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

Every setting of `touchline.toml`, written from the code by `make docs`. [deploy/touchline.toml](../deploy/touchline.toml)
is an example with all of them.

Durations are whole numbers with a unit: `\"100ms\"`, `\"30s\"`, `\"5m\"`, `\"24h\"`, `\"14d\"` (a day has 24 hours). Sizes are
`\"64KiB\"`, `\"512MiB\"`, `\"1GiB\"`. Secrets are never written into the file, only where they are: `\"env:NAME\"` or
`\"file:PATH\"`. A table with two brackets can be repeated. Unknown keys are mistakes; `touchline check` reports all mistakes
at once, each with its line and what would be right.
";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{Config, SinkKind, parse};
    use super::*;

    /// No setting has this name.
    const UNKNOWN: &str = "zzzzzz";

    /// The header of a table with what it needs to be right.
    fn begun(table: &str) -> String {
        let sink = |rest: &str| format!("[[sink]]\nname = \"a\"\ntopics = [\"alerts\"]\n{rest}\n");
        match table {
            FILE => sink("kind = \"file\"\ndir = \"a\""),
            WEBHOOK => sink("kind = \"webhook\"\nurl = \"https://a\"\nsecret = \"env:A\""),
            POSTGRES => sink("kind = \"postgres\"\nurl = \"postgres://a\""),
            "[[source]]" => "[[source]]\nname = \"a\"\n".to_owned(),
            "[snapshots]" => "[snapshots]\nurl = \"none\"\n".to_owned(),
            _ => format!("{table}\n"),
        }
    }

    /// The settings that are asked for in a table, as who writes another one is told; none if it takes any.
    fn asked_for(begun: &str) -> BTreeSet<String> {
        let Err(mistakes) = parse(&format!("{begun}{UNKNOWN} = 1\n"), "t") else { return BTreeSet::new() };
        let told = mistakes.to_string();
        let known = told.lines().find_map(|line| line.split_once("unknown key; known here: ")?.1.split("; ").next());
        known.into_iter().flat_map(|known| known.split(", ")).map(str::to_owned).collect()
    }

    /// The tables that there are, and the settings that are asked for in each.
    fn tables() -> BTreeMap<String, BTreeSet<String>> {
        let mut tables = BTreeMap::new();
        for name in asked_for("") {
            let (outer, inner) = match &*name {
                "source" => ("[[source]]".to_owned(), vec![]),
                "sink" => {
                    let kinds = SINK_KINDS.map(|(kind, _)| format!("[[sink]] kind = \"{kind}\""));
                    tables.extend(kinds.map(|table| (table.clone(), asked_for(&begun(&table)))));
                    continue;
                }
                // What is a table itself has settings; one that takes any name is a setting.
                _ => {
                    let keys = asked_for(&format!("[{name}]\n")).into_iter();
                    let inner = keys.map(|key| (key.clone(), asked_for(&format!("[{name}.{key}]\n"))));
                    (format!("[{name}]"), inner.filter(|(_, keys)| !keys.is_empty()).collect())
                }
            };
            let mut keys = asked_for(&begun(&outer));
            for (key, asked) in inner {
                keys.remove(&key);
                tables.insert(format!("[{name}.{key}]"), asked);
            }
            tables.insert(outer, keys);
        }
        tables
    }

    #[test]
    fn every_setting_is_here_and_no_other() {
        let mut here: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for setting in settings() {
            here.entry(setting.table.to_owned()).or_default().insert(setting.key.to_owned());
        }
        let of_all_sinks = here.remove("[[sink]]").unwrap();
        for (_, keys) in here.iter_mut().filter(|(table, _)| table.starts_with("[[sink]]")) {
            keys.extend(of_all_sinks.clone());
        }
        assert_eq!(here, tables());
    }

    /// What is read, with the sinks' own defaults.
    fn read(text: &str) -> Result<Config, String> {
        let mut config = parse(text, "t").map_err(|mistakes| format!("{mistakes}\n--- of\n{text}"))?;
        for sink in &mut config.sinks {
            if let SinkKind::Webhook(sink) = &mut sink.kind {
                sink.schedule.get_or_insert(webhook::STANDARD_SCHEDULE.to_vec());
                sink.timeout.get_or_insert(webhook::TIMEOUT);
                sink.concurrency.get_or_insert(webhook::CONCURRENCY);
            }
        }
        Ok(config)
    }

    #[test]
    fn defaults_are_what_is_read() {
        for Setting { table, key, default, .. } in settings() {
            let begun = begun(table);
            match default {
                Default::Required => {
                    let without: String =
                        begun.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
                    let mistakes = read(&without).unwrap_err();
                    assert!(mistakes.contains(&format!(".{key}: is required and missing")), "{mistakes}");
                }
                Default::Is(value) => {
                    assert_eq!(read(&format!("{begun}{key} = {value}\n")), read(&begun), "{table} {key}");
                    assert!(read(&begun).is_ok(), "{begun}");
                }
                Default::Nothing => {}
            }
        }
    }
}
