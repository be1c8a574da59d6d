//! Tokens of an external issuer: one that this test plays.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::deployment::{Client, key};
use crate::harness::{Deployment, LIMIT, month};

const AUDIENCE: &str = "https://jobs.example.com/mcp";
const METADATA: &str = "https://jobs.example.com/.well-known/oauth-protected-resource/mcp";

/// A private key with its name.
struct Signer {
    kid: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self { kid, pair: EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap() }
    }

    fn public(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| BASE64_URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with these claims.
    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": self.kid}), claims)
    }
}

/// What the issuer publishes now.
#[derive(Clone)]
struct Issuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    serving: Arc<tokio::task::JoinHandle<()>>,
}

impl Issuer {
    async fn start(signer: &Signer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(json!({"keys": [signer.public()]})));
        let metadata = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let published = async |State(keys): State<Arc<Mutex<Value>>>| Json(keys.lock().unwrap().clone());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(metadata)))
            .route("/keys", get(published))
            .with_state(keys.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, keys, serving: Arc::new(serving) }
    }

    /// Claims of a token that is good for an hour.
    fn claims(&self, tenant: &str, scope: &str) -> Value {
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "agent-7", "exp": now() + 3600, "iat": now(),
            "tenant": tenant, "scope": scope,
        })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn with(mut claims: Value, changes: &Value) -> Value {
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn deployment(issuer: &Issuer) -> Deployment {
    Deployment::start(&["--token-issuer", &issuer.url, "--token-audience", AUDIENCE])
}

#[tokio::test]
async fn a_token_is_worth_what_it_says() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&signer).await;
    let deployment = deployment(&issuer);
    let client = |shown: &str| Client::new(&deployment, shown);
    let whoever = client("").get("/v1/jobs").await;
    assert_eq!((whoever.status, whoever.code()), (401, "unauthenticated"));
    let told = format!("resource_metadata=\"{METADATA}\"");
    assert!(whoever.header("www-authenticate").contains(&told), "{}", whoever.header("www-authenticate"));
    assert!(client("").mcp("tools/list", &json!({})).await.header("www-authenticate").contains(&told));
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let metadata = client("").get(path).await;
        assert_eq!((metadata.status, &metadata.body["resource"]), (200, &json!(AUDIENCE)), "{path}");
        assert_eq!(metadata.body["authorization_servers"], json!([issuer.url]));
        assert!(metadata.body["scopes_supported"].as_array().unwrap().contains(&json!("jobs:write")));
    }

    let a = client(&signer.token(&issuer.claims("a", "openid jobs:read jobs:write")));
    let b = client(&signer.token(&issuer.claims("b", "jobs:read")));
    let job = a.post("/v1/jobs?wait=60", &json!({"kind": "backtest", "spec": month("SmaCross")})).await;
    assert_eq!(job.status, 200, "{}", job.body);
    let path = format!("/v1/jobs/{}", job.body["job_id"].as_str().unwrap());
    assert_eq!(a.get(&path).await.status, 200);
    assert_eq!(b.get(&path).await.status, 404);
    let refused = b.post("/v1/jobs", &json!({"kind": "backtest", "spec": month("SmaCross")})).await;
    assert_eq!((refused.status, refused.code()), (403, "missing_scope"));
    assert!(refused.header("www-authenticate").contains("scope=\"jobs:write\""));
    assert!(refused.header("www-authenticate").contains(&told));
    assert!(b.tools().await.contains(&"job_get".to_owned()));
    assert!(!b.tools().await.contains(&"backtest".to_owned()));
    // Keys go on to be taken, and what was done is known by the subject.
    let admin = client(&key(deployment.data.path(), "default", "admin"));
    let audit = admin.get("/v1/audit").await.body;
    let entry = audit["entries"].as_array().unwrap().iter().find(|entry| entry["key"] == "token:agent-7");
    assert_eq!(entry.unwrap()["tenant"], "a", "{audit}");
}

