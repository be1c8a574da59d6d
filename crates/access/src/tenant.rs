//! The names of tenants. They stand in the names of Redis keys, so not every text will do.

use jobs::TenantId;

const LONGEST: usize = 64;

/// A text that cannot name a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a tenant: expected 1 to {LONGEST} letters, digits, -, _ and .")]
pub struct InvalidTenant(String);

/// Reads the name of a tenant.
pub fn parse_tenant(text: &str) -> Result<TenantId, InvalidTenant> {
    let fits = (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits { Ok(TenantId::new(text)) } else { Err(InvalidTenant(text.chars().take(LONGEST).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_a_name_that_fits_into_a_redis_key() {
        for fine in ["default", "a", "team-7_b.c"] {
            assert_eq!(parse_tenant(fine), Ok(TenantId::new(fine)));
        }
        for wrong in ["", "a:b", "a b", "{a}", "é", &"x".repeat(65)] {
            assert!(parse_tenant(wrong).is_err(), "{wrong}");
        }
    }
}
