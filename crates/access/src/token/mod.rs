//! Tokens (JWT) of an external issuer: who shows one is who the issuer says, with the tenant and the scopes that the token names.
//!
//! The issuer's public keys are fetched over HTTPS and kept: for [`FRESH`] without asking again, and for [`OLDEST`] while the issuer does
//! not answer. A token that names a key which is not known makes them be fetched anew, at most every [`SOONEST`], so a rotation is
//! noticed at once and nobody can make this server hammer the issuer. Only asymmetric signatures are taken: what verifies a token
//! cannot make one.

mod crypto;
mod keys;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header, errors::ErrorKind, jwk::Jwk,
};
use serde_json::{Map, Value};

use crate::{caller::Caller, error::Denied, scope::Scopes, tenant::parse_tenant};
pub use keys::IssuerError;
use keys::IssuerKeys;

/// How long the issuer's keys are taken for current.
const FRESH: Duration = Duration::from_mins(10);
/// How long they are used while no others can be had.
const OLDEST: Duration = Duration::from_hours(24);
/// How soon they are fetched again for the sake of a key that is not among them.
const SOONEST: Duration = Duration::from_secs(10);
/// How far clocks may differ, in seconds.
const LEEWAY_S: u64 = 30;
/// The longest token, in bytes.
const LONGEST: usize = 16 << 10;
/// The longest `sub` that names a caller as it is.
const LONGEST_SUBJECT: usize = 128;

/// What is signed with a private key and verified with a public one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Whose tokens are taken, and for what.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The claim `iss`, and where the issuer's metadata is found.
    pub issuer: String,
    /// What the claim `aud` must name one of.
    pub audiences: Vec<String>,
    /// Where the keys are; by default the issuer's metadata say.
    pub jwks_url: Option<String>,
    /// The claim that names the tenant.
    pub tenant_claim: String,
}

/// What is wrong with a token. None repeats it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not three parts of base64 with a header that is known.
    #[error("this token is not a JWT that is taken here: ES256, ES384, EdDSA, RS256 and PS256 (to 512) are")]
    Malformed,
    /// Another kind of token.
    #[error("this is another kind of token; an access token (typ at+jwt or JWT) is wanted")]
    Kind,
    /// The issuer has no such key.
    #[error("this token is signed with a key that its issuer does not have (any more)")]
    UnknownKey,
    /// Changed, or made up.
    #[error("this token's signature does not fit")]
    Signature,
    /// Its time is over.
    #[error("this token has expired; get another from its issuer")]
    Expired,
    /// Its time has not come.
    #[error("this token is not valid yet")]
    NotYet,
    /// Another's.
    #[error("this token is of another issuer")]
    Issuer,
    /// For another service.
    #[error("this token is for another audience")]
    Audience,
    /// Good for calls, not for a browser.
    #[error("the console is entered with an API key, not with a token")]
    NoSession,
    /// It does not say what is needed.
    #[error("this token has no claim {0:?} that can be read")]
    Claim(String),
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: TokenSettings,
    keys: IssuerKeys,
}

impl Tokens {
    /// Tokens of this issuer. Nothing is fetched before the first is shown. An error says which setting does not fit.
    pub fn new(settings: TokenSettings) -> Result<Self, String> {
        crypto::choose();
        if settings.audiences.is_empty() {
            return Err("name the audience that tokens must be for".into());
        }
        let keys = IssuerKeys::new(&settings.issuer, settings.jwks_url.as_deref())?;
        Ok(Self { inner: Arc::new(Inner { settings, keys }) })
    }

    /// Whether a text has the form of a token: three parts between dots, as no key has.
    pub fn is_token(shown: &str) -> bool {
        shown.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who shows this token.
    pub async fn caller(&self, token: &str) -> Result<Caller, Denied> {
        let Inner { settings, keys } = &*self.inner;
        let header =
            Some(token).filter(|token| token.len() <= LONGEST).and_then(|token| decode_header(token).ok());
        let header = header.filter(|header| ALGORITHMS.contains(&header.alg)).ok_or(TokenFault::Malformed)?;
        if !is_access_token(&header) {
            return Err(TokenFault::Kind.into());
        }
        let jwk = keys.find(|jwk| fits(jwk, &header)).await?.ok_or(TokenFault::UnknownKey)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| TokenFault::UnknownKey)?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_audience(&settings.audiences);
        validation.set_issuer(&[&settings.issuer]);
        validation.required_spec_claims = HashSet::from(["exp", "iss", "aud"].map(str::to_owned));
        let claims =
            decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| fault(&error))?.claims;
        caller(&claims, &settings.tenant_claim).map_err(Denied::from)
    }
}

