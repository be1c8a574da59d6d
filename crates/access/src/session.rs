//! Sessions of browsers: whoever has shown a key once is known by a random token from then on, so that no key lies in a browser.
//!
//! A session is bound to the key that opened it: it is over when the key is revoked, replaced or expires, as soon as the key itself is
//! refused. It also ends after [`IDLE`] without a call, and [`LONGEST`] after it was opened. Redis knows a hash of the token only.

use std::{fmt, str::FromStr, time::Duration};

use jobs::{QueueError, Redis};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    error::Denied,
    key::{KeyHash, KeyId, NoRandomness},
    store::now_ms,
};

/// After how long without a call a session is over.
pub const IDLE: Duration = Duration::from_hours(12);
/// After how long it is over in any case.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

const BYTES: usize = 32;

/// What a browser shows in place of a key: 64 hexadecimal digits, a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

impl SessionToken {
    /// A new one, from the operating system's random numbers.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
    }

    /// The token itself, for the browser that it is made for. Never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A text that is not a session's token. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the token of a session: expected 64 hexadecimal digits")]
pub struct InvalidToken;

impl FromStr for SessionToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if digits && text.len() == 2 * BYTES { Ok(Self(text.to_owned())) } else { Err(InvalidToken) }
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// The key that opened a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenedBy {
    /// An API key, as it was then.
    Key(KeyId, KeyHash),
    /// The operator's own key, as it was then.
    Admin(KeyHash),
}

/// Sessions in Redis: `{name}:access:session:<hash of the token>`.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    redis: Redis,
    prefix: String,
}

impl Sessions {
    pub(crate) fn new(redis: Redis) -> Self {
        let prefix = format!("{}:access:session:", redis.tag());
        Self { redis, prefix }
    }

    fn key(&self, token: &SessionToken) -> String {
        format!("{}{}", self.prefix, blake3::hash(token.0.as_bytes()).to_hex())
    }

    pub(crate) async fn open(&self, by: &OpenedBy) -> Result<SessionToken, Denied> {
        let token = SessionToken::generate()?;
        let mut keep = redis::cmd("SET");
        keep.arg(self.key(&token)).arg(to_text(by, now_ms())).arg("EX").arg(IDLE.as_secs());
        self.redis.query::<String>(&keep).await?;
        Ok(token)
    }

    /// Who opened a session that is not over; it goes on for [`IDLE`] from now.
    pub(crate) async fn opened_by(&self, token: &SessionToken) -> Result<Option<OpenedBy>, QueueError> {
        let mut read = redis::cmd("GETEX");
        read.arg(self.key(token)).arg("EX").arg(IDLE.as_secs());
        let text: Option<String> = self.redis.query(&read).await?;
        let Some((by, opened_ms)) = text.as_deref().and_then(parse) else { return Ok(None) };
        let longest_ms = i64::try_from(LONGEST.as_millis()).unwrap_or(i64::MAX);
        if now_ms().saturating_sub(opened_ms) > longest_ms {
            self.close(token).await?;
            return Ok(None);
        }
        Ok(Some(by))
    }

    pub(crate) async fn close(&self, token: &SessionToken) -> Result<(), QueueError> {
        let mut remove = redis::cmd("DEL");
        remove.arg(self.key(token));
        self.redis.query::<u32>(&remove).await.map(drop)
    }
}

/// `<id of the key, or ->  <hash of the key> <when it was opened, in milliseconds since 1970>`.
fn to_text(by: &OpenedBy, opened_ms: i64) -> String {
    match by {
        OpenedBy::Key(id, hash) => format!("{id} {} {opened_ms}", hash.to_hex()),
        OpenedBy::Admin(hash) => format!("- {} {opened_ms}", hash.to_hex()),
    }
}

fn parse(text: &str) -> Option<(OpenedBy, i64)> {
    let mut words = text.split(' ');
    let (id, hash, opened) = (words.next()?, words.next()?, words.next()?);
    let hash = KeyHash::from_hex(hash)?;
    let by = if id == "-" { OpenedBy::Admin(hash) } else { OpenedBy::Key(id.parse().ok()?, hash) };
    Some((by, opened.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::key::ApiKey;

    #[test]
    fn a_token_is_read_back_and_shown_to_nobody_else() {
        let token = SessionToken::generate().unwrap();
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_ne!(token, SessionToken::generate().unwrap());
        assert!(!format!("{token:?}").contains(token.reveal()));
        for wrong in ["", "a1", &"A".repeat(64), &"a".repeat(65), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<SessionToken>(), Err(InvalidToken), "{wrong}");
        }
    }

    #[test]
    fn what_opened_a_session_survives_redis() {
        let key = ApiKey::generate().unwrap();
        for by in [OpenedBy::Key(key.id(), key.hash()), OpenedBy::Admin(key.hash())] {
            assert_eq!(parse(&to_text(&by, 17)), Some((by, 17)));
        }
        assert_eq!(parse("- nothing 1"), None);
    }
}
