//! A receiver of webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A message: its `webhook-id` and its body.
pub type Message = (String, String);

/// What becomes of a message that holds the word.
#[derive(Clone, Copy)]
enum Otherwise {
    /// It is not taken, and this is the answer.
    Refused(Answer),
    /// One thing after the other.
    Moody,
}

#[derive(Clone, Copy)]
struct Answer {
    is_taken: bool,
    /// As it is written.
    says: &'static str,
    /// The connection stays open behind it, until the sender gives up.
    hangs: bool,
}

const TAKEN: Answer = Answer::new(true, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
const WRONG: Answer = Answer::new(false, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
const GONE: Answer = Answer::new(false, "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
const NOTHING: Answer = Answer::new(false, "").hanging();
/// Of so many messages, a moody one has its moods with the first.
const MOODY_EVERY: usize = 200;
/// What it does to them, one thing after the other: so close together that it seems to be down, and never quite.
const MOODS: [Answer; 20] = [
    TAKEN,
    Answer::new(false, "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
    TAKEN,
    Answer::new(false, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
    TAKEN,
    Answer::new(true, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
    TAKEN,
    Answer::new(false, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    TAKEN,
    Answer::new(false, "What do you mean?\r\n\r\n"),
    TAKEN,
    Answer::new(false, ""),
    TAKEN,
    Answer::new(true, ""),
    TAKEN,
    Answer::new(true, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal").hanging(),
    TAKEN,
    Answer::new(false, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nhal").hanging(),
    TAKEN,
    NOTHING,
];

impl Answer {
    const fn new(is_taken: bool, says: &'static str) -> Answer {
        Answer { is_taken, says, hangs: false }
    }

    const fn hanging(self) -> Answer {
        Answer { hangs: true, ..self }
    }
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
    mood: AtomicUsize,
    taken: Mutex<Vec<Message>>,
    refused: Mutex<Vec<Message>>,
}

impl Receiver {
    /// Answers that the message is wrong. Listens as long as the process lives.
    pub fn refusing(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Refused(WRONG))
    }

    /// Answers that it wants no more messages.
    pub fn gone(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Refused(GONE))
    }

    /// Says nothing.
    pub fn hanging(word: &'static str) -> Receiver {
        Receiver::start(word, Otherwise::Refused(NOTHING))
    }

    /// Does to some messages what receivers do on bad days, one thing after the other. It never says that it wants no more.
    pub fn moody() -> Receiver {
        Receiver::start("", Otherwise::Moody)
    }

    fn start(word: &'static str, otherwise: Otherwise) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, refused) = (Mutex::default(), Mutex::default());
        let (takes_all, mood) = (AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Arc::new(Shared { word, otherwise, takes_all, mood, taken, refused });
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
        let answer = match self.otherwise {
            _ if self.takes_all.load(Ordering::SeqCst) || !body.contains(self.word) => TAKEN,
            Otherwise::Refused(answer) => answer,
            Otherwise::Moody => {
                let mood = self.mood.fetch_add(1, Ordering::SeqCst) % MOODY_EVERY;
                *MOODS.get(mood).unwrap_or(&TAKEN)
            }
        };
        if is_message {
            if answer.is_taken { &self.taken } else { &self.refused }.lock().unwrap().push((id, body));
        }
        stream.write_all(answer.says.as_bytes())?;
        // The sender gives up before that, or the test ends.
        if answer.hangs { stream.read(&mut [0]).map(drop) } else { Ok(()) }
    }
}
