//! The command line: what people type, and the exit code that they get.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use rdkafka::ClientConfig;
use touchline_ingest::Format;

use crate::config::Config;
use crate::report::{counted, grouped};
use crate::stages::{self, Stages};
use crate::telemetry::LogFormat;
use crate::{check, config, dead_letters, erasure, generate, kafka, process, replay, state, telemetry};

/// The command was typed wrongly (sysexits' EX_USAGE).
const USAGE: u8 = 64;
/// Something failed that should not (EX_SOFTWARE).
pub(crate) const INTERNAL: u8 = 70;
/// The configuration is wrong (EX_CONFIG).
pub(crate) const CONFIG: u8 = 78;

/// Notices when nobody has engaged a contact for three months, and says so.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// How logs are written, on standard error. TOUCHLINE_LOG says which: warn, info, touchline_processor=debug, …
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

impl Command {
    /// What works for months says what it does.
    fn log_level(&self) -> &'static str {
        match self {
            Command::Run(_) | Command::Ingest(_) | Command::Sink { .. } => "info",
            Command::Process(args) if !args.until_end => "info",
            // Whoever waits for the end is told what takes so long before it begins.
            Command::Process(_) => "warn,touchline_processor::kafka::restoring=info",
            _ => "warn",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send files through the whole of touchline, and see who has gone silent
    Replay(ReplayArgs),
    /// All stages in one process: sources, clock, state machine, sinks
    Run(StageArgs),
    /// Only the first stage: sources to events, and the clock
    Ingest(StageArgs),
    /// Only the state machine between Kafka's topics
    Process(ProcessArgs),
    /// Only one sink
    Sink {
        /// Its name in the configuration
        name: String,
        #[command(flatten)]
        args: StageArgs,
    },
    /// Check a configuration: every mistake at once, then each connection that it names
    Check(check::Options),
    /// What could not be taken: see it, and give it back
    DeadLetters {
        #[command(subcommand)]
        command: dead_letters::Command,
    },
    /// Forget a contact, everywhere: its timeline, alerts, scores and facts, also those that sinks have stored
    Erase(erasure::Options),
    /// Write realistic load: two years of touches, engagements and what follows, the same for the same seed
    Generate(GenerateArgs),
    /// Look into a state directory
    State {
        #[command(subcommand)]
        command: state::Command,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// .jsonl or .csv, either .gz or .zst, a pipe, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// canonical (JSON Lines) or csv; without it each file's name tells
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// The moment to look from; without it the last event's. With --state, events after it are held for a later run
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    as_of: Option<Timestamp>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "touchline-out")]
    out: PathBuf,
    /// Keep the state here, so that a later run goes on from it
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The configuration; without it the built-in rules
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Wait for more at the ends of the files, also when they are rotated, and for the next writers of pipes; let time pass
    /// by the clock
    #[arg(long)]
    follow: bool,
    /// Print one JSON object instead of a report for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct StageArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// In the place of [http] listen, where several processes on one machine share a configuration
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl StageArgs {
    fn load(&self) -> Result<Config> {
        let mut config = config::load(&self.config)?;
        if let Some(listen) = self.listen {
            if let Some(wrong) = config.http.judge(listen) {
                return Err(Misconfigured(format!("--listen: {wrong}")).into());
            }
            config.http.listen = listen;
        }
        Ok(config)
    }
}

#[derive(Debug, clap::Args)]
struct ProcessArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// Stop at the end that each partition has now
    #[arg(long)]
    until_end: bool,
    /// Where there is no state and the log has lost its beginning, make the state from what is left of it
    #[arg(long)]
    from_log_start: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    /// Contacts there are
    #[arg(long, value_name = "N")]
    contacts: u64,
    /// Lines to write
    #[arg(long, value_name = "N")]
    events: u64,
    /// Another seed, another history
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where to; standard output without it
    #[arg(long, value_name = "FILE", conflicts_with = "kafka")]
    to: Option<PathBuf>,
    /// Or to a topic, keyed by account
    #[arg(long, value_name = "TOPIC")]
    kafka: Option<String>,
    /// Whose [kafka] says where that is
    #[arg(long, value_name = "FILE", requires = "kafka")]
    config: Option<PathBuf>,
    /// Or a broker
    #[arg(long, value_name = "HOST:PORT", requires = "kafka", conflicts_with = "config")]
    bootstrap: Option<String>,
    /// So many a second at the most
    #[arg(long, value_name = "N", requires = "kafka", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// The first of the two years has just passed, and comes at once; the second happens now, at --rate
    #[arg(long, requires = "rate")]
    live: bool,
}

