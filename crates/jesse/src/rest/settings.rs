//! Where Jesse's servers are and how they are treated.

use std::{fmt, time::Duration};

use reqwest::Url;
use sha2::{Digest, Sha256};

/// The most servers of one deployment.
const MOST_SERVERS: usize = 32;

/// What proves to a server that we may use it. Never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token as Jesse's login hands it out.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token for a password: Jesse's is the SHA-256 of it, so no call is needed.
    pub fn of_password(password: &str) -> Self {
        let digest = Sha256::digest(password.as_bytes());
        Self(digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            text
        }))
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How the REST engine is set up.
#[derive(Debug, Clone)]
pub struct RestSettings {
    /// The servers. They are taken to have the same strategies and candles.
    pub urls: Vec<Url>,
    /// The token that all of them accept.
    pub token: Token,
    /// Backtests at once on one server. Jesse itself has no bound: each one is a process of about 200 MB.
    pub concurrency: u32,
    /// How long a result may answer equal requests.
    pub cache_ttl: Duration,
    /// The largest result.
    pub max_result_bytes: usize,
}

/// A setting that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Not an address.
    #[error("{0:?} is not the address of a Jesse server; write e.g. http://127.0.0.1:9000")]
    Url(String),
    /// The password belongs into its own setting, since addresses are logged.
    #[error("the address of a Jesse server must not have a user or password in it; use JESSE_PASSWORD")]
    Secret,
    /// Too many.
    #[error("{0} Jesse servers are too many: at most {MOST_SERVERS}")]
    TooMany(usize),
}

/// Reads the addresses of servers, each once, in their order.
pub fn parse_urls<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Url>, InvalidServer> {
    let mut urls: Vec<Url> = Vec::new();
    for text in texts.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        let invalid =
            || InvalidServer::Url(text.rsplit('@').next().unwrap_or(text).chars().take(80).collect());
        let mut url = Url::parse(text).map_err(|_| invalid())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServer::Secret);
        }
        let fits = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
        if !fits || url.fragment().is_some() {
            return Err(invalid());
        }
        // Paths are joined to it: without the slash its last part would be replaced.
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    if urls.len() > MOST_SERVERS {
        return Err(InvalidServer::TooMany(urls.len()));
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_password_becomes_the_token_that_jesse_computes_and_neither_is_shown() {
        let token = Token::of_password("test");
        assert_eq!(token.secret(), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        assert!(!format!("{token:?}").contains("9f86"));
    }

    #[test]
    fn addresses_are_read_each_once_and_wrong_ones_are_refused() {
        let urls = parse_urls(["http://a:9000", " https://b/jesse ", "", "http://a:9000/"]).unwrap();
        assert_eq!(urls.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:9000/", "https://b/jesse/"]);
        assert_eq!(urls[1].join("backtest").unwrap().as_str(), "https://b/jesse/backtest");
        for wrong in ["a:9000", "ftp://a", "http://", "http://a?x=1", "/jesse", "http://a/#x"] {
            assert_eq!(parse_urls([wrong]), Err(InvalidServer::Url(wrong.into())), "{wrong}");
        }
        let secret = parse_urls(["http://me:secret@a"]).unwrap_err();
        assert!(!secret.to_string().contains("secret@"), "{secret}");
        assert!(!parse_urls(["me:secret@a"]).unwrap_err().to_string().contains("secret@"));
    }
}
