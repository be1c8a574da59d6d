//! Endpoints: who is told, where, of what, and with which secret.

use std::{collections::HashMap, str::FromStr, time::Duration};

use super::{ENDPOINT, EndpointId, EventType, Secret, WebhookError, Webhooks};
use crate::{error::QueueError, ids::TenantId, rules::milliseconds};

/// The most endpoints of one tenant.
pub const MOST_ENDPOINTS: usize = 50;
/// How many secrets that were rotated out are valid beside the newest, at most.
const OLD_SECRETS: usize = 5;
const LONGEST_URL: usize = 2048;
const LONGEST_DESCRIPTION: usize = 200;

/// An endpoint about to be made.
#[derive(Debug, Clone, Default)]
pub struct NewEndpoint {
    /// Where events go; see [`check_url`].
    pub url: String,
    /// Of what it is told; everything, if empty.
    pub events: Vec<EventType>,
    /// Whether it is told of each job of a batch too, not only of the end of the batch.
    pub batch_jobs: bool,
    /// For people.
    pub description: String,
}

/// What is to be different about an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// See [`NewEndpoint`].
    pub url: Option<String>,
    /// See [`NewEndpoint`].
    pub events: Option<Vec<EventType>>,
    /// See [`NewEndpoint`].
    pub batch_jobs: Option<bool>,
    /// See [`NewEndpoint`].
    pub description: Option<String>,
    /// Whether anything is sent to it.
    pub enabled: Option<bool>,
}

/// An endpoint as it stands. The secret is read apart, see [`Webhooks::secrets`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where events go; empty for the URLs of single jobs, which say so themselves.
    pub url: String,
    /// Of what it is told; everything, if empty.
    pub events: Vec<EventType>,
    /// Whether it is told of each job of a batch too.
    pub batch_jobs: bool,
    /// For people.
    pub description: String,
    /// Whether anything is sent to it.
    pub enabled: bool,
    /// Why not: `asked`, `gone` (it answered 410) or `failing` (for days).
    pub disabled_why: Option<String>,
    /// Since when not (milliseconds since 1970).
    pub disabled_ms: Option<i64>,
    /// When it was made (milliseconds since 1970).
    pub created_ms: i64,
    /// How it is doing.
    pub health: Health,
}

/// How a receiver is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Deliveries that wait or are being attempted.
    pub pending: u64,
    /// Deliveries that were given up and are still in the log.
    pub undelivered: u64,
    /// Attempts that failed since the last success.
    pub failures: u64,
    /// Since when (milliseconds since 1970).
    pub failing_since_ms: Option<i64>,
}

/// Whether events can be sent there, as far as the text tells: an absolute http or https URL without user, password and fragment. Which
/// addresses are allowed is for the workers to say, when they connect.
pub fn check_url(text: &str) -> Result<(), String> {
    let shown: String = text.chars().take(100).collect();
    let wrong = |what: &str| Err(format!("{shown:?} {what}"));
    if text.len() > LONGEST_URL {
        return wrong(&format!("is longer than {LONGEST_URL} bytes"));
    }
    // The parser would take some out silently.
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return wrong("has spaces or control characters");
    }
    let Ok(url) = reqwest::Url::from_str(text) else {
        return wrong("is no absolute URL, such as https://example.com/hook");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("is neither http nor https");
    }
    // The parser takes any number of slashes, of both kinds, for two.
    let named = text.split_once("://").is_some_and(|(_, rest)| !rest.starts_with(['/', '\\']));
    if !named || url.host_str().is_none_or(str::is_empty) {
        return wrong("names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "has a user or a password, which would be logged along the way; receivers check the signature",
        );
    }
    if url.fragment().is_some() {
        return wrong("has a fragment (#...), which is never sent");
    }
    if url.port() == Some(0) {
        return wrong("has the port 0");
    }
    Ok(())
}

/// Shortens what is for people only, and keeps it on one line.
fn line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_DESCRIPTION).collect()
}

