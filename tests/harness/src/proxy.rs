//! A proxy before a server: it does harm when, and where, a test tells it to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// No message of a test is larger; whoever says so speaks something else.
const MAX_BYTES: usize = 64 << 20;
/// How often it is looked whether a stalled connection goes on.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is spoken: it tells where a message ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// The length, and so many bytes.
    Kafka,
    /// A letter, the length, and so many bytes; the first message of a client has no letter.
    Postgres,
}

/// When a request is struck. Whoever asked never hears of it by this connection, which is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server has not heard of it.
    Asked,
    /// The server has done it, and has answered.
    Done,
    /// Whoever asked has the answer, by a hair's breadth; then the connection is cut.
    Told,
}

impl Moment {
    /// In their order.
    pub const ALL: [Moment; 3] = [Moment::Asked, Moment::Done, Moment::Told];
}

/// See the module. It listens as long as the process lives.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    protocol: Protocol,
    /// The server's port.
    server: u16,
    strike: Mutex<Option<Strike>>,
    /// Each message waits so long.
    lag_ms: AtomicU64,
    is_stalled: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// Whether a message, with its length, is the one.
type IsIt = Box<dyn FnMut(&[u8]) -> bool + Send>;

struct Strike {
    is_it: IsIt,
    moment: Moment,
    struck: Sender<Struck>,
}

/// A request that was struck. Its connection waits until this is dropped.
pub struct Struck {
    /// The message, with its length.
    pub request: Vec<u8>,
    _until: Sender<()>,
}

impl Proxy {
    /// Listens on a port (0 is any) for whoever wants the server on another.
    pub(crate) fn start(protocol: Protocol, port: u16, server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            protocol,
            server,
            strike: Mutex::default(),
            lag_ms: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let serving = serving.clone();
                // A server that is away refuses, and so is its client refused.
                thread::spawn(move || serving.connect(client).ok());
            }
        });
        Proxy { port, shared }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Strikes the next request that is the one; it comes out of the receiver when it has been.
    pub fn strike(&self, moment: Moment, is_it: impl FnMut(&[u8]) -> bool + Send + 'static) -> Receiver<Struck> {
        let (struck, receiver) = mpsc::channel();
        *lock(&self.shared.strike) = Some(Strike { is_it: Box::new(is_it), moment, struck });
        receiver
    }

    /// Lets each message wait so long, in both directions.
    pub fn lag(&self, pause: Duration) {
        self.shared.lag_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Lets nothing through, and closes nothing; or lets it go on.
    pub fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Cuts all connections. Who connects again is let through.
    pub fn cut(&self) {
        lock(&self.shared.streams).drain(..).for_each(|stream| cut(&stream));
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.server))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            lock(&self.streams).push(stream.try_clone()?);
        }
        let awaited = Arc::new(Mutex::new(None));
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        let (shared, asked) = (self.clone(), awaited.clone());
        thread::spawn(move || {
            // Either side may go at any time.
            let _ = shared.requests(&from, &to, &asked);
            [from, to].iter().for_each(cut);
        });
        let _ = self.answers(&server, &client, &awaited);
        [client, server].iter().for_each(cut);
        Ok(())
    }

    fn requests(&self, mut from: &TcpStream, mut to: &TcpStream, awaited: &Mutex<Option<Awaited>>) -> io::Result<()> {
        let mut is_first = true;
        loop {
            let request = self.protocol.read(&mut from, is_first)?;
            is_first = false;
            self.wait();
            let strike = lock(&self.strike).take_if(|strike| (strike.is_it)(&request));
            match strike {
                Some(strike) if strike.moment == Moment::Asked => {
                    strike.hit(request);
                    return Ok(());
                }
                Some(strike) => *lock(awaited) = Some((request.clone(), strike)),
                None => {}
            }
            to.write_all(&request)?;
        }
    }

    fn answers(&self, mut from: &TcpStream, mut to: &TcpStream, awaited: &Mutex<Option<Awaited>>) -> io::Result<()> {
        loop {
            let answer = self.protocol.read(&mut from, false)?;
            self.wait();
            let struck = lock(awaited).take_if(|(request, _)| self.protocol.is_answer(request, &answer));
            if struck.as_ref().is_none_or(|(_, strike)| strike.moment == Moment::Told) {
                to.write_all(&answer)?;
            }
            if let Some((request, strike)) = struck {
                strike.hit(request);
                return Ok(());
            }
        }
    }

    fn wait(&self) {
        thread::sleep(Duration::from_millis(self.lag_ms.load(Ordering::Relaxed)));
        while self.is_stalled.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// A request that will be struck when its answer comes.
type Awaited = (Vec<u8>, Strike);

impl Strike {
    fn hit(self, request: Vec<u8>) {
        let (until, dropped) = mpsc::channel();
        // Nobody looks where the test has gone on.
        if self.struck.send(Struck { request, _until: until }).is_ok() {
            let _ = dropped.recv();
        }
    }
}

impl Protocol {
    /// A whole message, with its length.
    fn read(self, from: &mut impl Read, is_first: bool) -> io::Result<Vec<u8>> {
        let (letter, counts_itself) = match self {
            Protocol::Kafka => (0, 0),
            Protocol::Postgres => (usize::from(!is_first), 4),
        };
        let mut message = vec![0; letter + 4];
        from.read_exact(&mut message)?;
        let length = message[letter..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)) - counts_itself;
        assert!(length <= MAX_BYTES, "{self:?}: a message of {length} bytes");
        let start = message.len();
        message.resize(start + length, 0);
        from.read_exact(&mut message[start..])?;
        Ok(message)
    }

    /// Kafka's answers bear the number of what was asked; PostgreSQL's to a command say that it is complete.
    fn is_answer(self, request: &[u8], answer: &[u8]) -> bool {
        match self {
            Protocol::Kafka => request.get(8..12) == answer.get(4..8),
            Protocol::Postgres => answer.first() == Some(&b'C'),
        }
    }
}

fn cut(stream: &TcpStream) {
    // It may be closed.
    let _ = stream.shutdown(Shutdown::Both);
}

/// A test that failed while it held the lock has harmed nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
