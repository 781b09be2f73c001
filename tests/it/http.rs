//! The port of metrics and health, and who may ask there. It answers whether or not there are brokers; here there are none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use touchline_harness::Certified;

use crate::harness::{Place, Running, until};

const CONFIG: i32 = 78;
const READ: &str = "a-token-to-read-with";
const NEXT: &str = "the-token-after-that";
const OPERATE: &str = "a-token-to-operate-with";
const TOKENS: &str = "tokens = { read = [\"file:read\", \"file:next\"], operate = \"file:operate\" }\n";
const TLS: &str = "certificate = \"chain.pem\"\nkey = \"key.pem\"\n";
/// Whoever does not answer within it is taken not to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stage that listens.
struct Port {
    place: Place,
    running: Running,
    address: String,
}

fn place(http: &str) -> Place {
    let place = Place::with(&[("read", READ), ("next", NEXT), ("operate", OPERATE), ("short", "hunter2")]);
    let config = format!(
        "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[http]\nlisten = \"127.0.0.1:0\"\n{http}\n\
         [[sink]]\nname = \"files\"\nkind = \"file\"\ndir = \"out\"\ntopics = [\"alerts\"]\n"
    );
    place.write("t.toml", config);
    place
}

fn certify(place: &Place) -> Certified {
    let made = Certified::of("127.0.0.1");
    place.write("chain.pem", &made.certificate);
    place.write("key.pem", &made.key);
    made
}

impl Port {
    fn open(place: Place) -> Port {
        let running = place.start("sink files --config t.toml");
        let mut address = String::new();
        until("it listens", || {
            let said = running.said();
            let found = said.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            found.is_some_and(|found| {
                found.clone_into(&mut address);
                true
            })
        });
        Port { place, running, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status, head and body.
    fn ask(stream: &mut (impl Read + Write), page: &str, token: Option<&str>) -> (u16, String) {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let asked = write!(stream, "GET {page} HTTP/1.1\r\nHost: t\r\n{token}Connection: close\r\n\r\n");
        let mut answer = Vec::new();
        let _ = asked.and_then(|()| stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
    }

    fn get(&self, page: &str, token: Option<&str>) -> (u16, String) {
        Port::ask(&mut self.connect(), page, token)
    }

    /// The status over TLS, trusting this certificate alone; 0: there was no agreement.
    fn get_trusting(&self, trusted: &Certified, page: &str) -> u16 {
        let mut connector = TlsConnector::builder();
        connector.disable_built_in_roots(true);
        connector.add_root_certificate(Certificate::from_pem(trusted.certificate.as_ref()).unwrap());
        match connector.build().unwrap().connect("127.0.0.1", self.connect()) {
            Ok(mut stream) => Port::ask(&mut stream, page, Some(READ)).0,
            Err(_) => 0,
        }
    }

    /// Nothing that it has said holds a secret.
    fn close(self) {
        self.running.signal("TERM");
        let ran = self.running.ended().ok();
        for secret in [READ, NEXT, OPERATE] {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{ran}");
        }
    }
}

#[test]
fn who_has_no_token_is_told_nothing() {
    let port = Port::open(place(TOKENS));
    until("it is known that there are no brokers", || port.get("/readyz", Some(READ)).1.contains("kafka: "));
    for token in [None, Some("another-token-altogether"), Some("")] {
        assert_eq!(port.get("/livez", token).0, 200);
        let (status, answer) = port.get("/metrics", token);
        assert_eq!(status, 401);
        assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
        let (status, answer) = port.get("/readyz", token);
        assert_eq!(status, 503);
        assert!(answer.ends_with("\r\n\r\nnot ready\n"), "{answer}");
    }
    for token in [READ, NEXT, OPERATE] {
        let (status, answer) = port.get("/metrics", Some(token));
        assert!(status == 200 && answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(![READ, NEXT, OPERATE].iter().any(|secret| answer.contains(secret)));
    }
    port.close();
}

#[test]
fn who_is_silent_keeps_nobody_waiting() {
    let port = Port::open(place(""));
    let silent: Vec<TcpStream> = (0..100).map(|_| port.connect()).collect();
    assert_eq!(port.get("/livez", None).0, 200);
    assert_eq!(port.get("/metrics", None).0, 200);
    drop(silent);
    port.close();
}

#[test]
fn over_tls_with_the_certificate_that_is_there_now() {
    let place = place(&format!("{TLS}{TOKENS}"));
    let (first, another) = (certify(&place), Certified::of("127.0.0.1"));
    let port = Port::open(place);
    let _silent = port.connect();
    assert_eq!(port.get_trusting(&first, "/metrics"), 200);
    assert_eq!(port.get_trusting(&another, "/metrics"), 0);
    assert_eq!(port.get("/livez", None).0, 0);
    port.place.write("chain.pem", "half of it");
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(port.get_trusting(&first, "/metrics"), 200);
    let second = certify(&port.place);
    until("the new certificate is shown", || port.get_trusting(&second, "/metrics") == 200);
    assert_eq!(port.get_trusting(&first, "/metrics"), 0);
    assert!(port.running.said().contains("the certificate of before is shown for now"));
    port.close();
}

#[test]
fn what_is_not_protected_is_not_opened_to_others() {
    let refuse = |http: &str, line: &str, words: &[&str]| {
        let place = place(http);
        certify(&place);
        place.run(line).refused(CONFIG, words);
    };
    let start = "sink files --config t.toml";
    let others = &["0.0.0.0:0 is reached from other machines", "insecure = true"];
    refuse("", &format!("{start} --listen 0.0.0.0:0"), others);
    refuse(TLS, &format!("{start} --listen 0.0.0.0:0"), others);
    refuse("tokens = { read = \"file:short\" }", start, &["[http.tokens] read has 7 bytes", "openssl rand"]);
    refuse("certificate = \"chain.pem\"\nkey = \"none.pem\"", start, &["[http] key", "none.pem cannot be read"]);
    refuse("certificate = \"read\"\nkey = \"key.pem\"", start, &["must hold a chain of certificates in PEM"]);
    refuse("tokens = { read = \"file:none\" }", "check --config t.toml", &["are not as they should be"]);
    let fine = place(&format!("{TLS}{TOKENS}"));
    certify(&fine);
    let checked = fine.run("check --config t.toml");
    assert!(checked.out.contains("its certificate is valid until"), "{checked}");
}
