//! An HTTP receiver that misbehaves as it is told to.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use native_tls::TlsAcceptor;

/// One that never answers holds its connection for so long: longer than any client of a test waits.
const NEVER: Duration = Duration::from_secs(5);

/// What was received.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    /// Counted from 0.
    pub connection: usize,
    /// As `POST /hook HTTP/1.1`.
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, header lines and a body; the connection stays open.
    Answer(u16, &'static str, Vec<u8>),
    /// 204, and closes the connection without having said that it would.
    AnswerAndClose,
    HangUp,
    /// 200, and closes the connection before the body is complete.
    HangUpInBody,
    Never,
    /// 200, and a byte of the body now and then.
    SlowBody,
    Garbage,
}

pub fn status(status: u16) -> Reply {
    Reply::Answer(status, "", Vec::new())
}

/// Decides about a request, given how many with the same id came before it.
pub type Behaviour = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
}

impl Receiver {
    pub fn start(behaviour: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::listen("127.0.0.1:0".parse().unwrap(), None, behaviour)
    }

    pub fn listen(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        behaviour: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (behaviour, connections): (Arc<Behaviour>, _) = (Arc::new(behaviour), AtomicUsize::new(0));
        let (seen, over) = (requests.clone(), is_over.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, behaviour, tls) = (seen.clone(), behaviour.clone(), tls.clone());
                let connection = connections.fetch_add(1, Ordering::SeqCst);
                // A client that goes away is no concern of the receiver's.
                thread::spawn(move || serve(stream?, tls, connection, &seen, &*behaviour));
            }
        });
        Receiver { address, requests, is_over }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks/lapse?token=hidden", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener, so that the port is free.
        TcpStream::connect(self.address).ok();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: usize,
    seen: &Mutex<Vec<Request>>,
    behaviour: &Behaviour,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.accept(stream).map_err(io::Error::other)?),
        None => Box::new(stream),
    };
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream, connection)? {
        let earlier = {
            let mut seen = seen.lock().unwrap();
            let id = |request: &Request| request.headers.get("webhook-id").cloned();
            let earlier = seen.iter().filter(|other| id(other) == id(&request)).count();
            seen.push(request.clone());
            earlier
        };
        if !reply(stream.get_mut(), behaviour(&request, earlier))? {
            break;
        }
    }
    Ok(())
}

fn read(stream: &mut BufReader<Box<dyn Stream>>, connection: usize) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let at = Instant::now();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok(Some(Request { at, connection, line: line.trim_end().to_owned(), headers, body }))
}

/// Whether the connection stays open.
fn reply(stream: &mut dyn Write, reply: Reply) -> io::Result<bool> {
    match reply {
        Reply::Answer(status, headers, body) => {
            let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            stream.write_all(format!("HTTP/1.1 {status} Status\r\n{headers}{length}\r\n").as_bytes())?;
            stream.write_all(&body)?;
            stream.flush()?;
            return Ok(true);
        }
        Reply::AnswerAndClose => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
        Reply::HangUp => {}
        Reply::HangUpInBody => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbeginning")?,
        Reply::Never => thread::sleep(NEVER),
        Reply::SlowBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")?;
            for _ in 0..100 {
                stream.write_all(b".")?;
                stream.flush()?;
                thread::sleep(NEVER / 100);
            }
        }
        Reply::Garbage => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?,
    }
    stream.flush()?;
    Ok(false)
}