fn format(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| format!("this version reads {}", Format::NAMES.join(", ")))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    touchline_core::event::parse_time(text, &jiff::tz::TimeZone::UTC)
        .ok_or_else(|| "a moment is needed, such as 2024-10-26T00:00:00Z, or a date, which is 00:00 UTC".to_owned())
}

/// A mistake of whoever typed the command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The configuration does not fit what was found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub String);

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell where even this cannot be written.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    telemetry::init(cli.log_format, cli.command.log_level());
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Usage>()) {
        USAGE
    } else if error.chain().any(|cause| cause.is::<config::Mistakes>() || cause.is::<Misconfigured>()) {
        CONFIG
    } else {
        INTERNAL
    }
}

/// Whoever was reading has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Replay(args) => replay(args),
        Command::Run(args) => stages::run(&args.load()?, &Stages::All),
        Command::Ingest(args) => stages::run(&args.load()?, &Stages::Ingest),
        Command::Sink { name, args } => stages::run(&args.load()?, &Stages::Sink(name)),
        Command::Process(args) => process::run(&process::Options {
            config: args.stage.load()?,
            until_end: args.until_end,
            from_log_start: args.from_log_start,
            json: args.json,
        }),
        Command::Check(options) => check::run(&options),
        Command::DeadLetters { command } => dead_letters::run(command),
        Command::Erase(options) => erasure::run(&options),
        Command::Generate(args) => generate(&args),
        Command::State { command } => state::run(command),
        Command::Completions { shell } => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "touchline", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn replay(args: ReplayArgs) -> Result<ExitCode> {
    let config = args.config.as_deref().map(config::load).transpose()?.unwrap_or_default();
    replay::run(replay::Options {
        files: args.files,
        format: args.format,
        as_of: args.as_of,
        out: args.out,
        state: args.state,
        config,
        follow: args.follow,
        json: args.json,
    })
}

fn generate(args: &GenerateArgs) -> Result<ExitCode> {
    if args.contacts == 0 || args.contacts > generate::MAX || args.events > generate::MAX {
        let most = generate::MAX;
        return Err(Usage(format!("--contacts takes 1 to {most}, and --events up to {most}")).into());
    }
    let options = generate::Options { contacts: args.contacts, events: args.events, seed: args.seed };
    let bar = telemetry::bar(Some(args.events), "events", (args.to.is_none() && args.kafka.is_none()) || args.live);
    let mut progress = |events| bar.set_position(events);
    let (summary, to) = if let Some(topic) = &args.kafka {
        let mut out = generate::kafka::Producer::new(topic, &client(args)?, args.rate, args.live)?;
        (generate::tell(&options, &mut out, &mut progress)?, Some(format!("topic {topic}")))
    } else if let Some(path) = &args.to {
        let mut file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        (generate::generate(&options, &mut file, &mut progress)?, Some(path.display().to_string()))
    } else {
        let mut out = io::stdout().lock();
        let summary = generate::generate(&options, &mut out, &mut progress)?;
        out.flush()?;
        (summary, None)
    };
    bar.finish_and_clear();
    if let Some(to) = to {
        let (events, bytes) = (counted(summary.events, "event", "events"), grouped(summary.bytes));
        writeln!(io::stdout(), "{events}, {bytes} bytes, in {to}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The broker that was named, or the configuration's.
fn client(args: &GenerateArgs) -> Result<ClientConfig> {
    let mut config = args.config.as_deref().map(config::load).transpose()?.unwrap_or_default();
    if let Some(bootstrap) = &args.bootstrap {
        config.kafka.bootstrap_servers.clone_from(bootstrap);
    }
    kafka::client(&config)
}