#[tokio::test]
async fn a_token_that_is_wrong_in_any_way_is_refused() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&signer).await;
    let deployment = deployment(&issuer);
    let good = issuer.claims("a", "jobs:read");
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"});
    let none =
        [json!({"alg": "none"}), good.clone()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let forged = Signer::new("one").token(&good);
    let token = signer.token(&good);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = BASE64_URL_SAFE_NO_PAD.encode(issuer.claims("b", "admin").to_string());
    let swapped = format!("{}.{other}.{signature}", message.split_once('.').unwrap().0);
    for (what, token, told) in [
        ("expired", signer.token(&with(good.clone(), &json!({"exp": now() - 60}))), "expired"),
        ("no end", signer.token(&with(good.clone(), &json!({"exp": null}))), "\"exp\""),
        ("not yet", signer.token(&with(good.clone(), &json!({"nbf": now() + 600}))), "not valid yet"),
        (
            "issuer",
            signer.token(&with(good.clone(), &json!({"iss": "https://evil.example"}))),
            "another issuer",
        ),
        ("no issuer", signer.token(&with(good.clone(), &json!({"iss": null}))), "\"iss\""),
        (
            "audience",
            signer.token(&with(good.clone(), &json!({"aud": "https://other.example"}))),
            "another audience",
        ),
        ("no audience", signer.token(&with(good.clone(), &json!({"aud": null}))), "\"aud\""),
        ("no tenant", signer.token(&with(good.clone(), &json!({"tenant": null}))), "\"tenant\""),
        ("tenant", signer.token(&with(good.clone(), &json!({"tenant": "a:b"}))), "\"tenant\""),
        ("no subject", signer.token(&with(good.clone(), &json!({"sub": null}))), "\"sub\""),
        ("forged", forged, "signature"),
        ("swapped", swapped, "signature"),
        ("none", format!("{}.", none.join(".")), "not a JWT"),
        ("shared secret", signer.sign(&with(header.clone(), &json!({"alg": "HS256"})), &good), "not a JWT"),
        (
            "another algorithm",
            signer.sign(&with(header.clone(), &json!({"alg": "RS256"})), &good),
            "does not have",
        ),
        ("another key", signer.sign(&with(header.clone(), &json!({"kid": "two"})), &good), "does not have"),
        ("kind", signer.sign(&with(header.clone(), &json!({"typ": "logout+jwt"})), &good), "another kind"),
        ("nonsense", "a.b.c".into(), "not a JWT"),
        ("empty", "..".into(), "not a JWT"),
    ] {
        let answer = Client::new(&deployment, &token).get("/v1/jobs").await;
        assert_eq!((answer.status, answer.code()), (401, "invalid_key"), "{what}: {}", answer.body);
        assert!(answer.body["detail"].as_str().unwrap().contains(told), "{what}: {}", answer.body);
        assert!(!answer.body.to_string().contains(&token) || token.len() < 6, "{what}");
    }
    assert_eq!(Client::new(&deployment, &token).get("/v1/jobs").await.status, 200);
}

#[tokio::test]
async fn keys_are_rotated_and_outlast_an_issuer_that_is_away() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let issuer = Issuer::start(&old).await;
    let deployment = deployment(&issuer);
    let client = |signer: &Signer| Client::new(&deployment, &signer.token(&issuer.claims("a", "jobs:read")));
    assert_eq!(client(&old).get("/v1/jobs").await.status, 200);
    assert_eq!(client(&new).get("/v1/jobs").await.status, 401);
    *issuer.keys.lock().unwrap() = json!({"keys": [new.public()]});
    let end = Instant::now() + LIMIT;
    while client(&new).get("/v1/jobs").await.status != 200 {
        assert!(Instant::now() < end, "a new key is never noticed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(client(&old).get("/v1/jobs").await.status, 401);
    issuer.serving.abort();
    assert_eq!(client(&new).get("/v1/jobs").await.status, 200);
}

#[tokio::test]
async fn nobody_is_let_in_while_the_issuer_has_never_answered() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&signer).await;
    issuer.serving.abort();
    let deployment = deployment(&issuer);
    let client = Client::new(&deployment, &signer.token(&issuer.claims("a", "jobs:read")));
    for _ in 0..2 {
        let answer = client.get("/v1/jobs").await;
        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.body);
    }
    let known = Client::new(&deployment, &key(deployment.data.path(), "a", "jobs:read"));
    assert_eq!(known.get("/v1/jobs").await.status, 200);
}
