//! From the end of a job to its receiver.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    deployment::Light,
    receiver::{Receiver, Reply},
};
use crate::harness::{Deployment, month};

#[tokio::test]
async fn a_backtest_s_url_and_an_endpoint_are_told_of_its_end_and_of_its_cached_repeat() {
    let receiver = Receiver::healthy().await;
    let deployment = Deployment::start(&["--grace", "1", "--webhook-allow", "127.0.0.1"]);
    let (status, made) = deployment.post("/v1/webhooks", &json!({ "url": receiver.url("/all") })).await;
    assert_eq!(status, 201, "{made}");
    let of_jobs = deployment.get("/v1/webhooks/jobs/secret").await.1;
    let job = json!({"kind": "backtest", "spec": month("SmaCross"), "webhook": receiver.url("/one"), "campaign": "spring"});
    let (_, ended) = deployment.post("/v1/jobs?wait=120", &job).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["treatment"]["webhook"], receiver.url("/one"));
    let got_all = receiver.until("both are told", |received| received.len() == 2).await;
    for got in &got_all {
        let secret = if got.path == "/one" { &of_jobs["secret"] } else { &made["secret"] };
        assert!(got.is_signed_with(secret.as_str().unwrap()), "{got:?}");
        assert_eq!(got.id, format!("msg_{}", ended["job_id"].as_str().unwrap()));
        let payload = got.payload();
        assert_eq!(payload["type"], "job.succeeded");
        assert_eq!(payload["data"]["job_id"], ended["job_id"]);
        assert_eq!(payload["data"]["summary"], ended["summary"]);
        assert_eq!(payload["data"]["campaign"], "spring");
    }
    let (_, cached) = deployment.post("/v1/jobs?wait=120", &job).await;
    assert_eq!(cached["cached"], true, "{cached}");
    receiver.until("the repeat is told too", |received| received.len() == 4).await;

    let refused = json!({"kind": "backtest", "spec": month("SmaCross"), "webhook": "http://10.0.0.1/"});
    let (status, problem) = deployment.post("/v1/jobs", &refused).await;
    assert_eq!((status, &problem["code"]), (422, &json!("url_not_allowed")), "{problem}");
}

#[tokio::test]
async fn failures_are_tried_again_logged_given_up_and_sent_again() {
    let receiver = Receiver::start(|got, before| match got.path.as_str() {
        "/twice" if before < 2 => Reply::Status(500),
        "/never" => Reply::Status(500),
        "/gone" => Reply::Status(410),
        "/silent" if before == 0 => Reply::Never,
        _ => Reply::Status(200),
    })
    .await;
    let light = Light::start(1).await;
    let mut ids = Vec::new();
    for path in ["/twice", "/never", "/gone", "/silent"] {
        ids.push(light.endpoint(&receiver.url(path)).await.0);
    }
    let job = light.end_jobs(1, true, None).await[0];
    let log = async |id: &str| {
        let path = format!("/v1/webhooks/{id}/deliveries");
        let end = std::time::Instant::now() + crate::harness::LIMIT;
        loop {
            let delivery = light.get(&path).await.1["deliveries"][0].clone();
            if delivery["ended_at"].is_string() {
                return delivery;
            }
            assert!(std::time::Instant::now() < end, "it does not end: {delivery}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let statuses = |delivery: &serde_json::Value| {
        delivery["attempts"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect::<Vec<_>>()
    };
    let twice = log(&ids[0]).await;
    assert_eq!((&twice["state"], &twice["job_id"]), (&json!("delivered"), &json!(job.to_string())));
    assert_eq!(statuses(&twice), [json!(500), json!(500), json!(200)]);
    assert_eq!(twice["attempts"][2]["response"], "thanks");
    let never = log(&ids[1]).await;
    assert_eq!((&never["state"], statuses(&never).len()), (&json!("failed"), 9));
    let gone = log(&ids[2]).await;
    assert_eq!((&gone["state"], statuses(&gone)), (&json!("failed"), vec![json!(410)]));
    let disabled = light.get(&format!("/v1/webhooks/{}", ids[2])).await.1;
    assert_eq!(disabled["disabled_because"], "gone");
    let silent = log(&ids[3]).await;
    assert!(silent["attempts"][0]["error"].as_str().unwrap().contains("no answer"), "{silent}");
    assert_eq!(silent["state"], "delivered");

    let again = format!("/v1/webhooks/{}/resend", ids[0]);
    let (status, resent) = light.post(&again, &json!({"delivery": twice["delivery_id"]})).await;
    assert_eq!((status, resent), (202, json!({"resent": 1})));
    receiver.until("it comes again", |all| all.iter().filter(|got| got.path == "/twice").count() == 4).await;
    let failed = light.post(&format!("/v1/webhooks/{}/resend", ids[1]), &json!({"failed": true})).await;
    assert_eq!(failed, (202, json!({"resent": 1})));
    let off = light.post(&format!("/v1/webhooks/{}/resend", ids[2]), &json!({"failed": true})).await;
    assert_eq!((off.0, &off.1["code"]), (409, &json!("webhook_disabled")));
    let messages: BTreeSet<_> = receiver.counts().into_keys().collect();
    assert_eq!(messages, BTreeSet::from([format!("msg_{job}")]), "every attempt has the same id");
}
