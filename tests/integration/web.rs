//! What browsers and proxies rely on: compressed answers with tags that stay right, and pages of other origins that may call only where
//! they are named.

use reqwest::{Method, header};
use serde_json::json;

use crate::harness::{Deployment, binary, month};

const ORIGIN: &str = "https://app.example.com";

#[tokio::test]
async fn long_answers_are_compressed_and_their_tags_stay_right() {
    let deployment = Deployment::shared();
    let job = deployment.backtest(&month("SmaCross")).await;
    let url = deployment.url(&format!("/v1/jobs/{}/result", job["job_id"].as_str().unwrap()));
    // A client that decompresses nothing sees what was sent.
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    let get = async |coding: &str, known: Option<&str>| {
        let mut request = client.get(&url).header(header::ACCEPT_ENCODING, coding);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        let response = request.send().await.unwrap();
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (coding, tag, vary) =
            (header("content-encoding"), header("etag").unwrap_or_default(), header("vary"));
        let status = response.status().as_u16();
        (status, coding, tag, vary, response.bytes().await.unwrap().len())
    };
    let (status, coding, tag, vary, plain) = get("identity", None).await;
    assert_eq!((status, coding, vary.as_deref()), (200, None, Some("accept-encoding")));
    assert!(tag.starts_with('"'), "{tag}");
    for name in ["gzip", "zstd"] {
        let (status, coding, weak, _, size) = get(name, None).await;
        assert_eq!((status, coding.as_deref()), (200, Some(name)));
        assert!(size < plain / 2, "{name}: {size} of {plain}");
        // Other bytes, so the tag is a weak one; it goes on to name the same.
        assert_eq!(weak, format!("W/{tag}"));
        for known in [&weak, &tag] {
            assert_eq!(get(name, Some(known)).await.0, 304, "{known}");
        }
        assert_eq!(get("identity", Some(&weak)).await.0, 304);
        assert_eq!(get(name, Some("W/\"another\"")).await.0, 200);
    }
    // That it takes no form there is does not undo what a call has done.
    let (status, coding, ..) = get("br, identity;q=0, *;q=0", None).await;
    assert_eq!((status, coding), (200, None));
    let short = client.get(deployment.url("/health/live")).header(header::ACCEPT_ENCODING, "gzip");
    let short = short.send().await.unwrap();
    assert!(!short.headers().contains_key(header::CONTENT_ENCODING));
    // An event arrives as it happens.
    let events = format!("/v1/jobs/{}/events", job["job_id"].as_str().unwrap());
    let events =
        client.get(deployment.url(&events)).header(header::ACCEPT_ENCODING, "gzip").send().await.unwrap();
    assert_eq!(events.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert!(!events.headers().contains_key(header::CONTENT_ENCODING));
}

/// What a browser asks before a page of this origin may call: status, and what is allowed.
async fn preflight(deployment: &Deployment, origin: &str, path: &str) -> (u16, header::HeaderMap) {
    let request = deployment.client.request(Method::OPTIONS, deployment.url(path));
    let request = request
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,idempotency-key");
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone())
}

#[tokio::test]
async fn pages_of_other_origins_may_call_where_they_are_named() {
    let deployment = Deployment::start(&["--cors-origins", &format!("{ORIGIN},http://localhost:3000")]);
    for path in ["/v1/jobs", "/mcp"] {
        let (status, told) = preflight(&deployment, ORIGIN, path).await;
        assert_eq!(
            (status, &told["access-control-allow-origin"]),
            (200, &header::HeaderValue::from_static(ORIGIN))
        );
        let headers = told["access-control-allow-headers"].to_str().unwrap();
        assert!(headers.contains("authorization") && headers.contains("idempotency-key"), "{headers}");
        let methods = told["access-control-allow-methods"].to_str().unwrap();
        assert_eq!(methods, "GET,POST,PATCH,DELETE");
        assert!(!told.contains_key("access-control-allow-credentials"));
        assert!(told["vary"].to_str().unwrap().contains("origin"), "{told:?}");
    }
    for other in
        ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"]
    {
        let (_, told) = preflight(&deployment, other, "/v1/jobs").await;
        assert!(!told.contains_key("access-control-allow-origin"), "{other}: {told:?}");
    }
    let called = deployment
        .client
        .get(deployment.url("/v1/jobs"))
        .header(header::ORIGIN, ORIGIN)
        .send()
        .await
        .unwrap();
    assert_eq!(called.headers()["access-control-allow-origin"], ORIGIN);
    let shown = called.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(shown.contains("etag") && shown.contains("x-request-id"), "{shown}");

    // By default there is no such thing.
    let shut = Deployment::shared();
    let (status, told) = preflight(&shut, ORIGIN, "/v1/jobs").await;
    assert_eq!(status, 405);
    assert!(told.keys().all(|name| !name.as_str().starts_with("access-control-")), "{told:?}");
}

#[test]
fn origins_that_are_none_are_refused_and_so_are_all_where_no_key_is_needed() {
    for (origins, told) in [
        ("app.example.com", "is no origin"),
        ("https://app.example.com/", "it says https://app.example.com"),
        ("*", "--admin-key-file"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let mut command = binary();
        command.args(["up", "--listen", "127.0.0.1:0", "--cors-origins", origins, "--data"]).arg(data.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{origins}: {said}");
    }
    // With a key that everybody needs it is as it should be.
    let data = tempfile::tempdir().unwrap();
    let key = data.path().join("admin-key");
    std::fs::write(&key, json!("an-operator-s-key-0123456789-0123456789").as_str().unwrap()).unwrap();
    let file = key.to_str().unwrap().to_owned();
    let deployment = Deployment::start_on(data, &["--cors-origins", "*", "--admin-key-file", &file]);
    drop(deployment);
}
