//! A receiver of webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A message: its `webhook-id` and its body.
pub type Message = (String, String);

/// What becomes of a message that is not taken.
#[derive(Clone, Copy)]
enum Otherwise {
    /// This answer.
    Refused(&'static str),
    /// No answer, until everything is taken.
    Hanging,
}

/// Takes what does not hold a certain word, until it takes everything.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    word: &'static str,
    otherwise: Otherwise,
    takes_all: AtomicBool,
    taken: Mutex<Vec<Message>>,
    refused: Mutex<Vec<Message>>,
}

impl Receiver {
    /// Answers that the message is wrong. Listens as long as the process lives.
    pub fn refusing(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Refused("400 Bad Request"))
    }

    /// Answers that it wants no more messages.
    pub fn gone(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Refused("410 Gone"))
    }

    /// Says nothing.
    pub fn hanging(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Hanging)
    }

    fn start(word: &'static str, otherwise: Otherwise) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, refused) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { word, otherwise, takes_all: AtomicBool::new(false), taken, refused });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // Whoever sent it and left does not wait for an answer.
                thread::spawn(move || serving.answer(stream).ok());
            }
        });
        Receiver { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn take_all(&self) {
        self.shared.takes_all.store(true, Ordering::SeqCst);
    }

    pub fn taken(&self) -> Vec<Message> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn refused(&self) -> Vec<Message> {
        self.shared.refused.lock().unwrap().clone()
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut length, mut id) = (String::new(), 0, String::new());
        reader.read_line(&mut line)?;
        let is_message = line.starts_with("POST");
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "webhook-id" => id = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        let takes = || self.takes_all.load(Ordering::SeqCst) || !body.contains(self.word);
        let status = match self.otherwise {
            _ if takes() => "204 No Content",
            Otherwise::Refused(status) => status,
            Otherwise::Hanging => {
                self.refused.lock().unwrap().push((id, body));
                // The sender gives up before that, or the test ends.
                return stream.read(&mut [0]).map(drop);
            }
        };
        if is_message {
            if takes() { &self.taken } else { &self.refused }.lock().unwrap().push((id, body));
        }
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }
}
