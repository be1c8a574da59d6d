//! The form of an API key, and what is stored of it.
//!
//! `jj_` + id (12) + secret (32) + checksum (6), all after the prefix in base 62. The id is no secret: logs and lists show it.
//! No type here shows the secret through `Debug`; only [`ApiKey::reveal`] gives it, for the one time a key is shown.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "jj_";
const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const CHECKED_LENGTH: usize = PREFIX.len() + ID_LENGTH + SECRET_LENGTH;
const LENGTH: usize = CHECKED_LENGTH + CHECKSUM_LENGTH;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A text that is not an API key. Says nothing of the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Another prefix, length or alphabet.
    #[error("not an API key: expected jj_ and 50 letters and digits")]
    Form,
    /// The form is right and the checksum is not.
    #[error("not an API key: its checksum is wrong, so it was mistyped or cut")]
    Checksum,
}

/// The operating system gave no random bytes, so no key can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// A text that is not the public part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a key: expected 12 letters and digits, as `keys list` shows them")]
pub struct InvalidKeyId(String);

/// The public part of a key: 12 letters and digits that name it in lists, logs and commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    /// Takes the id with or without the prefix of keys.
    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let id = text.strip_prefix(PREFIX).unwrap_or(text);
        if id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Self(id.to_owned()));
        }
        // No more than an id is repeated: the text may be a secret.
        Err(InvalidKeyId(text.chars().take(ID_LENGTH).collect()))
    }
}

/// An API key of the right form. Whether it is known and may do anything is another question.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut text = String::with_capacity(LENGTH);
        text.push_str(PREFIX);
        while text.len() < CHECKED_LENGTH {
            let mut bytes = [0_u8; 64];
            SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
            // 248 is the largest multiple of 62 in a byte: without the cut the first digits would come more often.
            let digits = bytes.iter().filter(|byte| **byte < 248).map(|byte| digit(u32::from(*byte)));
            text.extend(digits.take(CHECKED_LENGTH - text.len()));
        }
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Ok(Self(text))
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        KeyId(self.0[PREFIX.len()..PREFIX.len() + ID_LENGTH].to_owned())
    }

    /// What is stored in place of the key.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// The whole key with its secret, for the one time it is shown to its owner. Never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let of_the_form = text.len() == LENGTH
            && text
                .strip_prefix(PREFIX)
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if !of_the_form {
            return Err(InvalidKey::Form);
        }
        let (checked, given) = text.split_at(CHECKED_LENGTH);
        if checksum(checked) == given { Ok(Self(text.to_owned())) } else { Err(InvalidKey::Checksum) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({PREFIX}{}...)", self.id())
    }
}

/// The hash of a whole key. Equality takes the same time wherever two hashes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(blake3::Hash);

impl KeyHash {
    pub(crate) fn of(key: &str) -> Self {
        Self(blake3::hash(key.as_bytes()))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.to_hex().to_string()
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote; nothing if it is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }
}

/// CRC-32 in base 62, filled up with zeros to its fixed length.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = ['0'; CHECKSUM_LENGTH];
    for place in digits.iter_mut().rev() {
        *place = digit(rest);
        rest /= 62;
    }
    digits.iter().collect()
}

/// The last base 62 digit of a number.
fn digit(number: u32) -> char {
    char::from(DIGITS[(number % 62) as usize])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::HashSet;

    use super::*;

    fn key() -> ApiKey {
        ApiKey::generate().unwrap()
    }

    #[test]
    fn a_key_is_read_back_as_it_was_shown() {
        let key = key();
        assert_eq!(key.reveal().len(), 53);
        let read: ApiKey = key.reveal().parse().unwrap();
        assert_eq!((read.id(), read.hash()), (key.id(), key.hash()));
    }

    #[test]
    fn keys_do_not_repeat() {
        let keys: HashSet<_> = (0..1_000).map(|_| key().reveal().to_owned()).collect();
        let ids: HashSet<_> = (0..1_000).map(|_| key().id()).collect();
        assert_eq!((keys.len(), ids.len()), (1_000, 1_000));
    }

    #[test]
    fn any_one_changed_character_is_noticed() {
        let shown = key().reveal().to_owned();
        for at in PREFIX.len()..LENGTH {
            let other = if &shown[at..=at] == "a" { "b" } else { "a" };
            let changed = format!("{}{other}{}", &shown[..at], &shown[at + 1..]);
            assert_eq!(changed.parse::<ApiKey>().unwrap_err(), InvalidKey::Checksum, "changed at {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let shown = key().reveal().to_owned();
        let mut wrong =
            vec![String::new(), "jj_".into(), shown[1..].into(), format!("{shown}0"), format!(" {shown}")];
        wrong.push(shown.replace("jj_", "JJ_"));
        wrong.push(format!("jj_{}", "é".repeat(25)));
        wrong.push("x".repeat(1_000_000));
        for text in wrong {
            let error = text.parse::<ApiKey>().unwrap_err();
            assert_eq!(error, InvalidKey::Form);
            assert!(error.to_string().len() < 100);
        }
    }

    #[test]
    fn debug_shows_the_id_and_not_the_secret() {
        let key = key();
        let debug = format!("{key:?}");
        assert!(debug.contains(key.id().as_str()));
        assert!(!debug.contains(&key.reveal()[PREFIX.len() + ID_LENGTH..][..8]));
    }

    #[test]
    fn an_id_is_read_with_and_without_the_prefix() {
        let id = key().id();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(format!("jj_{id}").parse(), Ok(id));
        let whole = key();
        let error = whole.reveal().parse::<KeyId>().unwrap_err().to_string();
        assert!(!error.contains(&whole.reveal()[PREFIX.len() + ID_LENGTH..]), "{error}");
    }

    #[test]
    fn a_hash_is_read_back_and_differs_from_that_of_another_key() {
        let hash = key().hash();
        assert_eq!(KeyHash::from_hex(&hash.to_hex()), Some(hash));
        assert_ne!(hash, key().hash());
        assert_eq!(KeyHash::from_hex("12"), None);
    }
}
