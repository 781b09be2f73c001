//! A directory for each test, and the command run in it.
//!
//! Command lines stand in tests as they are typed, relative to the directory. Whatever a run does, it must not panic, and
//! it logs errors only where a test expects one.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
pub use touchline_harness::Dice;

/// Whatever takes longer does not come: the longest run takes seconds, and machines differ.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// The command that is tested.
pub const TOUCHLINE: &str = env!("CARGO_BIN_EXE_touchline");
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(2);

/// Waits until it holds. It fails loudly if it never does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// A directory that goes with the test.
pub struct Place {
    files: TempDir,
    /// What runs have said; not where they can see it.
    said: TempDir,
    runs: AtomicU32,
}

impl Place {
    pub fn new() -> Place {
        Place { files: TempDir::new().unwrap(), said: TempDir::new().unwrap(), runs: AtomicU32::new(0) }
    }

    /// A directory that holds these files.
    pub fn with<T: AsRef<[u8]>>(files: &[(&str, T)]) -> Place {
        let place = Place::new();
        files.iter().for_each(|(name, contents)| place.write(name, contents));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// How dead letters and `state inspect` name a file.
    pub fn canonical(&self, name: &str) -> String {
        self.path(name).canonicalize().unwrap().display().to_string()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    pub fn append(&self, name: &str, contents: impl AsRef<[u8]>) {
        use std::io::Write;
        let mut file = File::options().append(true).open(self.path(name)).unwrap();
        file.write_all(contents.as_ref()).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The objects of a `.jsonl` file.
    pub fn objects(&self, name: &str) -> Vec<Value> {
        objects(&self.read(name))
    }

    /// The path of the first file below `dir` whose name ends so.
    pub fn find(&self, dir: &str, ending: &str) -> PathBuf {
        let mut names: Vec<PathBuf> =
            fs::read_dir(self.path(dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
    }

    /// Makes a pipe with a name.
    pub fn pipe(&self, name: &str) {
        let made = Command::new("mkfifo").arg(self.path(name)).status().unwrap();
        assert!(made.success());
    }

    /// Writes into a pipe from its opening to its closing, as a program of its own does; somebody must read it.
    pub fn feed(&self, pipe: &str, contents: impl Into<Vec<u8>>) {
        let (path, contents) = (self.path(pipe), contents.into());
        let writer = std::thread::spawn(move || fs::write(path, contents));
        until(&format!("a reader of {pipe}"), || writer.is_finished());
        writer.join().unwrap().unwrap();
    }

    /// Runs a command to its end. Words are separated by spaces; those before it that say `NAME=VALUE` are its environment;
    /// `< FILE` is its standard input, which else is empty.
    pub fn run(&self, line: &str) -> Ran {
        self.start(line).ended()
    }

    /// Starts a command.
    pub fn start(&self, line: &str) -> Running {
        self.start_of(Path::new(TOUCHLINE), line)
    }

    /// Starts a command of another build.
    pub fn start_of(&self, program: &Path, line: &str) -> Running {
        self.spawn(Command::new(program), line)
    }

    /// Starts a command that can make no file larger than `kib`: what is beyond fails, as on a full disk.
    pub fn start_limited(&self, line: &str, kib: u32) -> Running {
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes. The signal would kill it.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2), TOUCHLINE]);
        self.spawn(shell, line)
    }

    fn spawn(&self, mut command: Command, line: &str) -> Running {
        let (line, input) = line.split_once(" < ").unwrap_or((line, ""));
        let input = match input {
            "" => Stdio::null(),
            // A pipe that somebody else writes into.
            "|" => Stdio::piped(),
            name => Stdio::from(File::open(self.path(name)).unwrap()),
        };
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let said = |what: &str| self.said.path().join(format!("{number}.{what}"));
        let (out, err) = (said("out"), said("err"));
        let is_variable = |word: &&str| word.contains('=') && !word.starts_with('-');
        let variables = line.split_whitespace().take_while(is_variable);
        let child = command
            .args(line.split_whitespace().skip_while(is_variable))
            .current_dir(self.files.path())
            .env_remove("TOUCHLINE_LOG")
            .envs(variables.filter_map(|variable| variable.split_once('=')))
            .stdin(input)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Running { line: line.to_owned(), child, out, err, status: None }
    }
}

/// The objects of JSON Lines.
pub fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A command at work. One that is dropped is killed.
pub struct Running {
    line: String,
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
    status: Option<ExitStatus>,
}

impl Running {
    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status.is_some()
    }

    /// Waits until something holds, or until it has ended, which is then for [`Running::ended`] to judge.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        until(&format!("{what} of `{}`", self.line), || holds() || self.has_ended());
    }

    /// What it has written on standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// A page of its HTTP port, with its head.
    pub fn page(&self, path: &str) -> String {
        let said = self.said();
        let address = said.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: touchline\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a signal by its name, `INT` or `TERM`.
    pub fn signal(&self, name: &str) {
        // Every shell has this `kill`; a container may have no other.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Kills it as -9 does; whether it had not ended before.
    pub fn kill(mut self) -> bool {
        let was_alive = !self.has_ended();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let said = Ran::of(&self, None);
        said.is_clean();
        was_alive
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ran {
        drop(self.child.stdin.take());
        until(&format!("the end of `{}`", self.line), || self.has_ended());
        Ran::of(&self, self.status.and_then(|status| status.code()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run has said.
pub struct Ran {
    line: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { line, code, out, err } = self;
        write!(f, "`touchline {line}` ended with {code:?}; it wrote\n{out:.10000}\nand on standard error\n{err:.10000}")
    }
}

impl Ran {
    fn of(running: &Running, code: Option<i32>) -> Ran {
        let text = |path: &Path| String::from_utf8(fs::read(path).unwrap()).unwrap();
        let ran = Ran { line: running.line.clone(), code, out: text(&running.out), err: text(&running.err) };
        assert!(!ran.err.contains("panicked"), "{ran}");
        ran
    }

    /// It has logged no error.
    #[track_caller]
    fn is_clean(&self) {
        assert!(!self.err.contains("ERROR"), "{self}");
    }

    /// It has done what it was asked.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.is_clean();
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// It has refused, with this code and all of these words, and without a log line beside them.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Ran {
        self.is_clean();
        self.failed(code, words)
    }

    /// As [`Ran::refused`], where an error may be logged as well.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self}");
        }
        self
    }

    /// Its one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        let objects = objects(&self.out);
        assert_eq!(objects.len(), 1, "{self}");
        objects.into_iter().next().unwrap()
    }
}
