//! The public keys of an issuer, fetched and kept as the parent module says.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};

use super::{FRESH, OLDEST, SOONEST};

/// The longest that an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that it may say, in bytes.
const MOST: usize = 256 << 10;

/// Why the keys of an issuer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It does not answer, or not with 200.
    #[error("the issuer of tokens does not answer; try again in a moment")]
    Away(#[source] reqwest::Error),
    /// What it says is not what it should.
    #[error("the issuer of tokens does not say what its keys are; try again in a moment")]
    Unreadable(&'static str),
}

#[derive(Debug, Default)]
struct Kept {
    keys: Option<(Instant, Arc<JwkSet>)>,
    /// When they were last asked for, whatever came of it.
    asked: Option<Instant>,
}

impl Kept {
    fn newer_than(&self, age: Duration) -> Option<Arc<JwkSet>> {
        self.keys.as_ref().filter(|(read, _)| read.elapsed() < age).map(|(_, keys)| keys.clone())
    }
}

#[derive(Debug)]
pub(super) struct IssuerKeys {
    issuer: String,
    jwks: Option<Url>,
    http: reqwest::Client,
    kept: Mutex<Kept>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

/// The part of an issuer's metadata that matters here (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub(super) fn new(issuer: &str, jwks: Option<&str>) -> Result<Self, String> {
        safe(issuer)?;
        let jwks = jwks.map(safe).transpose()?;
        jobs::choose_tls();
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("no issuer can be asked: {}", jobs::chain(&error)))?;
        let (kept, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { issuer: issuer.to_owned(), jwks, http, kept, asking })
    }

    /// The first key that is wanted.
    pub(super) async fn find(&self, wanted: impl Fn(&Jwk) -> bool) -> Result<Option<Jwk>, IssuerError> {
        let among = |keys: &JwkSet| keys.keys.iter().find(|key| wanted(key)).cloned();
        if let Some(found) = self.kept(FRESH).as_deref().and_then(among) {
            return Ok(Some(found));
        }
        let failed = self.refresh().await.err();
        // Old keys are better than none while there are no others; one who is not among them is not helped by that.
        match (self.kept(OLDEST), failed) {
            (Some(keys), _) => Ok(among(&keys)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(IssuerError::Unreadable("it was asked a moment ago")),
        }
    }

    fn kept(&self, age: Duration) -> Option<Arc<JwkSet>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).newer_than(age)
    }

    /// Fetches the keys, unless they were asked for a moment ago.
    async fn refresh(&self) -> Result<(), IssuerError> {
        let _asking = self.asking.lock().await;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.asked.is_some_and(|asked| asked.elapsed() < SOONEST) {
                return Ok(());
            }
            kept.asked = Some(Instant::now());
        }
        let fetched = self.fetch().await.inspect_err(|error| {
            tracing::warn!(
                error = jobs::chain(error),
                issuer = self.issuer,
                "the keys of the issuer of tokens cannot be had"
            );
        })?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keys =
            Some((Instant::now(), Arc::new(fetched)));
        Ok(())
    }

    async fn fetch(&self) -> Result<JwkSet, IssuerError> {
        let jwks = match &self.jwks {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        self.get(jwks).await
    }

    async fn discover(&self) -> Result<Url, IssuerError> {
        let place = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let place = safe(&place).map_err(|_| IssuerError::Unreadable("its address"))?;
        let Metadata { issuer, jwks_uri } = self.get(place).await?;
        if issuer != self.issuer {
            return Err(IssuerError::Unreadable("its metadata are of another issuer"));
        }
        safe(&jwks_uri).map_err(|_| IssuerError::Unreadable("jwks_uri is no HTTPS address"))
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, IssuerError> {
        let response = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(|error| IssuerError::Away(error.without_url()))?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(IssuerError::Away)? {
            body.extend_from_slice(&part);
            if body.len() > MOST {
                return Err(IssuerError::Unreadable("it says too much"));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|_| IssuerError::Unreadable("it is not the JSON that was asked for"))
    }
}

/// An address over which keys can be had: nobody in between may change them.
fn safe(text: &str) -> Result<Url, String> {
    let wrong = || format!("{text:?}: must be an https:// address (http:// on this machine only)");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().unwrap_or_default();
    let local = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    let fits = url.scheme() == "https" || (url.scheme() == "http" && local);
    if fits && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_where_nobody_can_change_them() {
        for fine in [
            "https://id.example.com",
            "https://id.example.com/realms/a",
            "http://127.0.0.1:9/x",
            "http://[::1]:9",
        ] {
            assert!(safe(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["", "id.example.com", "http://id.example.com", "ftp://127.0.0.1", "https://u:p@id.example.com"]
        {
            assert!(safe(wrong).is_err(), "{wrong}");
        }
    }
}
