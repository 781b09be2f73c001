//! Where snapshots are kept: from a URL to a store.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::SnapshotError;

/// A request that moves a part takes this long at the most: 8 MiB at 1 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(70);
/// A request is repeated this often by the client itself: that is for hiccups. A store that is away is for us to wait for,
/// because we can tell about it and be stopped.
const HICCUPS: usize = 3;
/// No repetition begins after this.
const HICCUPS_TIMEOUT: Duration = Duration::from_secs(20);

/// A folder, or a bucket and a prefix in it.
#[derive(Clone)]
pub(crate) struct Location {
    url: String,
    kind: Kind,
    prefix: Path,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    S3(Box<AmazonS3Builder>),
}

impl Location {
    /// Reads `file:///folder`, which is made if it is not there, or `s3://bucket/prefix`, of which `env` knows the rest by
    /// the names that the AWS tools use.
    pub(crate) fn parse(url: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Location, SnapshotError> {
        let wrong = |reason: String| SnapshotError::Url { url: url.to_owned(), reason };
        let (kind, prefix) = match url.split_once("://") {
            Some(("file", path)) => (folder(path).map_err(wrong)?, Path::default()),
            Some(("s3", path)) => {
                let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
                let prefix = Path::parse(prefix).map_err(|error| wrong(error.to_string()))?;
                (s3(bucket, env).map_err(wrong)?, prefix)
            }
            _ => return Err(wrong("write file:///folder or s3://bucket/prefix".to_owned())),
        };
        Ok(Location { url: url.trim_end_matches('/').to_owned(), kind, prefix })
    }

    /// A client of its own. Connections belong to the runtime that opened them, so each runtime has one.
    pub(crate) fn connect(&self) -> Result<Arc<dyn ObjectStore>, SnapshotError> {
        match &self.kind {
            Kind::Folder(path) => match LocalFileSystem::new_with_prefix(path) {
                Ok(store) => Ok(Arc::new(store.with_fsync(true))),
                Err(source) => Err(SnapshotError::Away { place: self.url.clone(), source: source.into() }),
            },
            Kind::S3(builder) => match builder.as_ref().clone().build() {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(SnapshotError::Url { url: self.url.clone(), reason: error.to_string() }),
            },
        }
    }

    /// The path in the store that the URL leads to.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The folder, if it is one.
    pub(crate) fn folder(&self) -> Option<&FilePath> {
        match &self.kind {
            Kind::Folder(path) => Some(path),
            Kind::S3(_) => None,
        }
    }

    /// An object or folder of the store as people write it.
    pub(crate) fn show(&self, path: &Path) -> String {
        let below = path.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(path.as_ref());
        format!("{}/{}", self.url, below.trim_start_matches('/'))
    }
}

/// The builder would show the secret key.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.url).finish()
    }
}

fn folder(path: &str) -> Result<Kind, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "a folder has three slashes and its whole path: file:///{}",
            path.trim_start_matches("./")
        ));
    }
    let path = PathBuf::from(path);
    std::fs::create_dir_all(&path).map_err(|error| format!("the folder cannot be made: {error}"))?;
    Ok(Kind::Folder(path))
}

fn s3(bucket: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Kind, String> {
    let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
        return Err(format!("{bucket:?} is no name of a bucket: it has 3 to 63 of a–z, 0–9, - and ."));
    }
    let mut builder = AmazonS3Builder::new();
    for (name, value) in env {
        if name.starts_with("AWS_")
            && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
        {
            builder = builder.with_config(key, value);
        }
    }
    let value = |key| builder.get_config_value(&key);
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
    if endpoint.is_none()
        && value(AmazonS3ConfigKey::Region).or_else(|| value(AmazonS3ConfigKey::DefaultRegion)).is_none()
    {
        return Err("the region is not known: set AWS_REGION, or AWS_ENDPOINT_URL if it is not Amazon's".to_owned());
    }
    let options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        // What is secret goes over the wire in the clear only where somebody has written so.
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    let retry = RetryConfig { max_retries: HICCUPS, retry_timeout: HICCUPS_TIMEOUT, ..RetryConfig::default() };
    Ok(Kind::S3(Box::new(builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry))))
}
