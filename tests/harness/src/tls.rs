//! Certificates, made when a test asks for them.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// A server's key and certificate, both PEM. The certificate vouches for itself: whoever trusts it as an authority trusts
/// the server.
pub struct Certified {
    /// The private key, as PKCS #8.
    pub key: Vec<u8>,
    /// The certificate, good for a day.
    pub certificate: Vec<u8>,
}

impl Certified {
    /// For a server at this IP address.
    pub fn of(address: &str) -> Certified {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "a server of tests").unwrap();
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
        Certified { key: key.private_key_to_pem_pkcs8().unwrap(), certificate: builder.build().to_pem().unwrap() }
    }
}
