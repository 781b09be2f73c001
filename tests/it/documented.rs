//! What is documented is what there is. docs/metrics.md and docs/configuration.md are written from the code: `make docs`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use touchline::config::reference;
use touchline::metrics;

/// The text that people read, or after the change that was asked for.
fn is_written(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if env::var_os("TOUCHLINE_WRITE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(text.lines()).find(|(found, should)| found != should);
    assert!(
        found == text,
        "docs/{name} is not what the code says: run `make docs`. The first difference: {differs:#?}"
    );
}

#[test]
fn every_setting() {
    is_written("configuration.md", &reference::markdown());
}

#[test]
fn every_metric() {
    is_written("metrics.md", &metrics::markdown().unwrap());
    for metric in metrics::all().unwrap().iter().flat_map(|(_, metrics)| metrics) {
        assert!(!metric.help.is_empty() && metric.name.starts_with("touchline_"), "{metric:?}");
        assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{metric:?}");
        assert!(metric.help.ends_with('.'), "{metric:?}");
    }
}

#[test]
fn alerting_rules_look_at_nothing_else() {
    let rules = include_str!("../../deploy/prometheus/rules.yml");
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let used = rules.split(|c: char| !word(c)).filter(|word| word.starts_with("touchline_"));
    let used: BTreeSet<&str> = used.collect();
    assert!(used.len() > 5, "{used:?}");
    let all = metrics::all().unwrap();
    let names: BTreeSet<String> = all
        .iter()
        .flat_map(|(_, metrics)| metrics)
        .flat_map(|metric| match metric.kind {
            "histogram" => ["bucket", "count", "sum"].map(|part| format!("{}_{part}", metric.name)).to_vec(),
            _ => vec![metric.name.clone()],
        })
        .collect();
    let unknown: Vec<_> = used.into_iter().filter(|name| !names.contains(*name)).collect();
    assert!(unknown.is_empty(), "no stage has {unknown:?}");
}
