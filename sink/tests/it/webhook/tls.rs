//! Receivers with certificates, good and bad.

use native_tls::{Identity, TlsAcceptor};
use touchline_harness::Certified;
use touchline_sink::End;
use touchline_sink::webhook::WebhookConfig;

use super::receiver::{Receiver, status};
use super::{alerts, begin, config, finish};

#[test]
fn only_a_receiver_with_a_certificate_of_its_own_gets_anything() {
    let check = |certified: &str, is_known: bool, reason: Option<&str>| {
        let Certified { key, certificate } = Certified::of(certified);
        let identity = Identity::from_pkcs8(&certificate, &key).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let receiver = Receiver::listen("127.0.0.1:0".parse().unwrap(), Some(acceptor), |_, _| status(200));
        let url = format!("https://{}/", receiver.address);
        let config = WebhookConfig { ca: is_known.then_some(certificate), schedule: vec![], ..config(url) };
        let script = alerts(&["a"]);
        let outcome = finish(begin(config, &script));
        assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
        assert_eq!(receiver.count(), usize::from(reason.is_none()));
        let rejected = script.rejected.lock().unwrap();
        match reason {
            None => assert!(rejected.is_empty(), "{rejected:?}"),
            Some(reason) => assert!(rejected[0].2.contains(reason), "{rejected:?}"),
        }
    };
    check("127.0.0.1", true, None);
    check("127.0.0.1", false, Some("self-signed certificate"));
    check("127.0.0.2", true, Some("IP address mismatch"));
}
