//! A server, run by its script in `deploy/dev`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::eventually;

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/dev");
/// A server that is stopped in order takes seconds.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A server on ports and in a directory of its own. It keeps both from start to start, and the directory goes with it.
pub struct Server {
    script: &'static str,
    /// The signal that stops it in order.
    stop: &'static str,
    dir: PathBuf,
    settings: Vec<String>,
    environment: Vec<(&'static str, String)>,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// It stops the server once its standard input ends, and ends when the server does.
    script: Child,
    /// The server's process.
    pid: String,
}

impl Server {
    /// Starts one, with settings and variables as the script takes them.
    pub fn start(
        script: &'static str,
        stop: &'static str,
        settings: Vec<String>,
        environment: Vec<(&'static str, String)>,
    ) -> Server {
        let name = script.trim_end_matches(".sh");
        let dir = tempfile::Builder::new().prefix(&format!("touchline-{name}-")).tempdir().unwrap().keep();
        let server = Server { script, stop, dir, settings, environment, running: Mutex::new(None) };
        server.restart();
        server
    }

    /// Starts it again, after [`Server::kill`] or [`Server::stop`].
    pub fn restart(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "{} is running in {}", self.script, self.dir.display());
        *running = Some(self.launch());
    }

    /// The first of its ports.
    pub fn port(&self) -> u16 {
        fs::read_to_string(self.dir.join("port")).unwrap().trim().parse().unwrap()
    }

    /// Where it keeps what it has.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills it with SIGKILL; it is gone when this returns.
    pub fn kill(&self) {
        self.end("-KILL");
    }

    /// Stops it in order; it is gone when this returns.
    pub fn stop(&self) {
        self.end(self.stop);
    }

    /// Lets it do nothing, as a machine does that hangs: its connections stay.
    pub fn pause(&self) {
        signal("-STOP", self.running().as_ref());
    }

    /// Lets it go on after [`Server::pause`].
    pub fn resume(&self) {
        signal("-CONT", self.running().as_ref());
    }

    fn launch(&self) -> Running {
        let Server { script, dir, settings, .. } = self;
        let said = dir.join("script.log");
        let mut child = Command::new(Path::new(SCRIPTS).join(script))
            .args(["run", "--remove"])
            .arg(dir)
            .args(settings)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // Tests want it soon, and send it little.
            .env("KAFKA_JVM", "-Xms64m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        if address.is_empty() {
            let _ = child.wait();
            panic!("{script} could not start its server:\n{}", fs::read_to_string(said).unwrap());
        }
        Running { script: child, pid: fs::read_to_string(dir.join("pid")).unwrap().trim().to_owned() }
    }

    /// Runs one of the server's own tools to its end.
    ///
    /// # Panics
    ///
    /// It fails, or says that something has.
    pub fn tool(&self, arguments: &[&str]) {
        let script = Path::new(SCRIPTS).join(self.script);
        let ran = Command::new(script).arg("tool").args(arguments).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success() && !said.contains("Error"), "{said}");
    }

    fn end(&self, with: &str) {
        let mut running = self.running();
        signal(with, running.as_ref());
        let mut ended = running.take().unwrap();
        // To wait closes it, and the script would take that for the end of everything.
        let _input = ended.script.stdin.take();
        eventually(STOP_WITHIN, &format!("{} has ended", self.script), || ended.script.try_wait().unwrap().is_some());
    }

    /// A test that failed while it held the lock has harmed nothing.
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running().take() {
            drop(running.script.stdin.take());
            let _ = running.script.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn signal(signal: &str, to: Option<&Running>) {
    let pid = &to.expect("the server has been stopped").pid;
    // Every shell has this `kill`; a container may have no other.
    let kill = format!("kill {signal} {pid}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}
