//! A server that speaks S3: Adobe's S3Mock, as a process of its own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

pub(super) const BUCKET: &str = "snapshots";

/// Java on a machine that does much else besides.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// The server, with its objects in a directory. Killed when it is dropped.
pub(super) struct S3 {
    port: u16,
    root: PathBuf,
    process: Option<Child>,
}

impl S3 {
    pub(super) fn start(root: &Path) -> S3 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = S3 { port, root: root.to_path_buf(), process: None };
        server.up();
        server
    }

    /// Starts it (again), at the same address and on the same objects.
    pub(super) fn up(&mut self) {
        let log = self.root.with_extension("log");
        fs::create_dir_all(&self.root).unwrap();
        // It ends with this process, however that ends: then its input does.
        let script = r#"java "$@" & java=$!; read -r _; kill -9 $java; wait"#;
        let mut process = Command::new("sh");
        process.args(["-c", script, "sh", "-Xmx256m", "-XX:TieredStopAtLevel=1"]);
        for (name, value) in [
            ("http.port", self.port.to_string()),
            ("server.port", "0".to_owned()),
            ("com.adobe.testing.s3mock.store.root", self.root.to_str().unwrap().to_owned()),
            ("com.adobe.testing.s3mock.store.retain-files-on-exit", "true".to_owned()),
            ("com.adobe.testing.s3mock.store.initial-buckets", BUCKET.to_owned()),
        ] {
            process.arg(format!("-D{name}={value}"));
        }
        process.arg("-jar").arg(jar()).stdin(Stdio::piped());
        process.stdout(fs::File::create(&log).unwrap()).stderr(Stdio::inherit());
        self.process = Some(process.spawn().unwrap());
        let deadline = Instant::now() + STARTS_WITHIN;
        while !fs::read_to_string(&log).unwrap().contains("Started S3MockApplication")
            || TcpStream::connect(("127.0.0.1", self.port)).is_err()
        {
            assert!(
                Instant::now() < deadline,
                "S3Mock did not start: is Java 17 there?\n{}",
                fs::read_to_string(&log).unwrap()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it.
    pub(super) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().unwrap();
        }
    }

    /// What the environment of a user of it holds.
    pub(super) fn env(&self) -> impl Iterator<Item = (String, String)> + use<> {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.down();
    }
}

/// Its jar, fetched once.
fn jar() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap()).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("touchline");
    let (folder, name) = (cache.join("s3mock"), "s3mock-4.11.0-exec.jar");
    if !folder.join(name).exists() {
        let next = cache.join(format!("s3mock-{}", std::process::id()));
        let fetched = Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-f"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/snapshot/pom.xml"))
            .arg(format!("-DoutputDirectory={}", next.display()))
            .status();
        assert!(
            fetched.is_ok_and(|status| status.success()),
            "the S3 server for tests cannot be fetched: install Maven and Java 17, and see that Maven Central is in reach"
        );
        fs::create_dir_all(&folder).unwrap();
        fs::rename(next.join(name), folder.join(name)).unwrap();
        fs::remove_dir_all(next).unwrap();
    }
    folder.join(name)
}
