//! `/v1/webhooks`: endpoints that are told of the ends of jobs.

use std::time::Duration;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Api, Problem,
    answers::{Created, NoContent, Started},
    guard::Tenant,
    listing::page_limit,
    problem::{Body, InPath, InQuery},
};
use crate::service::{DeliveriesView, DeliveryView, ResendRequest, SecretView, WebhookFields, WebhookView};

/// How long a test is waited for: an attempt may take 15 s.
const TEST_WAIT: Duration = Duration::from_secs(20);

/// A tenant's endpoints.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Webhooks {
    /// All of them.
    webhooks: Vec<WebhookView>,
}

/// How much is sent again.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Resent {
    /// Deliveries that are sent again.
    resent: u64,
}

pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Webhooks>, Problem> {
    Ok(Json(Webhooks { webhooks: api.service.webhooks(&tenant).await? }))
}

pub(super) async fn create(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Body(fields): Body<WebhookFields>,
) -> Result<Created<WebhookView>, Problem> {
    let made = api.service.create_webhook(&tenant, fields).await?;
    Ok(Created { location: format!("/v1/webhooks/{}", made.id), made })
}

pub(super) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.service.webhook(&tenant, &id).await?))
}

pub(super) async fn change(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    Body(fields): Body<WebhookFields>,
) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.service.change_webhook(&tenant, &id, fields).await?))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<NoContent, Problem> {
    api.service.delete_webhook(&tenant, &id).await?;
    Ok(NoContent)
}

pub(super) async fn secret(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<SecretView>, Problem> {
    Ok(Json(api.service.webhook_secret(&tenant, &id).await?))
}

pub(super) async fn rotate(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<SecretView>, Problem> {
    Ok(Json(api.service.rotate_webhook(&tenant, &id).await?))
}

pub(super) async fn test(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
) -> Result<Json<DeliveryView>, Problem> {
    let wait = TEST_WAIT.min(api.longest_wait);
    Ok(Json(api.service.test_webhook(&tenant, &id, wait).await?))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only those that stand there
    #[schemars(with = "Option<jobs::webhooks::DeliveryState>")]
    state: Option<String>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
    /// How many deliveries; default 20
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

pub(super) async fn deliveries(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    InQuery(Page { state, cursor, limit }): InQuery<Page>,
) -> Result<Json<DeliveriesView>, Problem> {
    let limit = page_limit(limit, 20)?;
    Ok(Json(api.service.deliveries(&tenant, &id, state.as_deref(), cursor.as_deref(), limit).await?))
}

pub(super) async fn delivery(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath((id, delivery)): InPath<(String, String)>,
) -> Result<Json<DeliveryView>, Problem> {
    Ok(Json(api.service.delivery(&tenant, &id, &delivery).await?))
}

pub(super) async fn resend(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    InPath(id): InPath<String>,
    Body(which): Body<ResendRequest>,
) -> Result<Started<Resent>, Problem> {
    Ok(Started(Resent { resent: api.service.resend(&tenant, &id, &which).await? }))
}