/// An ID token is `JWT` too, but for another audience.
fn is_access_token(header: &Header) -> bool {
    let kinds = ["JWT", "at+jwt", "application/at+jwt"];
    header.typ.as_ref().is_none_or(|typ| kinds.iter().any(|kind| typ.eq_ignore_ascii_case(kind)))
}

/// Whether a key may have signed what has this header.
fn fits(jwk: &Jwk, header: &Header) -> bool {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, PublicKeyUse};

    let common = &jwk.common;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let named = header.kid.is_none() || header.kid == common.key_id;
    let declared =
        common.key_algorithm.is_none_or(|algorithm| algorithm.to_string() == format!("{:?}", header.alg));
    let family = match (&jwk.algorithm, header.alg) {
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => true,
        _ => false,
    };
    for_signatures && named && declared && family
}

fn fault(error: &jsonwebtoken::errors::Error) -> TokenFault {
    match error.kind() {
        ErrorKind::ExpiredSignature => TokenFault::Expired,
        ErrorKind::ImmatureSignature => TokenFault::NotYet,
        ErrorKind::InvalidIssuer => TokenFault::Issuer,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(claim) => TokenFault::Claim(claim.clone()),
        ErrorKind::InvalidSignature => TokenFault::Signature,
        _ => TokenFault::Malformed,
    }
}

/// Who the claims of a verified token speak of. Scopes that are not ours are another service's business.
fn caller(claims: &Map<String, Value>, tenant_claim: &str) -> Result<Caller, TokenFault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let missing = |name: &str| TokenFault::Claim(name.to_owned());
    let tenant = text(tenant_claim).and_then(|tenant| parse_tenant(tenant).ok());
    let tenant = tenant.ok_or_else(|| missing(tenant_claim))?;
    let subject = text("sub").filter(|subject| !subject.is_empty()).ok_or_else(|| missing("sub"))?;
    // RFC 9068 has one text; some issuers have a list, or the name `scp`.
    let words =
        ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)).flat_map(|value| match value {
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
            other => vec![other.as_str().unwrap_or_default()],
        });
    let scopes: Scopes = words.flat_map(str::split_whitespace).filter_map(|word| word.parse().ok()).collect();
    Ok(Caller { tenant, scopes, key: name_of(subject).into(), rate: None, with_key: true })
}

/// How logs and limits call a subject: as it is, if that fits into them.
fn name_of(subject: &str) -> String {
    let fits = subject.len() <= LONGEST_SUBJECT
        && subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:|@".contains(&byte));
    if fits {
        return format!("token:{subject}");
    }
    format!("token:#{}", &blake3::hash(subject.as_bytes()).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::scope::Scope;

    fn claimed(claims: &Value) -> Result<Caller, TokenFault> {
        caller(claims.as_object().unwrap(), "tenant")
    }

    #[test]
    fn claims_say_tenant_and_scopes() {
        for scopes in [
            json!({"scope": "openid jobs:read  jobs:write"}),
            json!({"scp": ["jobs:read", "jobs:write"]}),
            json!({"scope": "jobs:read", "scp": "jobs:write jobs:unknown"}),
        ] {
            let mut claims = json!({"sub": "agent|7", "tenant": "acme"});
            claims.as_object_mut().unwrap().extend(scopes.as_object().unwrap().clone());
            let caller = claimed(&claims).unwrap();
            assert_eq!((caller.tenant.as_str(), &*caller.key), ("acme", "token:agent|7"));
            assert_eq!(caller.scopes.iter().collect::<Vec<_>>(), [Scope::JobsRead, Scope::JobsWrite]);
        }
        let nothing = claimed(&json!({"sub": "a", "tenant": "acme", "scope": 5})).unwrap();
        assert!(nothing.scopes.is_empty());
        let strange = claimed(&json!({"sub": "a{b}\n", "tenant": "acme"})).unwrap();
        assert!(strange.key.starts_with("token:#") && strange.key.len() == 39, "{}", strange.key);
    }

    #[test]
    fn claims_that_name_nobody_are_refused() {
        for (claims, missing) in [
            (json!({"sub": "a"}), "tenant"),
            (json!({"sub": "a", "tenant": ""}), "tenant"),
            (json!({"sub": "a", "tenant": "a:b"}), "tenant"),
            (json!({"sub": "a", "tenant": ["acme"]}), "tenant"),
            (json!({"tenant": "acme"}), "sub"),
            (json!({"sub": "", "tenant": "acme"}), "sub"),
        ] {
            assert_eq!(claimed(&claims).err(), Some(TokenFault::Claim(missing.into())), "{claims}");
        }
    }
}
