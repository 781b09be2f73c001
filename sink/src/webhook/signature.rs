//! Signatures as [Standard Webhooks] says: HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a secret begins with, so that people and scanners know it for one.
const PREFIX: &str = "whsec_";
/// The specification's bounds of a key: 192 to 512 bits.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;
/// Secrets are handed around by people, who lose the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that sender and receiver share. Its `Debug` does not tell it, and it is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// Why a text is no secret. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook secret is `whsec_` and {} to {} random bytes in base64; this one {problem}: make one with  echo whsec_$(openssl rand -base64 32)",
    KEY_BYTES.start(),
    KEY_BYTES.end()
)]
pub struct SecretError {
    problem: &'static str,
}

impl Secret {
    /// The secret that is written so; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let wrong = |problem| SecretError { problem };
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(wrong("does not begin so"))?;
        let key = LENIENT.decode(encoded).map(Zeroizing::new).map_err(|_| wrong("is not base64 behind that"))?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(wrong(if key.len() < *KEY_BYTES.start() { "is too short" } else { "is too long" }));
        }
        // A key of any length is one for HMAC.
        Hmac::new_from_slice(&key).map(Secret).map_err(|_| wrong("has another length"))
    }

    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value of `webhook-signature`: one signature for each secret, so that a receiver may know the old one or the new.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> String {
    secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of Standard Webhooks are tested with.
    #[test]
    fn the_published_example() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_a_secret() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let check = |text: &str, problem: Option<&'static str>| {
            assert_eq!(Secret::parse(text).err().map(|error| error.problem), problem, "{text}");
        };
        check(&of(24), None);
        check(&of(64), None);
        check(&format!(" {}\n", of(32)), None);
        check(of(32).trim_end_matches('='), None);
        check(&of(23), Some("is too short"));
        check(&of(65), Some("is too long"));
        check("whsec_", Some("is too short"));
        check("", Some("does not begin so"));
        check(&of(32)[6..], Some("does not begin so"));
        check("whsec_not base64, is it?", Some("is not base64 behind that"));
    }

    #[test]
    fn a_secret_is_not_told() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(format!("{:?}", Secret::parse(text).unwrap()), "Secret(…)");
        let error = Secret::parse(&text[6..]).unwrap_err();
        assert!(!error.to_string().contains("MfKQ"), "{error}");
    }
}
