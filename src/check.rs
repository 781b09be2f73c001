//! `touchline check`: every mistake of the configuration at once, and then a probe of each connection that it names.
//!
//! A probe changes nothing that stays, says in a line each what it has found or what to do, and has a deadline; all run at
//! once. What a `replay` alone needs no Kafka for is not asked of Kafka: see [`config::Kafka::is_named`].

mod directory;
mod kafka;
mod sinks;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::x509::X509;
use serde::Serialize;
use touchline_processor::Snapshots;

use crate::cli::{self, Misconfigured};
use crate::config::{self, Config, Secret, Tokens};
use crate::{erasure, http};

/// For a connection: what takes longer is as good as not there.
const WITHIN: Duration = Duration::from_secs(8);
/// For all probes together, whatever they hang on (a resolver, a file system that is away).
const ALL_WITHIN: Duration = Duration::from_secs(25);

/// What is valid for less is to be renewed now.
const EXPIRES_SOON_DAYS: i32 = 14;

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// Look at the file alone: connect to nothing
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Fine for now, or for some.
    Warning,
    Failed,
}

/// One line of what a probe has found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    what: String,
    level: Level,
    found: String,
}

impl Finding {
    fn new(what: impl Into<String>, level: Level, found: impl Into<String>) -> Finding {
        Finding { what: what.into(), level, found: found.into().replace('\n', " ") }
    }

    fn ok(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(what, Level::Ok, found)
    }

    fn warning(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(what, Level::Warning, found)
    }

    fn failed(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(what, Level::Failed, found)
    }

