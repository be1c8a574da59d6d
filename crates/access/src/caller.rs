//! Who makes a call.

use std::sync::Arc;

use jobs::TenantId;

use crate::{
    rate::Rate,
    scope::{Scope, Scopes},
};

/// Who makes a call, as far as the key tells.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose jobs it sees.
    pub tenant: TenantId,
    /// What it may do.
    pub scopes: Scopes,
    /// The id of its key; `admin-key-file` or `local` for those that have none. Logs and limits go by it.
    pub key: Arc<str>,
    /// How often it may call, if its key says so.
    pub rate: Option<Rate>,
    /// Whether it had to show a key.
    pub with_key: bool,
}

impl Caller {
    /// A program on this machine, while the deployment has no keys: it may do everything, as the default tenant.
    pub fn local() -> Self {
        Self::of_operator("local", false)
    }

    /// Whoever has the operator's own key.
    pub(crate) fn admin() -> Self {
        Self::of_operator("admin-key-file", true)
    }

    fn of_operator(key: &str, with_key: bool) -> Self {
        let (tenant, scopes) = (TenantId::default_tenant(), Scopes::all());
        Self { tenant, scopes, key: key.into(), rate: None, with_key }
    }

    /// Whether it may do this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.allow(scope)
    }
}