fn names(events: &[EventType]) -> String {
    events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(" ")
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

impl Webhooks {
    /// Makes an endpoint; answers it with its secret.
    pub async fn create(
        &self,
        tenant: &TenantId,
        new: &NewEndpoint,
    ) -> Result<(Endpoint, Secret), WebhookError> {
        let (id, secret) = (EndpointId::generate(), Secret::generate()?);
        let NewEndpoint { url, events, batch_jobs, description } = new;
        let fields = [
            ("url", url.clone()),
            ("events", names(events)),
            ("batch_jobs", flag(*batch_jobs)),
            ("description", line(description)),
        ];
        let mut arguments = vec![MOST_ENDPOINTS.to_string(), secret.reveal()];
        arguments.extend(fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        self.change_by("create", tenant, &id, &arguments).await?;
        Ok((self.endpoint(tenant, &id).await?, secret))
    }

    /// Changes an endpoint. Enabling it forgets how it failed; what waited goes out.
    pub async fn change(
        &self,
        tenant: &TenantId,
        id: &EndpointId,
        change: &EndpointChange,
    ) -> Result<Endpoint, WebhookError> {
        let EndpointChange { url, events, batch_jobs, description, enabled } = change;
        let fields = [
            ("url", url.clone()),
            ("events", events.as_deref().map(names)),
            ("batch_jobs", batch_jobs.map(flag)),
            ("description", description.as_deref().map(line)),
            ("enabled", enabled.map(flag)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        self.change_by("change", tenant, id, &given.flatten().collect::<Vec<_>>()).await?;
        self.endpoint(tenant, id).await
    }

    /// Forgets an endpoint and what waits for it.
    pub async fn delete(&self, tenant: &TenantId, id: &EndpointId) -> Result<(), WebhookError> {
        self.change_by("delete", tenant, id, &[]).await
    }

    /// Gives an endpoint another secret. The old one is valid for `overlap` longer: until then messages are signed with both.
    pub async fn rotate(
        &self,
        tenant: &TenantId,
        id: &EndpointId,
        overlap: Duration,
    ) -> Result<Secret, WebhookError> {
        if id.is_of_jobs() {
            self.secret_of_jobs(tenant).await?;
        }
        let secret = Secret::generate()?;
        let arguments = [secret.reveal(), milliseconds(overlap).to_string(), OLD_SECRETS.to_string()];
        // Not again when the answer is lost: it would rotate twice.
        self.change_by("rotate", tenant, id, &arguments).await?;
        Ok(secret)
    }

    /// The secret that messages to an endpoint are signed with, and those rotated out that are still valid, with their end
    /// (milliseconds since 1970).
    pub async fn secrets(
        &self,
        tenant: &TenantId,
        id: &EndpointId,
    ) -> Result<(Secret, Vec<(Secret, i64)>), WebhookError> {
        if id.is_of_jobs() {
            self.ensure_secret_of_jobs(tenant).await?;
        }
        let mut read = redis::cmd("HMGET");
        read.arg(self.queue.redis.keys().hook(id.as_str())).arg("tenant").arg("secret").arg("old");
        let (owner, secret, old): (Option<String>, Option<String>, Option<String>) =
            self.queue.redis.query(&read).await?;
        let secret =
            secret.filter(|_| owner.as_deref() == Some(tenant.as_str())).ok_or(WebhookError::NotFound)?;
        let now = now_ms();
        let old =
            old_secrets(&old.unwrap_or_default())?.into_iter().filter(|(_, until)| *until > now).collect();
        Ok((parsed_secret(&secret)?, old))
    }

    /// The secret for the URLs that a tenant's single jobs name.
    pub(super) async fn secret_of_jobs(&self, tenant: &TenantId) -> Result<Secret, WebhookError> {
        Ok(self.secrets(tenant, &EndpointId::of_jobs(tenant)).await?.0)
    }

    async fn ensure_secret_of_jobs(&self, tenant: &TenantId) -> Result<(), WebhookError> {
        let fresh = Secret::generate()?.reveal();
        self.change_by("ensure", tenant, &EndpointId::of_jobs(tenant), &[fresh]).await
    }

    async fn change_by(
        &self,
        what: &str,
        tenant: &TenantId,
        id: &EndpointId,
        arguments: &[String],
    ) -> Result<(), WebhookError> {
        let mut call = self.queue.call(&ENDPOINT);
        call.arg(what).arg(tenant.as_str()).arg(id.as_str());
        for argument in arguments {
            call.arg(argument);
        }
        let answer: String = match what {
            "rotate" => self.queue.redis.invoke(&call).await?,
            _ => self.queue.ask(&call).await?,
        };
        match answer.as_str() {
            "done" => Ok(()),
            "full" => Err(WebhookError::Full),
            _ => Err(WebhookError::NotFound),
        }
    }

    /// A tenant's endpoint.
    pub async fn endpoint(&self, tenant: &TenantId, id: &EndpointId) -> Result<Endpoint, WebhookError> {
        if id.is_of_jobs() {
            self.ensure_secret_of_jobs(tenant).await?;
        }
        self.read(tenant, vec![id.clone()]).await?.pop().ok_or(WebhookError::NotFound)
    }

    /// A tenant's endpoints, in the order in which they were made.
    pub async fn endpoints(&self, tenant: &TenantId) -> Result<Vec<Endpoint>, WebhookError> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.queue.redis.keys().hooks(tenant.as_str()));
        let mut ids: Vec<String> = self.queue.redis.query(&read).await?;
        ids.sort_unstable();
        self.read(tenant, ids.into_iter().map(EndpointId).collect()).await
    }

    async fn read(&self, tenant: &TenantId, ids: Vec<EndpointId>) -> Result<Vec<Endpoint>, WebhookError> {
        type Found = (HashMap<String, String>, (Option<u64>, Option<i64>), u64, u64, u64);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.queue.redis.keys();
        let mut read = redis::pipe();
        for id in &ids {
            let id = id.as_str();
            read.hgetall(keys.hook(id)).cmd("HMGET").arg(keys.lane(id)).arg("failures").arg("since");
            read.zcard(keys.due(id, false)).zcard(keys.due(id, true)).zcard(keys.log(id, true));
        }
        // A pipeline answers flat; five values belong together.
        let mut answers: Vec<redis::Value> = self.queue.redis.pipeline(&read).await?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let five = redis::Value::Array(answers.drain(..5.min(answers.len())).collect());
            let (fields, (failures, since), waiting, flying, undelivered): Found =
                redis::from_redis_value(five).map_err(redis::RedisError::from).map_err(QueueError::from)?;
            if fields.get("tenant").map(String::as_str) != Some(tenant.as_str()) {
                continue;
            }
            let health = Health {
                pending: waiting + flying,
                undelivered,
                failures: failures.unwrap_or_default(),
                failing_since_ms: since,
            };
            found.push(endpoint(id, fields, health)?);
        }
        Ok(found)
    }
}

fn endpoint(
    id: EndpointId,
    mut fields: HashMap<String, String>,
    health: Health,
) -> Result<Endpoint, QueueError> {
    let number = |text: Option<String>| text.map(|text| crate::queue::parse::<i64>(&text)).transpose();
    let mut take = |name: &str| fields.remove(name);
    Ok(Endpoint {
        id,
        url: take("url").unwrap_or_default(),
        events: take("events").unwrap_or_default().split(' ').filter_map(EventType::parse).collect(),
        batch_jobs: take("batch_jobs").is_some_and(|flag| flag == "1"),
        description: take("description").unwrap_or_default(),
        enabled: take("enabled").is_some_and(|flag| flag == "1"),
        disabled_why: take("why"),
        disabled_ms: number(take("disabled"))?,
        created_ms: number(take("created"))?.unwrap_or_default(),
        health,
    })
}

pub(super) fn parsed_secret(text: &str) -> Result<Secret, QueueError> {
    text.parse().map_err(|error: super::InvalidSecret| QueueError::Corrupt(error.to_string()))
}

/// Lines `<valid until> <secret>`.
pub(super) fn old_secrets(lines: &str) -> Result<Vec<(Secret, i64)>, QueueError> {
    let line = |line: &str| {
        let (until, secret) =
            line.split_once(' ').ok_or_else(|| QueueError::Corrupt("an old secret has no end".into()))?;
        Ok((parsed_secret(secret)?, crate::queue::parse(until)?))
    };
    lines.lines().map(line).collect()
}

/// This machine's clock, which is near enough to Redis's for what lasts a day.
pub(super) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_pass() {
        for good in [
            "https://example.com/hook?x=1",
            "http://10.0.0.1:8080",
            "https://[2001:db8::1]/",
            "HTTPS://Example.com",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "/hook",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https:/x",
            "https:x",
            "https:\\\\x",
            "http://user@example.com",
            "http://user:pass@example.com",
            "http://example.com/#x",
            "http://exa mple.com",
            "http://example.com/\nx",
            "http://[::1",
            "javascript:alert(1)",
            "http://example.com:0/",
            "http://example.com:99999/",
            "gopher://example.com",
            "\thttp://example.com",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert!(check_url(&format!("https://example.com/{}", "x".repeat(2048))).is_err());
    }
}
