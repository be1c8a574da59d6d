//! Webhooks as clients manage them: endpoints, their secrets, what was delivered, and sending it again.

use std::time::Duration;

use jiff::Timestamp;
use jobs::{
    TenantId,
    webhooks::{
        Attempt, Delivery, DeliveryId, DeliveryState, Endpoint, EndpointChange, EndpointId, EventType,
        NewEndpoint, Resend, check_url,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Service, SubmitOptions};
use crate::{
    errors::{Code, ServiceError},
    views::time,
};

/// How long a secret that was rotated out is valid beside the new one.
const OVERLAP: Duration = Duration::from_hours(24);
/// How often it is looked whether a test has been delivered.
const TEST_LOOK: Duration = Duration::from_millis(50);

/// What an endpoint is to be like. `url` is needed to make one; what is left out keeps its value, or has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookFields {
    /// Where events go
    #[serde(default)]
    #[schemars(with = "String")]
    pub url: Option<String>,
    /// job.succeeded, job.failed, job.cancelled, job.dead, job.expired, batch.completed; default all
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub events: Option<Vec<String>>,
    /// Each job of a batch too; default false
    #[serde(default)]
    #[schemars(with = "bool")]
    pub batch_jobs: Option<bool>,
    /// For people
    #[serde(default)]
    #[schemars(with = "String")]
    pub description: Option<String>,
    /// false stops it; default true
    #[serde(default)]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
}

/// An endpoint as clients see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub struct WebhookView {
    /// Its id; `jobs` stands for the URLs that single jobs name.
    pub id: String,
    /// Where events go.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Of what it is told.
    pub events: Vec<EventType>,
    /// Whether it is told of each job of a batch too.
    pub batch_jobs: bool,
    /// For people.
    pub description: String,
    /// Whether anything is sent to it.
    pub enabled: bool,
    /// Why not: `asked`, `gone` or `failing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_because: Option<String>,
    /// Since when not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub disabled_at: Option<String>,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// Deliveries that wait or are being attempted.
    pub pending: u64,
    /// Deliveries that were given up and can be sent again.
    pub undelivered: u64,
    /// Attempts that failed since the last success.
    pub failures: u64,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub failing_since: Option<String>,
    /// Its secret: told when it is made, and when it is asked for by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What messages to an endpoint are signed with.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "WebhookSecret")]
pub struct SecretView {
    /// The newest, `whsec_...`.
    pub secret: String,
    /// Those that are valid for a while longer.
    pub previous: Vec<PreviousSecret>,
}

/// A secret that was rotated out.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PreviousSecret {
    /// `whsec_...`
    pub secret: String,
    /// Until when messages are signed with it too.
    #[schemars(extend("format" = "date-time"))]
    pub valid_until: String,
}

/// A delivery as clients see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView {
    /// Its id.
    pub delivery_id: String,
    /// The header `webhook-id` of every attempt: what a receiver knows it by.
    pub webhook_id: String,
    /// `job.succeeded` and so on.
    pub event: String,
    /// What it is about, unless it is a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// `pending`, `delivered` or `failed`.
    pub state: DeliveryState,
    /// Where it goes, if a job said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it happened.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// When it was taken or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub ended_at: Option<String>,
    /// When its next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub next_attempt_at: Option<String>,
    /// Its attempts, oldest first; of many the last.
    pub attempts: Vec<AttemptView>,
}

/// An attempt as clients see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct AttemptView {
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// How long it took.
    pub took_ms: u64,
    /// The HTTP status, if there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub response: String,
}

/// A page of deliveries.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Deliveries")]
pub struct DeliveriesView {
    /// Newest first.
    pub deliveries: Vec<DeliveryView>,
    /// Give it as `cursor` to go on; null at the end.
    pub next_cursor: Option<String>,
}

/// What to send again: one delivery, or those of a time, or those that were given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResendRequest {
    /// One: its delivery_id
    #[serde(default)]
    #[schemars(with = "String")]
    pub delivery: Option<String>,
    /// Those from then on (UTC)
    #[serde(default)]
    #[schemars(with = "String")]
    pub since: Option<Timestamp>,
    /// Until then
    #[serde(default)]
    #[schemars(with = "String")]
    pub until: Option<Timestamp>,
    /// true: only those given up
    #[serde(default)]
    #[schemars(with = "bool")]
    pub failed: Option<bool>,
}

