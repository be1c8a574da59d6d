//! Keys, limits and the audit log on a real Redis.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use access::{
    AccessError, AdminKey, ApiKey, Audit, AuditEntry, Caller, Denied, FRESH, Gate, KeyStore, KeyTerms, Rate,
    RateLimiter, Scope, Scopes,
};
use jobs::{Redis, TenantId, private_redis::PrivateRedis};

struct Bench {
    server: PrivateRedis,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = PrivateRedis::start(&folder.path().join("redis")).await.unwrap();
        Self { server, _folder: folder }
    }

    fn redis(&self) -> Redis {
        Redis::open(self.server.url(), "test", 2).unwrap()
    }

    fn keys(&self) -> KeyStore {
        KeyStore::new(self.redis())
    }

    /// A gate that has heard nothing yet.
    fn gate(&self) -> Gate {
        Gate::new(self.redis(), None, false)
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

fn terms(tenant: &str) -> KeyTerms {
    let scopes: Scopes = [Scope::JobsRead].into_iter().collect();
    let rate = Rate::new(60, 10);
    KeyTerms { label: "test".into(), tenant: TenantId::new(tenant), scopes, rate, created_ms: now_ms() }
}

#[tokio::test]
async fn a_key_tells_who_calls_until_it_is_revoked_and_leaves_the_doors_closed() {
    let bench = Bench::new().await;
    let keys = bench.keys();
    // Without any key whoever reaches the server is the default tenant.
    assert!(!bench.gate().caller(None).await.unwrap().with_key);
    let key = keys.create(&terms("acme"), None).await.unwrap();
    let caller = bench.gate().caller(Some(key.reveal())).await.unwrap();
    assert_eq!((caller.tenant.as_str(), caller.rate), ("acme", Rate::new(60, 10)));
    assert!(caller.may(Scope::JobsRead) && !caller.may(Scope::JobsWrite));
    assert!(matches!(bench.gate().caller(None).await, Err(Denied::NoKey)));
    let listed = keys.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].id.as_str()), (1, key.id().as_str()));
    assert!(listed[0].used_ms.is_some_and(|used| now_ms() - used < 60_000), "{listed:?}");
    let shown = format!("{listed:?} {}", serde_json::to_string(&listed).unwrap());
    assert!(!shown.contains(key.reveal()) && !shown.contains(&key.hash().to_hex()));

    keys.revoke(&key.id()).await.unwrap();
    assert!(matches!(bench.gate().caller(Some(key.reveal())).await, Err(Denied::Unknown)));
    assert!(matches!(keys.revoke(&key.id()).await, Err(AccessError::NotFound(_))));
    // The last key is gone, and nobody is let in for that.
    assert!(matches!(bench.gate().caller(None).await, Err(Denied::NoKey)));
}

