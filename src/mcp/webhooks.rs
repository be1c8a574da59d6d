//! The tool `webhooks`: one for all that can be done with them, since agents seldom need it and every tool is paid for.

use std::time::Duration;

use jobs::TenantId;
use rmcp::model::CallToolResult;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{arguments, structured};
use crate::{
    errors::{Code, ServiceError},
    service::Service,
};

pub(super) const NAME: &str = "webhooks";
pub(super) const DESCRIPTION: &str = "URLs that are told of the ends of jobs, signed as Standard Webhooks. create: url, events (default all); answers id and secret. \
    deliveries: state (pending, delivered, failed). resend: delivery, or since and until, or failed. Id jobs: the URLs that jobs name.";

/// Pages are short: an agent pays for every delivery.
const DELIVERIES: usize = 10;
const TEST_WAIT: Duration = Duration::from_secs(20);

/// What to do.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Action {
    Create,
    Update,
    List,
    Delete,
    Secret,
    Rotate,
    Test,
    Deliveries,
    Resend,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    action: Action,
    /// From create or list
    #[serde(default)]
    #[schemars(with = "String")]
    id: Option<String>,
}

/// Which of the deliveries.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// pending, delivered or failed
    #[serde(default)]
    #[schemars(with = "String")]
    state: Option<String>,
    /// next_cursor of the page before
    #[serde(default)]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

/// What it answers depends on the action.
#[derive(Serialize, JsonSchema)]
pub(super) struct Answer {
    #[serde(flatten)]
    answer: Map<String, Value>,
}

pub(super) async fn call(
    service: &Service,
    tenant: &TenantId,
    arguments: Value,
) -> Result<CallToolResult, ServiceError> {
    let Value::Object(mut given) = arguments else {
        return Err(ServiceError::new(Code::InvalidRequest, "the arguments must be an object"));
    };
    let head: Map<_, _> = ["action", "id"].into_iter().filter_map(|name| given.remove_entry(name)).collect();
    let Which { action, id } = arguments::parse(head.into())?;
    let given = Value::Object(given);
    let id = || {
        let missing =
            || ServiceError::new(Code::InvalidRequest, "id: say which webhook; list tells their ids");
        id.as_deref().ok_or_else(missing)
    };
    match action {
        Action::Create => structured(&service.create_webhook(tenant, arguments::parse(given)?).await?),
        Action::Update => structured(&service.change_webhook(tenant, id()?, arguments::parse(given)?).await?),
        Action::Deliveries => {
            let Page { state, cursor } = arguments::parse(given)?;
            let page = service.deliveries(tenant, id()?, state.as_deref(), cursor.as_deref(), DELIVERIES);
            structured(&page.await?)
        }
        Action::Resend => {
            let resent = service.resend(tenant, id()?, &arguments::parse(given)?).await?;
            structured(&json!({ "resent": resent }))
        }
        Action::List | Action::Delete | Action::Secret | Action::Rotate | Action::Test => {
            let arguments::Nothing {} = arguments::parse(given)?;
            match action {
                Action::Delete => {
                    service.delete_webhook(tenant, id()?).await?;
                    structured(&json!({ "deleted": true }))
                }
                Action::Secret => structured(&service.webhook_secret(tenant, id()?).await?),
                Action::Rotate => structured(&service.rotate_webhook(tenant, id()?).await?),
                Action::Test => structured(&service.test_webhook(tenant, id()?, TEST_WAIT).await?),
                _ => structured(&json!({ "webhooks": service.webhooks(tenant).await? })),
            }
        }
    }
}
