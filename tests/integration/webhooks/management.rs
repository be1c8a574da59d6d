//! `/v1/webhooks` wrong in every way, and the tool of the same name.

use serde_json::{Value, json};

use super::{deployment::Light, receiver::Receiver};

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told() {
    let light = Light::start(0).await;
    let create = async |body: Value| {
        let (status, problem) = light.post("/v1/webhooks", &body).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    for body in [
        json!({}),
        json!([]),
        json!({"url": 5}),
        json!({"url": ""}),
        json!({"url": "example.com"}),
        json!({"url": "ftp://example.com"}),
        json!({"url": "https://user:pass@example.com"}),
        json!({"url": format!("https://example.com/{}", "x".repeat(3000))}),
        json!({"url": "https://example.com", "events": []}),
        json!({"url": "https://example.com", "events": ["job.started"]}),
        json!({"url": "https://example.com", "events": ["webhook.test"]}),
        json!({"url": "https://example.com", "secret": "x"}),
    ] {
        assert_eq!(create(body.clone()).await, (400, "invalid_request".into()), "{body}");
    }
    for url in ["http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://2130706434/"] {
        assert_eq!(create(json!({ "url": url })).await, (422, "url_not_allowed".into()), "{url}");
    }
    let (id, _) = light.endpoint("https://example.com/hook").await;
    let unknown = "ep_00000000000000000000000000000000";
    for (path, status) in [
        (format!("/v1/webhooks/{unknown}"), 404),
        ("/v1/webhooks/nonsense".into(), 404),
        (format!("/v1/webhooks/{unknown}/deliveries"), 404),
        (format!("/v1/webhooks/{id}/deliveries/00000000000000000000000000000000"), 404),
        (format!("/v1/webhooks/{id}/deliveries?state=lost"), 400),
        (format!("/v1/webhooks/{id}/deliveries?limit=0"), 400),
        (format!("/v1/webhooks/{id}/deliveries?cursor=x"), 400),
    ] {
        assert_eq!(light.get(&path).await.0, status, "{path}");
    }
    for body in [
        json!({}),
        json!({"delivery": "x", "failed": true}),
        json!({"since": "yesterday"}),
        json!({"failed": false}),
    ] {
        assert_eq!(light.post(&format!("/v1/webhooks/{id}/resend"), &body).await.0, 400, "{body}");
    }
    for path in ["/v1/webhooks/jobs/test", "/v1/webhooks/jobs"] {
        let method = if path.ends_with("test") { reqwest::Method::POST } else { reqwest::Method::DELETE };
        assert_eq!(light.call(method, path, None).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn an_endpoint_is_tested_rotated_changed_and_deleted() {
    let receiver = Receiver::healthy().await;
    let light = Light::start(1).await;
    let (id, old) = light.endpoint(&receiver.url("/")).await;
    let path = format!("/v1/webhooks/{id}");
    let rotated = light.post(&format!("{path}/rotate"), &json!({})).await.1;
    assert_eq!(rotated["previous"][0]["secret"], json!(old));
    let (status, tested) = light.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(
        (status, &tested["state"], &tested["attempts"][0]["status"]),
        (200, &json!("delivered"), &json!(204))
    );
    let got = &receiver.received()[0];
    assert_eq!(got.event(), "webhook.test");
    assert!(got.is_signed_with(&old) && got.is_signed_with(rotated["secret"].as_str().unwrap()));

    let change = json!({"enabled": false, "events": ["job.failed"]});
    let (_, changed) = light.call(reqwest::Method::PATCH, &path, Some(&change)).await;
    assert_eq!((&changed["enabled"], &changed["events"]), (&json!(false), &json!(["job.failed"])));
    assert_eq!(light.post(&format!("{path}/test"), &json!({})).await.0, 409);
    assert_eq!(light.get("/v1/webhooks").await.1["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(light.call(reqwest::Method::DELETE, &path, None).await.0, 204);
    assert_eq!(light.get(&path).await.0, 404);
}
