//! Who gets in, and what another site can make a browser do: nothing.

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode, redirect::Policy};
use serde_json::json;

use crate::{
    access::deployment::{TENANTS, key, keys},
    harness::{Deployment, LIMIT, month},
};

/// A browser without scripts: it keeps its cookie, and goes nowhere by itself.
pub(super) struct Visitor {
    pub(super) http: reqwest::Client,
    url: String,
    cookie: String,
}

impl Visitor {
    pub(super) fn new(deployment: &Deployment) -> Self {
        let http =
            reqwest::Client::builder().redirect(Policy::none()).pool_max_idle_per_host(0).build().unwrap();
        Self { http, url: deployment.process.url.clone(), cookie: String::new() }
    }

    fn keep(&mut self, response: &Response) {
        if let Some(cookie) = response.headers().get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let response =
            self.http.get(format!("{}{path}", self.url)).header("cookie", &self.cookie).send().await.unwrap();
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        self.keep(&response);
        (response.status(), response.text().await.unwrap())
    }

    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let request = self.http.post(format!("{}{path}", self.url)).header("cookie", &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let response = request.send().await.unwrap();
        self.keep(&response);
        response
    }

    pub(super) async fn log_in(&mut self, key: &str) -> Response {
        let (_, page) = self.get("/console/login").await;
        self.post("/console/login", &[("token", token(&page)), ("key", key), ("next", "%2Fconsole%2Fjobs")])
            .await
    }
}

