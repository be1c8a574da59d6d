//! Who a caller is. What was read of a key holds for [`FRESH`], so that a call costs no round trip; that is also how soon a
//! revocation works at the latest. When Redis does not answer, nobody new is let in.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::Redis;

use crate::{
    caller::Caller,
    error::Denied,
    key::{ApiKey, KeyHash, KeyId},
    session::{OpenedBy, SessionToken, Sessions},
    store::{KeyStore, StoredKey, now_ms},
    token::{TokenFault, Tokens},
};

/// How long what was read of a key holds.
pub const FRESH: Duration = Duration::from_secs(5);
/// How many keys are kept in memory. Ids that nobody has count too, so there may be attempts to fill it up.
const MOST_KEPT: usize = 4096;
/// The time of last use is exact to this many milliseconds.
const USED_EVERY_MS: i64 = 60_000;
const SHORTEST_ADMIN_KEY: usize = 32;
const LONGEST_ADMIN_KEY: usize = 512;

/// The operator's own key, from a file: it may do everything, and is not stored anywhere else.
#[derive(Clone)]
pub struct AdminKey(KeyHash);

/// A text that is too weak for a key, or none. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected one line of {SHORTEST_ADMIN_KEY} to {LONGEST_ADMIN_KEY} visible ASCII characters, e.g. from `openssl rand -hex 32`"
)]
pub struct InvalidAdminKey;

impl AdminKey {
    /// Takes what the file holds; white space around it does not count.
    pub fn new(text: &str) -> Result<Self, InvalidAdminKey> {
        let text = text.trim();
        let fits = (SHORTEST_ADMIN_KEY..=LONGEST_ADMIN_KEY).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(KeyHash::of(text)));
        }
        Err(InvalidAdminKey)
    }

    /// In constant time, as hashes of this kind are compared.
    fn is(&self, shown: &str) -> bool {
        self.0 == KeyHash::of(shown)
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(..)")
    }
}

/// What is known of a key.
#[derive(Debug)]
struct Kept {
    read: Instant,
    found: Option<Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    hash: KeyHash,
    expires_ms: Option<i64>,
    used_ms: AtomicI64,
    caller: Caller,
}

/// Whether keys are needed, as far as was heard.
#[derive(Debug, Default)]
struct Closed {
    asked: Option<Instant>,
    known: Option<bool>,
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
    /// Those of an external issuer, if there is one.
    tokens: Option<Tokens>,
}

#[derive(Debug)]
struct Inner {
    store: KeyStore,
    sessions: Sessions,
    admin: Option<AdminKey>,
    /// Whether a key is needed whatever Redis says.
    always: bool,
    kept: Mutex<HashMap<KeyId, Kept>>,
    closed: Mutex<Closed>,
}

impl Gate {
    /// The gate of a server. `always`: a key is needed even if none was ever made, as where other machines reach the server.
    /// With an admin key one is needed in any case.
    pub fn new(redis: Redis, admin: Option<AdminKey>, always: bool) -> Self {
        let always = always || admin.is_some();
        let (kept, closed) = (Mutex::default(), Mutex::default());
        let (store, sessions) = (KeyStore::new(redis.clone()), Sessions::new(redis));
        let inner = Inner { store, sessions, admin, always, kept, closed };
        Self { inner: Arc::new(inner), tokens: None }
    }

    /// The same for those who show tokens of an external issuer too. Then nobody is let in without a key or a token.
    #[must_use]
    pub fn with_tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Who shows this key, or none at all.
    pub async fn caller(&self, shown: Option<&str>) -> Result<Caller, Denied> {
        let Some(shown) = shown else {
            return if self.needs_key().await? { Err(Denied::NoKey) } else { Ok(Caller::local()) };
        };
        if self.inner.admin.as_ref().is_some_and(|admin| admin.is(shown)) {
            return Ok(Caller::admin());
        }
        if let Some(tokens) = self.tokens.as_ref().filter(|_| Tokens::is_token(shown)) {
            return tokens.caller(shown).await;
        }
        let key: ApiKey = shown.parse()?;
        self.holder(&key.id(), key.hash()).await
    }

    /// Opens a session for whoever shows a key.
    pub async fn open_session(&self, shown: &str) -> Result<SessionToken, Denied> {
        self.caller(Some(shown)).await?;
        let by = if self.inner.admin.as_ref().is_some_and(|admin| admin.is(shown)) {
            OpenedBy::Admin(KeyHash::of(shown))
        } else {
            // A token is over long before a session.
            let key: ApiKey = shown.parse().map_err(|_| TokenFault::NoSession)?;
            OpenedBy::Key(key.id(), key.hash())
        };
        self.inner.sessions.open(&by).await
    }

