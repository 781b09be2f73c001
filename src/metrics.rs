//! Every metric with its labels and what it means: docs/metrics.md is written from this, and this from what the stages
//! register.

use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::proto::MetricType;

/// A metric.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// What every stage registers, in the order of the corridor, and by name.
///
/// # Errors
/// One of them has a name that is none.
pub fn all() -> prometheus::Result<Vec<(&'static str, Vec<Metric>)>> {
    let described = |collectors: Vec<Box<dyn Collector>>| {
        let mut metrics: Vec<Metric> = collectors.iter().flat_map(|collector| describe(&**collector)).collect();
        metrics.sort_by(|one, other| one.name.cmp(&other.name));
        metrics
    };
    Ok(vec![
        ("ingest", described(touchline_ingest::kafka::collectors()?)),
        ("process", described(touchline_processor::Metrics::collectors()?)),
        ("sink", described(touchline_sink::Metrics::collectors()?)),
    ])
}

fn describe(collector: &dyn Collector) -> Vec<Metric> {
    // One with labels has no value yet, and says its name, help and type all the same.
    let described = collector.collect().into_iter().zip(collector.desc());
    let metric = |(family, desc): (prometheus::proto::MetricFamily, &prometheus::core::Desc)| Metric {
        name: desc.fq_name.clone(),
        kind: match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        },
        labels: desc.variable_labels.clone(),
        help: desc.help.clone(),
    };
    described.map(metric).collect()
}

/// docs/metrics.md.
///
/// # Errors
/// One of them has a name that is none.
pub fn markdown() -> prometheus::Result<String> {
    let mut out = INTRODUCTION.to_owned();
    for (stage, metrics) in all()? {
        let _ = write!(out, "\n## `{stage}`\n\n| metric | type | labels | what |\n|---|---|---|---|\n");
        for Metric { name, kind, labels, help } in metrics {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
    }
    Ok(out)
}

const INTRODUCTION: &str = "\
# Metrics

What touchline answers on `/metrics` of `[http] listen`, written from the code by `make docs`: each process has those of the
stages that it runs. No label ever names a contact or an account. What to be woken for is in
[deploy/prometheus/rules.yml](../deploy/prometheus/rules.yml).
";