    fn mark(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failed => "FAILED",
        }
    }
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let file = options.config.display().to_string();
    let config = match config::load(&options.config) {
        Ok(config) => config,
        Err(mistakes) if options.json => {
            let mistakes: Vec<String> = mistakes.to_string().lines().map(str::to_owned).collect();
            let report = serde_json::json!({ "file": file, "ok": false, "mistakes": mistakes, "probes": [] });
            writeln!(io::stdout(), "{report}")?;
            return Ok(ExitCode::from(cli::CONFIG));
        }
        Err(mistakes) => return Err(mistakes.into()),
    };
    let mut out = io::stdout();
    if !options.json {
        writeln!(out, "{file} is right")?;
    }
    let findings = if options.offline { Vec::new() } else { probe(&config) };
    let failed = findings.iter().filter(|finding| finding.level == Level::Failed).count();
    if options.json {
        let report = serde_json::json!({ "file": file, "ok": failed == 0, "mistakes": [], "probes": findings });
        writeln!(out, "{report}")?;
    } else {
        let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
        for finding in &findings {
            writeln!(out, "{:<8} {:<width$}  {}", finding.mark(), finding.what, finding.found)?;
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let total = findings.len();
    Err(Misconfigured(format!("{failed} of {total} things that were looked at are not as they should be")).into())
}

/// Probes all that the configuration names, in the order of the corridor.
fn probe(config: &Config) -> Vec<Finding> {
    let mut probes = Vec::new();
    if config.kafka.is_named {
        let (asked, dir) = (config.clone(), config.state.dir.clone());
        probes.push(Probe::start("kafka", move || kafka::probe(&asked)));
        probes.push(Probe::start("state", move || vec![directory::probe("state", &dir)]));
        let asked = config.clone();
        probes.push(Probe::start("snapshots", move || vec![look_at_snapshots(&asked)]));
    }
    for sink in &config.sinks {
        let sink = sink.clone();
        probes.push(Probe::start(format!("sink {}", sink.name), move || sinks::probe(&sink)));
    }
    if config.erasure_key.is_some() {
        let asked = config.clone();
        probes.push(Probe::start("erasure", move || vec![look_at_erasure_key(&asked)]));
    }
    let Tokens { read, operate } = &config.http.tokens;
    if config.http.certificate.is_some() || !read.is_empty() || !operate.is_empty() {
        let asked = config.http.clone();
        probes.push(Probe::start("http", move || vec![look_at_port(&asked)]));
    }
    let until = Instant::now() + ALL_WITHIN;
    probes.into_iter().flat_map(|probe| probe.findings(until)).collect()
}

/// Whether erased contacts can be known again.
fn look_at_erasure_key(config: &Config) -> Finding {
    match erasure::key(config) {
        Ok(_) => Finding::ok("erasure", "its key can be read"),
        Err(error) => Finding::failed("erasure", format!("{error:#}")),
    }
}

/// Whether the port can be protected as the configuration says.
fn look_at_port(http: &config::Http) -> Finding {
    const WHAT: &str = "http";
    if let Err(error) = http::protection(http) {
        return Finding::failed(WHAT, format!("{error:#}"));
    }
    let asked = if http.tokens.read.is_empty() { "anybody" } else { "whoever has a token" };
    match &http.certificate {
        None => Finding::ok(WHAT, format!("{} in the clear, for {asked}", http.listen)),
        Some((chain, _)) => match valid_until(chain) {
            Some((until, days)) if days < EXPIRES_SOON_DAYS => {
                Finding::warning(WHAT, format!("its certificate is valid until {until}: renew {}", chain.display()))
            }
            Some((until, _)) => {
                Finding::ok(WHAT, format!("{} over TLS, for {asked}; valid until {until}", http.listen))
            }
            None => Finding::ok(WHAT, format!("{} over TLS, for {asked}", http.listen)),
        },
    }
}

/// Until when the first certificate of a chain is, and how many days that is.
fn valid_until(chain: &Path) -> Option<(String, i32)> {
    let certificate = X509::stack_from_pem(&std::fs::read(chain).ok()?).ok()?.into_iter().next()?;
    let days = Asn1Time::days_from_now(0).ok()?.diff(certificate.not_after()).ok()?.days;
    Some((certificate.not_after().to_string(), days))
}

/// Whether snapshots can be kept where they are to be.
fn look_at_snapshots(config: &Config) -> Finding {
    const WHAT: &str = "snapshots";
    let url = match &config.snapshots {
        None => {
            let found = "[snapshots] url is missing: `run` and `process` do not start without a decision";
            return Finding::warning(WHAT, found);
        }
        Some(config::Snapshots { url: None, .. }) => return Finding::ok(WHAT, "none, as the configuration says"),
        Some(config::Snapshots { url: Some(url), .. }) => url,
    };
    if let Some(folder) = url.strip_prefix("file://").map(Path::new).filter(|folder| !folder.exists()) {
        return directory::probe(WHAT, folder);
    }
    let topics = &config.topics;
    let probed = Snapshots::open(url, &topics.events, topics.partitions).and_then(|snapshots| snapshots.probe());
    match probed {
        Ok(()) => Finding::ok(WHAT, "the store lets us write, list, read and delete"),
        Err(error) => Finding::failed(WHAT, format!("{:#}", anyhow::Error::new(error))),
    }
}

/// A look at one thing, on a thread of its own: it may hang, which does not keep the command from its end.
struct Probe {
    what: String,
    findings: Option<Receiver<Vec<Finding>>>,
}

impl Probe {
    fn start(what: impl Into<String>, look: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Probe {
        let (sender, findings) = mpsc::channel();
        // Nobody waits for what comes after the deadline.
        let started = thread::Builder::new().spawn(move || drop(sender.send(look())));
        Probe { what: what.into(), findings: started.is_ok().then_some(findings) }
    }

    fn findings(self, until: Instant) -> Vec<Finding> {
        let left = until.saturating_duration_since(Instant::now());
        let findings = self.findings.and_then(|findings| findings.recv_timeout(left).ok());
        findings.unwrap_or_else(|| vec![Finding::failed(self.what, "nothing was heard of it in time")])
    }
}

/// A line for each secret that is not where the configuration says.
fn unreadable<'s>(what: &str, secrets: impl IntoIterator<Item = (&'s str, &'s Secret)>) -> Vec<Finding> {
    let judge = |(name, secret): (&str, &Secret)| {
        let error = anyhow::Error::new(secret.read().err()?);
        Some(Finding::failed(what, format!("{name}: {error:#}")))
    };
    secrets.into_iter().filter_map(judge).collect()
}
