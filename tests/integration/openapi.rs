//! The OpenAPI document: that it is one, that its examples are accepted, and that the server does what it says, whatever is sent.

use std::{
    path::Path,
    process::{Command, Output},
};

use reqwest::header;
use serde_json::{Value, json};

use crate::{
    access::deployment::Client,
    clients,
    harness::{DAYS, Deployment, SEED, SYMBOL, generate},
};

/// Waits are cut to a second, and a tenant can have only so many jobs and results.
const BOUNDED: [&str; 6] = ["--request-timeout", "1", "--max-open", "200", "--cache-max-bytes", "67108864"];
const ADMIN: &str = "an-operator-s-key-for-schemathesis-0123456789";

/// A program of the venv that has the validator and Schemathesis.
async fn program(name: &str, arguments: Vec<String>) -> (Output, String) {
    let mut command = Command::new(clients::folder().join("openapi/bin").join(name));
    // What it remembers of a run goes with the folder.
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path()).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    (output, said)
}

/// Sends whatever the document allows, and much that it does not, for so many seconds.
async fn sends_anything(url: &str, seconds: u32, more: &[&str]) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/schemathesis.toml");
    let mut arguments = vec!["--no-color", "--config-file", config.to_str().unwrap(), "run"];
    let (document, seconds) = (format!("{url}/openapi.json"), seconds.to_string());
    arguments.extend(["--max-time", &seconds, "--continue-on-failure", "--warnings", "off"]);
    arguments.extend(more);
    arguments.push(&document);
    let (output, said) = program("st", arguments.into_iter().map(str::to_owned).collect()).await;
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No issues found"), "{said}");
}

/// A deployment that asks for a key.
fn closed() -> Deployment {
    let data = tempfile::tempdir().unwrap();
    generate(data.path(), SYMBOL, DAYS, SEED);
    let file = data.path().join("admin-key");
    std::fs::write(&file, ADMIN).unwrap();
    let arguments = [&["--admin-key-file", file.to_str().unwrap()], BOUNDED.as_slice()].concat();
    Deployment::start_on(data, &arguments)
}

#[tokio::test]
async fn the_document_is_one_and_its_page_loads_nothing_from_elsewhere() {
    let deployment = Deployment::shared();
    let (status, document) = deployment.get("/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let (output, said) = program("openapi-spec-validator", vec!["--schema".into(), "3.1".into(), path]).await;
    assert!(output.status.success() && said.contains("OK"), "{said}");

    let page = deployment.client.get(deployment.url("/docs")).send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/docs/"));
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let page = page.text().await.unwrap();
    // What it is made of: all of it is served here, and no script stands in the page itself.
    let parts: Vec<_> = page
        .split(['"', '\''])
        .filter(|part| [".js", ".css"].iter().any(|end| part.ends_with(end)))
        .collect();
    assert!(parts.len() >= 4 && !page.contains("<script>"), "{page}");
    for part in parts {
        assert!(!part.contains("//"), "{part}");
        let url = deployment.url("/docs/").parse::<reqwest::Url>().unwrap().join(part).unwrap();
        let got = deployment.client.get(url).send().await.unwrap();
        assert_eq!(got.status(), 200, "{part}");
        if part.ends_with("swagger-initializer.js") {
            let text = got.text().await.unwrap();
            assert!(text.contains("/openapi.json") && !text.contains("https://"), "{text}");
        }
    }
    let (status, problem) = deployment.get("/docs/nothing.js").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn its_examples_are_accepted() {
    let deployment = Deployment::start(&["--allow-strategy-write"]);
    let client = Client::new(&deployment, "");
    let document = client.get("/openapi.json").await.body;
    let mut sent = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let examples = &operation["requestBody"]["content"]["application/json"]["examples"];
            for (name, example) in examples.as_object().into_iter().flatten() {
                let answer = client
                    .call(&method.to_uppercase(), &path.replace("{id}", "jobs"), Some(&example["value"]))
                    .await;
                assert!(answer.status < 300, "{path} {name}: {}", answer.body);
                sent += 1;
            }
        }
    }
    assert!(sent >= 9, "{sent}");
    // The one that computes is computed, too.
    let jobs = client.get("/v1/jobs?kind=var_calculation").await.body["jobs"].clone();
    let job = jobs[0]["job_id"].as_str().unwrap().to_owned();
    deployment.until(&job, |job| job["state"] == "succeeded").await;
}

#[tokio::test]
async fn whatever_is_sent_with_a_key_is_answered_as_the_document_says() {
    let deployment = closed();
    let key = format!("Authorization: Bearer {ADMIN}");
    sends_anything(&deployment.process.url, 40, &["--header", &key]).await;
    is_bounded(&deployment, ADMIN).await;
}

#[tokio::test]
async fn whatever_is_sent_without_a_key_is_answered_as_the_document_says() {
    // It wants a key; then, one that has none and serves whoever is on this machine.
    sends_anything(&closed().process.url, 10, &[]).await;
    let open = Deployment::start(&BOUNDED);
    sends_anything(&open.process.url, 10, &[]).await;
    is_bounded(&open, "").await;
}

/// What was sent has not made it keep more than it may, and it goes on to work.
async fn is_bounded(deployment: &Deployment, key: &str) {
    let client = Client::new(deployment, key);
    let health = client.get("/health").await;
    assert_eq!(health.body["status"], "healthy", "{}", health.body);
    let webhooks = client.get("/v1/webhooks").await.body;
    assert!(webhooks["webhooks"].as_array().unwrap().len() <= 50, "{webhooks}");
    let cache = client.get("/v1/cache").await.body;
    assert!(cache["bytes"].as_u64().unwrap() <= 64 << 20, "{cache}");
    let open: Value = client.get("/v1/jobs?state=queued,scheduled,running,waiting&limit=100").await.body;
    assert!(open["jobs"].is_array(), "{open}");
    let resumed = client.post("/v1/queue/resume", &json!({})).await;
    assert_eq!(resumed.status, 200, "{}", resumed.body);
}
