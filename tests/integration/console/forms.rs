//! Forms that make something: keys, and backtests. All of it without scripts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::access::{Visitor, token};
use crate::{
    access::deployment::{Client, key},
    harness::{Deployment, EXCHANGE, LIMIT, SYMBOL},
};

const ADMIN: &str = "an-administrator-s-key-0123456789-0123456789";

fn closed() -> Deployment {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("admin-key");
    std::fs::write(&file, ADMIN).unwrap();
    Deployment::start_on(data, &["--admin-key-file", file.to_str().unwrap()])
}

/// A field's value as forms send it, and addresses.
pub(super) fn sent(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Sends the form of a page as it is filled in; answers status and page.
async fn send(visitor: &mut Visitor, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
    let (_, page) = visitor.get(path).await;
    let encoded: Vec<_> = fields.iter().map(|(name, value)| (*name, sent(value))).collect();
    let mut all = vec![("token", token(&page))];
    all.extend(encoded.iter().map(|(name, value)| (*name, value.as_str())));
    let response = visitor.post(path, &all).await;
    let place = response.headers().get("location").map(|place| place.to_str().unwrap().to_owned());
    (response.status().as_u16(), place.unwrap_or_default(), response.text().await.unwrap())
}

/// The key that a page shows.
fn shown(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(r#"<code class="secret">"#)?;
    rest.split('<').next()
}

/// The newest entries of the log of changes: action, target, outcome.
async fn log(admin: &Client, number: usize) -> Vec<[String; 3]> {
    let entries = admin.get(&format!("/v1/audit?limit={number}")).await.body["entries"].clone();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let told = |entry: &Value| ["action", "target", "outcome"].map(|name| text(entry, name));
    entries.as_array().unwrap().iter().map(told).collect()
}

async fn until_refused(client: &Client) {
    let end = Instant::now() + LIMIT;
    while client.get("/v1/jobs").await.status != 401 {
        assert!(Instant::now() < end, "a revoked key goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_administrator_makes_rotates_and_revokes_keys_which_are_shown_once() {
    let deployment = closed();
    let (admin, mut visitor) = (Client::new(&deployment, ADMIN), Visitor::new(&deployment));
    assert_eq!(visitor.log_in(ADMIN).await.status(), 303);

    let fields =
        [("tenant", "acme"), ("label", "nightly <b>sweeps"), ("scope", "jobs:read"), ("scope", "admin")];
    let (status, place, page) = send(&mut visitor, "/console/keys", &fields).await;
    let made = shown(&page).unwrap_or_else(|| panic!("{page}")).to_owned();
    assert_eq!((status, place.as_str()), (201, format!("/console/keys#{}", &made[3..15]).as_str()));
    assert!(page.contains("nightly &lt;b&gt;sweeps"), "{page}");
    let acme = Client::new(&deployment, &made);
    assert_eq!(acme.get("/v1/jobs").await.status, 200);
    let (_, page) = visitor.get("/console/keys").await;
    assert!(page.contains(&made[3..15]) && !page.contains(&made), "it is shown again");

    // What is wrong stands beside its field, what was right is kept, and nothing is made.
    let wrong = [("tenant", "a b"), ("label", "kept"), ("rate", "fast"), ("days", "0")];
    let (status, _, page) = send(&mut visitor, "/console/keys", &wrong).await;
    assert_eq!((status, shown(&page)), (422, None));
    for told in [
        "cannot name a tenant",
        r#"id="rate-wrong""#,
        "from 1 to 3650",
        "choose at least one",
        r#"value="kept""#,
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert_eq!(page.matches("/revoke").count(), 1, "{page}");

    // Who has not a scope cannot give it, not even by taking another's place.
    let mut other = Visitor::new(&deployment);
    let only = key(deployment.data.path(), "ops", "admin");
    other.log_in(&only).await;
    let (status, _, page) =
        send(&mut other, "/console/keys", &[("tenant", "ops"), ("scope", "jobs:write")]).await;
    assert!(status == 422 && page.contains("cannot give it"), "{page}");
    let rotate = format!("/console/keys/{}/rotate", &made[3..15]);
    assert_eq!(other.post(&rotate, &[("token", token(&page))]).await.status(), 403);
    // Nor can a key that is no administrator's, nor a page of somebody else.
    let reader = key(deployment.data.path(), "acme", "jobs:read");
    let refused = Client::new(&deployment, &reader).post("/console/keys", &json!({})).await;
    assert_eq!(refused.status, 403);
    assert_eq!(visitor.post("/console/keys", &[("tenant", "acme")]).await.status(), 403);

    let (_, page) = visitor.get("/console/keys").await;
    let rotated = visitor.post(&rotate, &[("token", token(&page))]).await.text().await.unwrap();
    let second = Client::new(&deployment, shown(&rotated).unwrap_or_else(|| panic!("{rotated}")));
    assert_eq!((second.get("/v1/jobs").await.status, acme.get("/v1/jobs").await.status), (200, 200));
    let revoke = format!("/console/keys/{}/revoke", &made[3..15]);
    assert_eq!(visitor.post(&revoke, &[("token", token(&page))]).await.status(), 303);
    until_refused(&acme).await;
    assert_eq!(second.get("/v1/jobs").await.status, 200);

    let told = log(&admin, 20).await;
    for (action, target, outcome) in [
        ("POST /console/keys", format!("/console/keys#{}", &made[3..15]), "201"),
        ("POST /console/keys/{id}/rotate", rotate, "200"),
        ("POST /console/keys/{id}/revoke", revoke, "303"),
    ] {
        assert!(told.contains(&[action.to_owned(), target, outcome.to_owned()]), "{action}: {told:?}");
    }
    assert!(!json!(told).to_string().contains(&made[15..]), "a secret is in the log");
}

#[tokio::test]
async fn a_backtest_is_submitted_by_hand_and_what_is_wrong_stands_beside_its_field() {
    let deployment = Deployment::shared();
    let mut visitor = Visitor::new(&deployment);
    let (_, page) = visitor.get("/console/submit").await;
    for known in ["SmaCross", EXCHANGE, SYMBOL] {
        assert!(page.contains(&format!(r#"<option value="{known}">"#)), "{known} is not offered: {page}");
    }
    let fields = |strategy, finish, hyperparameters, more| {
        [
            ("strategy", strategy),
            ("exchange", EXCHANGE),
            ("symbol", SYMBOL),
            ("timeframe", "1h"),
            ("start_date", "2023-02-01"),
            ("finish_date", finish),
            ("hyperparameters", hyperparameters),
            ("more", more),
            ("campaign", ""),
        ]
    };
    // One mistake at a time, each with the field that it belongs to.
    for (of, sent, told) in [
        ("strategy", fields("SmaCros", "2023-03-01", "", ""), "did you mean &quot;SmaCross&quot;"),
        ("finish_date", fields("SmaCross", "2023-01-01", "", ""), "must be after start_date"),
        ("start_date", fields("SmaCross", "2033-03-01", "", ""), "candles"),
        ("hyperparameters", fields("SmaCross", "2023-03-01", "{\"fast\": ", ""), "is no JSON"),
        ("hyperparameters", fields("SmaCross", "2023-03-01", "{\"quick\": 3}", ""), "unknown hyperparameter"),
        (
            "more",
            fields("SmaCross", "2023-03-01", "", "{\"leverage\": 9999}"),
            "leverage: must be from 1 to 125",
        ),
        ("more", fields("SmaCross", "2023-03-01", "", "{\"speed\": 1}"), "unknown field"),
    ] {
        let (status, _, page) = send(&mut visitor, "/console/submit", &sent).await;
        let (_, beside) =
            page.split_once(&format!(r#"id="{of}-wrong""#)).unwrap_or_else(|| panic!("{of}: {page}"));
        let beside = beside.split("</p>").next().unwrap().replace("&#39;", "'");
        assert!((400..500).contains(&status) && beside.contains(told), "{status} {of}: {beside}");
        assert!(page.contains(r#"value="2023-02-01""#), "what was filled in is gone: {page}");
    }
    let right = fields("SmaCross", "2023-03-01", "{\"fast\": 11}", "{\"balance\": 7654}");
    let (status, place, _) = send(&mut visitor, "/console/submit", &right).await;
    assert_eq!(status, 303);
    let job = place.strip_prefix("/console/jobs/").unwrap_or_else(|| panic!("{place}"));
    let told = log(&Client::new(&deployment, ""), 100).await;
    assert!(told.contains(&["POST /console/submit".to_owned(), place.clone(), "303".to_owned()]), "{told:?}");
    let view = deployment.until(job, |job| job["state"] == "succeeded").await;
    assert_eq!(
        (&view["spec"]["balance"], &view["spec"]["hyperparameters"]["fast"]),
        (&json!(7654.0), &json!(11))
    );

    // The next one begins as this one was, and is the same if nothing is changed.
    let (_, page) = visitor.get(&format!("/console/submit?like={job}")).await;
    for filled in
        [r#"value="SmaCross""#, r#"value="2023-03-01""#, "&quot;fast&quot;: 11", "&quot;balance&quot;: 7654"]
    {
        assert!(page.contains(filled), "{filled}: {page}");
    }
    let more = page.split_once(r#"<textarea id="more""#).unwrap().1;
    let more = more.split_once('>').unwrap().1.split("</textarea>").next().unwrap().replace("&quot;", "\"");
    let (_, again, _) =
        send(&mut visitor, "/console/submit", &fields("SmaCross", "2023-03-01", "{\"fast\": 11}", &more))
            .await;
    let again = deployment.until(again.rsplit('/').next().unwrap(), |job| job["state"] == "succeeded").await;
    assert_eq!((&again["cached"], &again["spec"]), (&json!(true), &view["spec"]));
}

#[tokio::test]
async fn the_page_of_a_batch_says_what_part_of_it_is_shown() {
    let deployment = Deployment::start(&[]);
    deployment.post("/v1/queue/pause", &json!({})).await;
    let balances: Vec<_> = (0..2_013).map(|more| 10_000 + more).collect();
    let base = crate::harness::month("SmaCross");
    let (status, batch) =
        deployment.post("/v1/batches", &json!({"base": base, "grid": {"balance": balances}})).await;
    assert_eq!(status, 202, "{batch}");
    let (path, mut visitor) =
        (format!("/console/batches/{}", batch["job_id"].as_str().unwrap()), Visitor::new(&deployment));
    let end = Instant::now() + LIMIT;
    loop {
        let (_, page) = visitor.get(&path).await;
        // Its jobs are given their records bit by bit.
        if page.contains("the first 2,000 of its 2,013 jobs")
            && page.contains("1–100 of the first 2,000 of 2,013")
        {
            break;
        }
        assert!(Instant::now() < end, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