    /// Who opened a session; [`Denied::NoKey`] once it is over. What holds for the key holds for its sessions.
    pub async fn session(&self, token: &SessionToken) -> Result<Caller, Denied> {
        match self.inner.sessions.opened_by(token).await?.ok_or(Denied::NoKey)? {
            OpenedBy::Key(id, hash) => self.holder(&id, hash).await,
            OpenedBy::Admin(hash) => {
                let is_still = self.inner.admin.as_ref().is_some_and(|admin| admin.0 == hash);
                if is_still { Ok(Caller::admin()) } else { Err(Denied::NoKey) }
            }
        }
    }

    /// Ends a session.
    pub async fn close_session(&self, token: &SessionToken) -> Result<(), Denied> {
        Ok(self.inner.sessions.close(token).await?)
    }

    /// Who has the key with this id and hash.
    async fn holder(&self, id: &KeyId, hash: KeyHash) -> Result<Caller, Denied> {
        let known = self.known(id).await?.ok_or(Denied::Unknown)?;
        if known.hash != hash {
            return Err(Denied::Unknown);
        }
        let now = now_ms();
        if known.expires_ms.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired);
        }
        self.note_use(id, &known, now).await;
        Ok(known.caller.clone())
    }

    /// Whether a call needs a key.
    pub async fn needs_key(&self) -> Result<bool, Denied> {
        if self.inner.always || self.tokens.is_some() {
            return Ok(true);
        }
        let known = {
            let mut closed = lock(&self.inner.closed);
            // There is no way back from closed, and others need not wait for the answer that this one asks for.
            let fresh =
                closed.known == Some(true) || closed.asked.is_some_and(|asked| asked.elapsed() < FRESH);
            if !fresh {
                closed.asked = Some(Instant::now());
            }
            closed.known.filter(|_| fresh)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        match self.inner.store.is_closed().await {
            Ok(is_closed) => {
                lock(&self.inner.closed).known = Some(is_closed);
                Ok(is_closed)
            }
            // Without Redis the call will come to nothing; only nobody must be let in who was not before.
            Err(error) => lock(&self.inner.closed).known.ok_or(Denied::Unavailable(error)),
        }
    }

    async fn known(&self, id: &KeyId) -> Result<Option<Arc<Known>>, Denied> {
        let fresh = |kept: &Kept| kept.read.elapsed() < FRESH;
        if let Some(kept) = lock(&self.inner.kept).get(id).filter(|kept| fresh(kept)) {
            return Ok(kept.found.clone());
        }
        let read = Instant::now();
        let found = self.inner.store.find(id).await?.map(|stored| Arc::new(Known::new(id, stored)));
        let mut kept = lock(&self.inner.kept);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, kept| fresh(kept));
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(id.clone(), Kept { read, found: found.clone() });
        Ok(found)
    }

    async fn note_use(&self, id: &KeyId, known: &Known, now: i64) {
        let used = known.used_ms.load(Ordering::Relaxed);
        if now.saturating_sub(used) < USED_EVERY_MS {
            return;
        }
        known.used_ms.store(now, Ordering::Relaxed);
        if let Err(error) = self.inner.store.touch(id, now).await {
            tracing::debug!(key.id = %id, error = jobs::chain(&error), "the last use was not noted");
        }
    }
}

impl Known {
    fn new(id: &KeyId, stored: StoredKey) -> Self {
        let StoredKey { hash, terms, expires_ms, used_ms } = stored;
        let (tenant, scopes, rate) = (terms.tenant, terms.scopes, terms.rate);
        let caller = Caller { tenant, scopes, key: id.as_str().into(), rate, with_key: true };
        Self { hash, expires_ms, used_ms: used_ms.unwrap_or(0).into(), caller }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_admin_key_is_one_long_line() {
        let key = AdminKey::new(&format!(" {}\n", "a1".repeat(16))).unwrap();
        assert!(key.is(&"a1".repeat(16)));
        assert!(!key.is(&"a2".repeat(16)) && !key.is(""));
        assert!(!format!("{key:?}").contains("a1a1"));
        for wrong in ["", "short", &"a b".repeat(20), &"é".repeat(40), &"x".repeat(513)] {
            assert!(AdminKey::new(wrong).is_err());
        }
    }
}