#[tokio::test]
async fn an_instance_that_knows_the_key_notices_its_revocation() {
    let bench = Bench::new().await;
    let (keys, gate) = (bench.keys(), bench.gate());
    let key = keys.create(&terms("acme"), None).await.unwrap();
    gate.caller(Some(key.reveal())).await.unwrap();
    keys.revoke(&key.id()).await.unwrap();
    let revoked = Instant::now();
    while gate.caller(Some(key.reveal())).await.is_ok() {
        assert!(revoked.elapsed() < 12 * FRESH, "it is still let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn forged_mistyped_expired_and_foreign_keys_are_refused() {
    let bench = Bench::new().await;
    let keys = bench.keys();
    let key = keys.create(&terms("acme"), None).await.unwrap();
    let gate = bench.gate();
    // The id is right and the secret is another's: a forger can work out the checksum as well as we can.
    let other = ApiKey::generate().unwrap();
    let mut forged = format!("jj_{}{}", key.id(), &other.reveal()[15..47]);
    forged.push_str(&base62(crc32fast::hash(forged.as_bytes())));
    assert!(forged.parse::<ApiKey>().is_ok(), "{forged}");
    for (wrong, expected) in [
        (forged.as_str(), "not known here"),
        (other.reveal(), "not known here"),
        (&key.reveal()[..52], "expected jj_"),
        ("", "expected jj_"),
        (&"x".repeat(10_000), "expected jj_"),
    ] {
        let denied = gate.caller(Some(wrong)).await.unwrap_err().to_string();
        assert!(denied.contains(expected) && denied.len() < 200, "{denied}");
    }
    // Those attempts left the right key as it was: unused, and good.
    assert_eq!(keys.list().await.unwrap()[0].used_ms, None);
    gate.caller(Some(key.reveal())).await.unwrap();

    let over = keys.create(&terms("acme"), Some(now_ms() - 1)).await.unwrap();
    assert!(matches!(gate.caller(Some(over.reveal())).await, Err(Denied::Expired)));
    // What an expired key was is still listed.
    assert_eq!(keys.list().await.unwrap().len(), 2);
    // A key of one deployment is none of another on the same Redis.
    let elsewhere = Gate::new(Redis::open(bench.server.url(), "other", 1).unwrap(), None, true);
    assert!(matches!(elsewhere.caller(Some(key.reveal())).await, Err(Denied::Unknown)));
}

fn base62(mut rest: u32) -> String {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = digits[(rest % 62) as usize];
        rest /= 62;
    }
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test]
async fn rotation_gives_a_key_for_the_same_terms_and_lets_the_old_one_end() {
    let bench = Bench::new().await;
    let keys = bench.keys();
    let old = keys.create(&terms("acme"), None).await.unwrap();
    let (new, rotated) = keys.rotate(&old.id(), None, now_ms() + 60_000).await.unwrap();
    assert_eq!((rotated.tenant.as_str(), rotated.scopes), ("acme", terms("acme").scopes));
    for key in [&old, &new] {
        assert_eq!(bench.gate().caller(Some(key.reveal())).await.unwrap().tenant.as_str(), "acme");
    }
    // At once, this time.
    let (newer, _) = keys.rotate(&new.id(), None, now_ms()).await.unwrap();
    assert!(matches!(bench.gate().caller(Some(new.reveal())).await, Err(Denied::Expired)));
    assert!(bench.gate().caller(Some(newer.reveal())).await.is_ok());
    // An expired key gets no new life by being rotated.
    keys.rotate(&new.id(), None, now_ms() + 60_000).await.unwrap();
    assert!(matches!(bench.gate().caller(Some(new.reveal())).await, Err(Denied::Expired)));
    let nobodys = ApiKey::generate().unwrap().id();
    assert!(matches!(keys.rotate(&nobodys, None, 0).await, Err(AccessError::NotFound(_))));
}

#[tokio::test]
async fn without_redis_nobody_new_is_let_in() {
    let bench = Bench::new().await;
    let key = bench.keys().create(&terms("acme"), None).await.unwrap();
    let gate = bench.gate();
    bench.server.stop().await;
    for shown in [None, Some(key.reveal())] {
        assert!(matches!(gate.caller(shown).await, Err(Denied::Unavailable(_))));
    }
}

/// A bucket that three instances share admits the burst and then one call for each second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_share_one_limit() {
    let bench = Bench::new().await;
    let limiters: Vec<_> = (0..3).map(|_| RateLimiter::new(bench.redis())).collect();
    let rate = Rate::new(60, 10).unwrap();
    let began = Instant::now();
    let mut calls = Vec::new();
    for number in 0..1000 {
        let limiter = limiters[number % 3].clone();
        calls.push(tokio::spawn(async move { limiter.take("key", rate).await.unwrap() }));
        if number % 100 == 99 && number < 999 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let sent = began.elapsed().as_secs_f64();
    let mut verdicts = Vec::new();
    for call in calls {
        verdicts.push(call.await.unwrap());
    }
    let elapsed = began.elapsed().as_secs_f64();
    let admitted = verdicts.iter().filter(|verdict| verdict.admitted).count();
    let admitted = f64::from(u32::try_from(admitted).unwrap());
    // The last calls were made at some time between the two.
    let promised = 10.0 + sent - 1.0..=10.0 + elapsed + 1.0;
    assert!(promised.contains(&admitted), "{admitted} were admitted in {sent} to {elapsed} s");
    assert!(verdicts.iter().all(|verdict| verdict.remaining < 10 && verdict.reset <= rate.window()));
    let refused = verdicts.iter().filter(|verdict| !verdict.admitted);
    assert!(refused.clone().all(|verdict| verdict.retry_after <= Duration::from_secs(1)));
    assert!(refused.clone().all(|verdict| verdict.remaining == 0 && !verdict.retry_after.is_zero()));
    // Another caller has a bucket of its own.
    assert_eq!(limiters[0].take("other", rate).await.unwrap().remaining, 9);
}

#[tokio::test]
async fn a_bucket_goes_once_it_is_full_and_a_smaller_one_shuts_nobody_out_for_long() {
    let bench = Bench::new().await;
    let limiter = RateLimiter::new(bench.redis());
    let fast = Rate::new(60_000, 2).unwrap();
    assert!(limiter.take("who", fast).await.unwrap().admitted);
    let mut ask = redis::cmd("EXISTS");
    ask.arg("{test}:access:rate:who");
    let end = Instant::now() + Duration::from_mins(1);
    while bench.redis().query::<bool>(&ask).await.unwrap() {
        assert!(Instant::now() < end, "the bucket stays");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (slow, smaller) = (Rate::new(1, 100).unwrap(), Rate::new(60, 1).unwrap());
    for _ in 0..100 {
        assert!(limiter.take("slow", slow).await.unwrap().admitted);
    }
    assert!(!limiter.take("slow", slow).await.unwrap().admitted);
    // The operator gives the key another rate: it counts from now on.
    let verdict = limiter.take("slow", smaller).await.unwrap();
    assert!(!verdict.admitted && verdict.retry_after <= Duration::from_secs(1), "{verdict:?}");
}

#[tokio::test]
async fn the_audit_log_is_read_backwards_in_pages() {
    let bench = Bench::new().await;
    let audit = Audit::new(bench.redis());
    for number in 0..25 {
        let mut entry = AuditEntry::of(&Caller::local(), format!("action {number}"));
        entry.target = "é".repeat(1000);
        entry.outcome = "ok".into();
        audit.write(&entry).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = audit.page(cursor.as_deref(), 10).await.unwrap();
        seen.extend(page.entries);
        cursor = page.next_cursor;
        match &cursor {
            Some(cursor) => assert!(Audit::is_cursor(cursor)),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert_eq!((seen[0].action.as_str(), seen[24].action.as_str()), ("action 24", "action 0"));
    assert_eq!((seen[0].key.as_str(), seen[0].tenant.as_str()), ("local", "default"));
    assert!(seen[0].target.len() <= 300 && seen[0].at_ms > 0);
    for wrong in ["", "1", "-", "a-1", "1-2-3", "+1-1", "1-1 COUNT"] {
        assert!(!Audit::is_cursor(wrong), "{wrong}");
    }
}

#[tokio::test]
async fn a_session_is_good_for_as_long_as_its_key() {
    let bench = Bench::new().await;
    let keys = bench.keys();
    let key = keys.create(&terms("acme"), None).await.unwrap();
    let gate = bench.gate();
    let token = gate.open_session(key.reveal()).await.unwrap();
    // Another instance knows it too.
    let caller = bench.gate().session(&token).await.unwrap();
    assert_eq!((caller.tenant.as_str(), &*caller.key), ("acme", key.id().as_str()));
    assert!(caller.may(Scope::JobsRead) && !caller.may(Scope::JobsWrite));
    // What was stolen from Redis opens nothing.
    let mut list = redis::cmd("KEYS");
    list.arg("*access:session:*");
    let stored: Vec<String> = bench.redis().query(&list).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains(token.reveal()), "{stored:?}");
    assert!(matches!(gate.open_session("jj_nonsense").await, Err(Denied::Invalid(_))));
    let made_up = access::SessionToken::generate().unwrap();
    assert!(matches!(gate.session(&made_up).await, Err(Denied::NoKey)));
    // It can be left, alone.
    let other = gate.open_session(key.reveal()).await.unwrap();
    gate.close_session(&other).await.unwrap();
    assert!(matches!(gate.session(&other).await, Err(Denied::NoKey)));
    assert!(gate.session(&token).await.is_ok());
    keys.revoke(&key.id()).await.unwrap();
    assert!(matches!(bench.gate().session(&token).await, Err(Denied::Unknown)));
}

#[tokio::test]
async fn a_session_of_the_operator_ends_with_another_admin_key() {
    let bench = Bench::new().await;
    let gate = |key: &str| Gate::new(bench.redis(), Some(AdminKey::new(key).unwrap()), false);
    let (old, new) = ("a1".repeat(16), "b2".repeat(16));
    let token = gate(&old).open_session(&old).await.unwrap();
    assert!(gate(&old).session(&token).await.unwrap().may(Scope::Admin));
    assert!(matches!(gate(&new).session(&token).await, Err(Denied::NoKey)));
}
