//! `/v1/webhooks`: endpoints that are told of the ends of jobs.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Problem,
    guard::Tenant,
    listing::page_limit,
    problem::{Body, InPath, InQuery},
};
use crate::service::{DeliveriesView, DeliveryView, ResendRequest, SecretView, WebhookFields, WebhookView};

/// How long a test is waited for: an attempt may take 15 s.
const TEST_WAIT: Duration = Duration::from_secs(20);

pub(super) async fn list(State(api): State<Api>, Tenant(tenant): Tenant) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "webhooks": api.service.webhooks(&tenant).await? })))
}

pub(super) async fn create(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Body(fields): Body<WebhookFields>,
) -> Result<Response, Problem> {
    let created = api.service.create_webhook(&tenant, fields).await?;
    let location = format!("/v1/webhooks/{}", created.id);
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
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
) -> Result<StatusCode, Problem> {
    api.service.delete_webhook(&tenant, &id).await?;
    Ok(StatusCode::NO_CONTENT)
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    state: Option<String>,
    cursor: Option<String>,
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
) -> Result<(StatusCode, Json<Value>), Problem> {
    let sent = api.service.resend(&tenant, &id, &which).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "resent": sent }))))
}