impl From<Endpoint> for WebhookView {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint {
            id,
            url,
            events,
            batch_jobs,
            description,
            enabled,
            disabled_why,
            disabled_ms,
            created_ms,
            health,
        } = endpoint;
        Self {
            id: id.to_string(),
            url,
            events: if events.is_empty() { EventType::ALL.to_vec() } else { events },
            batch_jobs,
            description,
            enabled,
            disabled_because: disabled_why,
            disabled_at: disabled_ms.map(time),
            created_at: time(created_ms),
            pending: health.pending,
            undelivered: health.undelivered,
            failures: health.failures,
            failing_since: health.failing_since_ms.map(time),
            secret: None,
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let Delivery { id, event, message, url, state, at_ms, ended_ms, due_ms, attempts, endpoint: _ } =
            delivery;
        let attempt = |attempt: Attempt| AttemptView {
            at: time(attempt.at_ms),
            took_ms: attempt.took_ms,
            status: attempt.status,
            error: attempt.error,
            response: attempt.response,
        };
        Self {
            delivery_id: id.to_string(),
            webhook_id: format!("msg_{message}"),
            job_id: (event != EventType::Test.as_str()).then_some(message),
            event,
            state,
            url,
            at: time(at_ms),
            ended_at: ended_ms.map(time),
            next_attempt_at: due_ms.map(time),
            attempts: attempts.into_iter().map(attempt).collect(),
        }
    }
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}

fn endpoint_id(tenant: &TenantId, text: &str) -> Result<EndpointId, ServiceError> {
    EndpointId::parse(text, tenant)
        .ok_or_else(|| ServiceError::new(Code::WebhookNotFound, "no webhook with this id"))
}

fn delivery_id(text: &str) -> Result<DeliveryId, ServiceError> {
    DeliveryId::parse(text)
        .ok_or_else(|| ServiceError::new(Code::WebhookNotFound, "no delivery with this id"))
}

/// What stands for the URLs of single jobs has a secret and deliveries, and nothing that could be changed.
fn own_endpoint(tenant: &TenantId, text: &str) -> Result<EndpointId, ServiceError> {
    let id = endpoint_id(tenant, text)?;
    if id.is_of_jobs() {
        return Err(invalid(
            "id: jobs stands for the URLs that single jobs name; it cannot be changed, tested or deleted",
        ));
    }
    Ok(id)
}

/// The events of these names; none stands for all.
fn events(names: &[String]) -> Result<Vec<EventType>, ServiceError> {
    let known = || EventType::ALL.map(EventType::as_str).join(", ");
    if names.is_empty() {
        return Err(invalid(format!("events: name at least one, or leave it out for all of {}", known())));
    }
    let mut events = Vec::new();
    for name in names {
        let event = EventType::parse(name).filter(|event| *event != EventType::Test).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            invalid(format!("events: no event {shown:?}; there are {}", known()))
        })?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    Ok(events)
}

impl Service {
    /// Refuses a URL to which nothing can or may be sent, as far as it tells.
    fn check_receiver(&self, field: &str, url: &str) -> Result<(), ServiceError> {
        check_url(url).map_err(|why| invalid(format!("{field}: {why}")))?;
        let refused = |error| ServiceError::new(Code::UrlNotAllowed, format!("{field}: {error}"));
        self.receivers.check_text(url).map_err(refused)
    }

    /// Refuses the URL that a job names.
    pub(super) fn check_webhook(&self, options: &SubmitOptions) -> Result<(), ServiceError> {
        options.webhook.as_deref().map_or(Ok(()), |url| self.check_receiver("webhook", url))
    }

    /// Makes an endpoint; its secret is in the answer.
    pub async fn create_webhook(
        &self,
        tenant: &TenantId,
        fields: WebhookFields,
    ) -> Result<WebhookView, ServiceError> {
        let WebhookFields { url, events: names, batch_jobs, description, enabled } = fields;
        let url = url.ok_or_else(|| invalid("url: say where events are to go"))?;
        self.check_receiver("url", &url)?;
        let new = NewEndpoint {
            url,
            events: names.as_deref().map_or(Ok(Vec::new()), events)?,
            batch_jobs: batch_jobs.unwrap_or_default(),
            description: description.unwrap_or_default(),
        };
        let (mut endpoint, secret) = self.inner.webhooks.create(tenant, &new).await?;
        if enabled == Some(false) {
            let change = EndpointChange { enabled, ..EndpointChange::default() };
            endpoint = self.inner.webhooks.change(tenant, &endpoint.id, &change).await?;
        }
        Ok(WebhookView { secret: Some(secret.reveal()), ..endpoint.into() })
    }

    /// Changes what is given of an endpoint.
    pub async fn change_webhook(
        &self,
        tenant: &TenantId,
        id: &str,
        fields: WebhookFields,
    ) -> Result<WebhookView, ServiceError> {
        let id = own_endpoint(tenant, id)?;
        let WebhookFields { url, events: names, batch_jobs, description, enabled } = fields;
        url.as_deref().map_or(Ok(()), |url| self.check_receiver("url", url))?;
        let events = names.as_deref().map(events).transpose()?;
        let change = EndpointChange { url, events, batch_jobs, description, enabled };
        Ok(self.inner.webhooks.change(tenant, &id, &change).await?.into())
    }

    /// A tenant's endpoints.
    pub async fn webhooks(&self, tenant: &TenantId) -> Result<Vec<WebhookView>, ServiceError> {
        Ok(self.inner.webhooks.endpoints(tenant).await?.into_iter().map(WebhookView::from).collect())
    }

    /// One of them.
    pub async fn webhook(&self, tenant: &TenantId, id: &str) -> Result<WebhookView, ServiceError> {
        Ok(self.inner.webhooks.endpoint(tenant, &endpoint_id(tenant, id)?).await?.into())
    }

