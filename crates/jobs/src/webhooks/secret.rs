//! Secrets and signatures as Standard Webhooks 1.0 has them: HMAC-SHA256 over `<id>.<seconds>.<body>`.
//!
//! Made here with ring, which the TLS of this workspace rests on already: the crate `standardwebhooks` takes one key for each
//! value and would bring a second HMAC, a second base64 and a clock of its own. The tests hold the two against each other.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

const PREFIX: &str = "whsec_";
/// Bytes of a secret that is made here. Others may have 24 to 64.
const BYTES: usize = 32;

/// A key that one sender and one receiver share. Its debug form does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    key: Vec<u8>,
}

/// A text that is no secret. It is not repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and the base64 of 24 to 64 random bytes")]
pub struct InvalidSecret;

/// The system has no random numbers to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

impl Secret {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = vec![0; BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self { key })
    }

    /// The secret as it is handed to the receiver: `whsec_...`.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.key))
    }

    /// The signature of a message, `v1,...`. `seconds` is when it is sent, since 1970.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let tag = hmac::sign(&self.hmac(), &signed_text(id, seconds, body));
        format!("v1,{}", STANDARD.encode(tag))
    }

    /// Whether one of the signatures in the header `webhook-signature` is that of this secret. Takes as long for a wrong one as for
    /// a right one. Whether `seconds` is recent is for the caller to say.
    pub fn verifies(&self, id: &str, seconds: i64, body: &[u8], signatures: &str) -> bool {
        let (key, text) = (self.hmac(), signed_text(id, seconds, body));
        signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|signature| {
            STANDARD.decode(signature).is_ok_and(|tag| hmac::verify(&key, &text, &tag).is_ok())
        })
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.key)
    }
}

fn signed_text(id: &str, seconds: i64, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{id}.{seconds}.").into_bytes();
    text.extend_from_slice(body);
    text
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if (24..=64).contains(&key.len()) { Ok(Self { key }) } else { Err(InvalidSecret) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let (id, seconds, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let signature = secret.sign(id, seconds, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(secret.verifies(id, seconds, body, &signature));
        assert!(secret.verifies(id, seconds, body, &format!("v1,AAAA v2,{signature} {signature}")));
        for (id, seconds, body) in [("msg_2", seconds, &body[..]), (id, 1, body), (id, seconds, b"{}")] {
            assert!(!secret.verifies(id, seconds, body, &signature));
        }
        for none in ["", "v1,", "v1", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,%"] {
            assert!(!secret.verifies(id, seconds, body, none), "{none}");
        }
    }

    #[test]
    fn secrets_survive_their_text_and_bad_ones_are_refused_without_being_told() {
        let secret = Secret::generate().unwrap();
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        assert_ne!(Secret::generate().unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%"] {
            assert_eq!(bad.parse::<Secret>(), Err(InvalidSecret));
        }
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        assert_eq!(long.parse::<Secret>(), Err(InvalidSecret));
    }
}
