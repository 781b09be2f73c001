//! What a run says while it runs: logs and progress, both on standard error.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// It calls an error that a consumer which was fenced has nothing to leave.
const SILENT: &str = "rdkafka::consumer::base_consumer=off";

/// What tells of people is written only where it is asked for by its name, at whatever level all else is: our own target, and
/// what the client of PostgreSQL says of statements, which has the values of rows in it.
const DISCREET: &str = "personal=off,tokio_postgres=info";

/// Logs from `level` up, or what `TOUCHLINE_LOG` asks for (`info`, `touchline_processor=debug`, `info,personal=debug`, …).
pub fn init(format: LogFormat, level: &str) {
    let asked = std::env::var("TOUCHLINE_LOG").ok().filter(|asked| !asked.is_empty());
    // What comes later counts.
    let asked = asked.and_then(|asked| EnvFilter::try_new(format!("{DISCREET},{asked}")).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new(format!("{level},{SILENT},{DISCREET}")));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // The first caller's logger stays: in tests there may be one already.
    let _ = match format {
        LogFormat::Text => logs.with_ansi(is_coloured(&io::stderr())).with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

/// Whether colours are wanted there (<https://no-color.org>).
pub fn is_coloured(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A progress bar on standard error; none where nobody looks, or where it is not wanted.
pub fn bar(total: Option<u64>, unit: &str, is_hidden: bool) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    let template = match (total, unit) {
        (Some(_), "bytes") => "{wide_bar} {bytes}/{total_bytes}  {msg}  {elapsed}",
        (Some(_), _) => "{wide_bar} {human_pos}/{human_len}  {msg}  {elapsed}",
        (None, _) => "{spinner} {msg}  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    }
    if is_hidden {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