    /// Forgets an endpoint.
    pub async fn delete_webhook(&self, tenant: &TenantId, id: &str) -> Result<(), ServiceError> {
        Ok(self.inner.webhooks.delete(tenant, &own_endpoint(tenant, id)?).await?)
    }

    /// What messages to an endpoint are signed with.
    pub async fn webhook_secret(&self, tenant: &TenantId, id: &str) -> Result<SecretView, ServiceError> {
        let (secret, old) = self.inner.webhooks.secrets(tenant, &endpoint_id(tenant, id)?).await?;
        let previous = old
            .into_iter()
            .map(|(secret, until)| PreviousSecret { secret: secret.reveal(), valid_until: time(until) })
            .collect();
        Ok(SecretView { secret: secret.reveal(), previous })
    }

    /// Gives an endpoint another secret; for 24 hours messages are signed with the old one too.
    pub async fn rotate_webhook(&self, tenant: &TenantId, id: &str) -> Result<SecretView, ServiceError> {
        self.inner.webhooks.rotate(tenant, &endpoint_id(tenant, id)?, OVERLAP).await?;
        self.webhook_secret(tenant, id).await
    }

    /// Sends an endpoint the event `webhook.test`, and waits for what comes of it.
    pub async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: &str,
        wait: Duration,
    ) -> Result<DeliveryView, ServiceError> {
        let id = own_endpoint(tenant, id)?;
        self.check_enabled(tenant, &id).await?;
        let delivery = self.inner.webhooks.test(tenant, &id).await?;
        let end = tokio::time::Instant::now() + wait;
        loop {
            let found = self.inner.webhooks.delivery(tenant, &id, &delivery).await?;
            if found.state != DeliveryState::Pending || tokio::time::Instant::now() >= end {
                return Ok(found.into());
            }
            tokio::time::sleep(TEST_LOOK).await;
        }
    }

    /// A page of an endpoint's deliveries, newest first.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        id: &str,
        state: Option<&str>,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<DeliveriesView, ServiceError> {
        let state = state.map(|name| match name {
            "pending" => Ok(DeliveryState::Pending),
            "delivered" => Ok(DeliveryState::Delivered),
            "failed" => Ok(DeliveryState::Failed),
            _ => Err(invalid("state: must be pending, delivered or failed")),
        });
        let first = cursor.map_or(Ok(0), str::parse::<u32>);
        let first = first.map_err(|_| invalid("cursor: take it from `next_cursor`"))? as usize;
        let id = endpoint_id(tenant, id)?;
        let page = self.inner.webhooks.deliveries(tenant, &id, state.transpose()?, first, most).await?;
        Ok(DeliveriesView {
            deliveries: page.deliveries.into_iter().map(DeliveryView::from).collect(),
            next_cursor: page.next.map(|next| next.to_string()),
        })
    }

    /// One of them.
    pub async fn delivery(
        &self,
        tenant: &TenantId,
        id: &str,
        delivery: &str,
    ) -> Result<DeliveryView, ServiceError> {
        let (id, delivery) = (endpoint_id(tenant, id)?, delivery_id(delivery)?);
        Ok(self.inner.webhooks.delivery(tenant, &id, &delivery).await?.into())
    }

    /// Sends deliveries again; answers how many.
    pub async fn resend(
        &self,
        tenant: &TenantId,
        id: &str,
        which: &ResendRequest,
    ) -> Result<u64, ServiceError> {
        let id = endpoint_id(tenant, id)?;
        let which = match which {
            ResendRequest { delivery: Some(delivery), since: None, until: None, failed: None } => {
                Resend::One(delivery_id(delivery)?)
            }
            ResendRequest { delivery: Some(_), .. } => {
                return Err(invalid("delivery: goes alone, without since, until and failed"));
            }
            ResendRequest { since: None, until: None, failed: None | Some(false), .. } => {
                return Err(invalid("give delivery, or since and until, or failed: true"));
            }
            ResendRequest { since, until, failed, .. } => {
                let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
                let until = until.unwrap_or_else(Timestamp::now);
                if since > until {
                    return Err(invalid("since: must not be after until"));
                }
                Resend::Range {
                    since_ms: since.as_millisecond(),
                    until_ms: until.as_millisecond(),
                    failed_only: failed.unwrap_or_default(),
                }
            }
        };
        if !id.is_of_jobs() {
            self.check_enabled(tenant, &id).await?;
        }
        // So that what was never used has nothing to send, rather than not to exist.
        self.inner.webhooks.endpoint(tenant, &id).await?;
        Ok(self.inner.webhooks.resend(tenant, &id, &which).await?)
    }

    async fn check_enabled(&self, tenant: &TenantId, id: &EndpointId) -> Result<(), ServiceError> {
        if self.inner.webhooks.endpoint(tenant, id).await?.enabled {
            return Ok(());
        }
        let message = "the webhook is disabled, so nothing is sent to it; enable it first";
        Err(ServiceError::new(Code::WebhookDisabled, message))
    }
}