/// What the forms of a page carry.
pub(super) fn token(page: &str) -> &str {
    let (_, rest) = page.split_once(r#"name="token" value=""#).unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap()
}

#[tokio::test]
async fn a_key_opens_a_session_that_ends_with_it_and_shows_its_tenant_alone() {
    let deployment = Deployment::start(&[]);
    let data = deployment.data.path();
    let (mine, others) = (key(data, "mine", TENANTS), key(data, "others", TENANTS));
    let job = deployment
        .client
        .post(deployment.url("/v1/jobs?wait=60"))
        .bearer_auth(&mine)
        .json(&json!({"kind": "backtest", "spec": month("SmaCross")}));
    let job: serde_json::Value = job.send().await.unwrap().json().await.unwrap();
    let job = job["job_id"].as_str().unwrap_or_else(|| panic!("{job}"));
    let page_of_job = format!("/console/jobs/{job}");

    let mut visitor = Visitor::new(&deployment);
    let end = Instant::now() + LIMIT;
    // A server that had no keys looks for the first one every few seconds.
    let (status, page) = loop {
        let (status, page) = visitor.get(&page_of_job).await;
        if status == 401 || Instant::now() > end {
            break (status, page);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(status, 401);
    assert!(page.contains("API key") && page.contains(&format!(r#"value="{page_of_job}""#)), "{page}");
    let wrong = visitor.log_in("jj_nonsense").await;
    assert_eq!(wrong.status(), 401);
    assert!(wrong.text().await.unwrap().contains("not an API key"));
    let welcome = visitor.log_in(&mine).await;
    assert_eq!(
        (welcome.status().as_u16(), welcome.headers()["location"].to_str().unwrap()),
        (303, "/console/jobs")
    );
    assert!(!visitor.cookie.contains(&mine) && !visitor.cookie.contains(&mine[15..47]), "{}", visitor.cookie);
    let (status, page) = visitor.get(&page_of_job).await;
    assert_eq!(status, 200);
    assert!(page.contains(job) && page.contains("Returns by month") && page.contains("mine"), "{page}");
    // The session is no key of the API, and its tenant is no admin.
    let api =
        visitor.http.get(deployment.url("/v1/jobs")).header("cookie", &visitor.cookie).send().await.unwrap();
    assert_eq!(api.status(), 401);
    assert_eq!(visitor.get("/console/keys").await.0, 403);

    // A form that no page of ours has sent does nothing, even with the cookie.
    let again = format!("{page_of_job}/again");
    let made_up = "0".repeat(64);
    for fields in [&[][..], &[("token", "")], &[("token", made_up.as_str())]] {
        assert_eq!(visitor.post(&again, fields).await.status(), 403, "{fields:?}");
    }
    let foreign = visitor.http.post(deployment.url(&again)).header("cookie", &visitor.cookie);
    let foreign = foreign.header("sec-fetch-site", "cross-site").body(format!("token={}", token(&page)));
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let done = visitor.post(&again, &[("token", token(&page))]).await;
    assert_eq!(done.status(), 303);
    assert_ne!(done.headers()["location"].to_str().unwrap(), page_of_job);

    let mut stranger = Visitor::new(&deployment);
    assert_eq!(stranger.log_in(&others).await.status(), 303);
    let (status, page) = stranger.get(&page_of_job).await;
    assert!(status == 404 && !page.contains("SmaCross"), "{status} {page}");
    assert!(!stranger.get("/console/jobs").await.1.contains("SmaCross"));
    assert!(!stranger.get("/").await.1.contains("SmaCross"));

    // Logged out, the cookie of before opens nothing.
    let before = stranger.cookie.clone();
    let (_, page) = stranger.get("/").await;
    assert_eq!(stranger.post("/console/logout", &[("token", token(&page))]).await.status(), 303);
    stranger.cookie = before;
    assert_eq!(stranger.get("/").await.0, 401);

    let id = mine.trim_start_matches("jj_")[..12].to_owned();
    keys(data, &["revoke", &id]);
    let end = Instant::now() + LIMIT;
    while visitor.get("/").await.0 != 401 {
        assert!(Instant::now() < end, "a revoked key goes on to open its session");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn attempts_to_log_in_are_counted() {
    let deployment = Deployment::start(&[]);
    let mine = key(deployment.data.path(), "mine", TENANTS);
    let mut visitor = Visitor::new(&deployment);
    let mut statuses = Vec::new();
    for _ in 0..14 {
        statuses.push(visitor.log_in("jj_nonsense").await.status().as_u16());
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses[10..].contains(&429), "{statuses:?}");
    let refused = visitor.log_in(&mine).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().is_ok_and(|wait| wait >= 1));
}

#[tokio::test]
async fn without_keys_nobody_logs_in_and_no_other_site_sends_a_form() {
    let deployment = Deployment::shared();
    let mut visitor = Visitor::new(&deployment);
    let (status, page) = visitor.get("/").await;
    assert!(status == 200 && !page.contains("Log out"), "{page}");
    let cancel = "/console/queue/resume";
    let mut stranger = Visitor::new(&deployment);
    assert_eq!(stranger.post(cancel, &[]).await.status(), 403);
    // Its own cookie does not go with the token of another.
    stranger.get("/").await;
    assert_eq!(stranger.post(cancel, &[("token", token(&page))]).await.status(), 403);
    assert_eq!(visitor.post(cancel, &[("token", token(&page))]).await.status(), 303);
    for (path, expected) in
        [("/console/jobs?state=done", 400), ("/console/jobs/nonsense", 400), ("/console/batches/x", 400)]
    {
        let (status, page) = visitor.get(path).await;
        assert!(status == expected && page.starts_with("<!DOCTYPE html>"), "{path}: {status} {page}");
    }
}

#[tokio::test]
async fn files_are_kept_for_ever_under_a_name_that_changes_with_them() {
    let deployment = Deployment::shared();
    let (_, page) = Visitor::new(&deployment).get("/").await;
    let files: Vec<_> = page.split('"').filter(|part| part.starts_with("/console/assets/")).collect();
    assert!(files.len() >= 3, "{page}");
    for file in files {
        let response = deployment.client.get(deployment.url(file)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert!(response.headers().get("set-cookie").is_none());
    }
    let (status, _) = deployment.get("/console/assets/console-0000000000000000.css").await;
    assert_eq!(status, 404);
}
