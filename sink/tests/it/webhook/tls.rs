//! Receivers with certificates, good and bad.

use native_tls::{Identity, TlsAcceptor};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use touchline_sink::End;
use touchline_sink::webhook::WebhookConfig;

use super::receiver::{Receiver, status};
use super::{alerts, begin, config, finish};

/// A key, and a certificate for this address that vouches for itself.
fn certificate(address: &str) -> (PKey<Private>, X509) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "a receiver of tests").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
    let names = SubjectAlternativeName::new().ip(address).build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (key, builder.build())
}

#[test]
fn only_a_receiver_with_a_certificate_of_its_own_gets_anything() {
    let check = |certified: &str, is_known: bool, reason: Option<&str>| {
        let (key, certificate) = certificate(certified);
        let pem = certificate.to_pem().unwrap();
        let identity = Identity::from_pkcs8(&pem, &key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let receiver = Receiver::listen("127.0.0.1:0".parse().unwrap(), Some(acceptor), |_, _| status(200));
        let url = format!("https://{}/", receiver.address);
        let config = WebhookConfig { ca: is_known.then_some(pem), schedule: vec![], ..config(url) };
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
