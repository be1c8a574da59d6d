//! Pages in a real browser: what happens is seen as it happens, everybody can use them, and nothing that others wrote runs in them.

use std::{path::Path, process::Command, sync::OnceLock};

use serde_json::{Value, json};

use crate::{
    browser::{Browser, LIGHT, Look},
    harness::{Deployment, month, python, with},
};

/// The whole of axe-core, as a script.
fn axe() -> &'static str {
    static AXE: OnceLock<String> = OnceLock::new();
    AXE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut install = Command::new(root.join("scripts/clients"));
        let output = install.args(["node", "axe"]).env("JESSE_PYTHON", python()).output().unwrap();
        assert!(
            output.status.success(),
            "scripts/clients failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read_to_string(root.join("target/clients/axe/node_modules/axe-core/axe.min.js")).unwrap()
    })
}

async fn submit(deployment: &Deployment, request: Value) -> String {
    let (status, job) = deployment.post("/v1/jobs", &request).await;
    assert!(status < 300, "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

fn backtest(strategy: &str) -> Value {
    json!({"kind": "backtest", "spec": month(strategy)})
}

async fn ended(deployment: &Deployment, job: &str) -> Value {
    let open = ["queued", "scheduled", "running", "waiting"];
    deployment.until(job, |job| !open.contains(&job["state"].as_str().unwrap())).await
}

/// The end of an id, by which pages show a job.
fn short(job: &str) -> &str {
    job.rsplit('-').next().unwrap()
}

#[tokio::test]
async fn what_happens_is_seen_as_it_happens_and_can_be_acted_on() {
    let deployment = Deployment::start(&["--grace", "1"]);
    let browser = Browser::start(LIGHT).await;
    let page = |path: &str| deployment.url(path);

    // A job comes up on the first page while somebody looks at it.
    browser.open(&page("/")).await;
    browser.until_text("#link", "live").await;
    browser.run("window.before = true").await;
    let first = submit(&deployment, backtest("SmaCross")).await;
    browser.until_text("#live", short(&first)).await;
    browser.until_text("#live", "succeeded").await;
    assert_eq!(browser.run("return window.before").await, true, "it was loaded anew");

    // One that waits: it is watched until it has its result, and the page shows that by itself.
    browser.click(r#"form[action$="/pause"] button"#).await;
    browser.until_text("#live", "The queue is paused").await;
    let second = json!({"kind": "backtest", "spec": with(month("SmaCross"), &json!({"hyperparameters": {"fast": 10}}))});
    let second = submit(&deployment, second).await;
    browser.open(&page(&format!("/console/jobs/{second}"))).await;
    browser.until_text(".standing", "queued").await;
    browser.until_text("#link", "live").await;
    let (status, _) = deployment.post("/v1/queue/resume", &json!({})).await;
    assert_eq!(status, 200);
    browser.until_text(".standing", "succeeded").await;
    browser.until_text("main", "Returns by month").await;

    // The chart: drawn, told to those who do not see it, and used with keys.
    browser.until_text(".chart-legend", "Equity").await;
    let told =
        browser.run("return document.querySelector('.chart svg[role=img]').getAttribute('aria-label')").await;
    assert!(
        told.as_str().unwrap().contains("Deepest drawdown") || told.as_str().unwrap().contains("No drawdown"),
        "{told}"
    );
    browser.run("document.querySelector('.chart-plot').focus()").await;
    let range = "const {from, to} = document.querySelector('[data-chart]').chart; return to - from";
    let whole = browser.run(range).await.as_f64().unwrap();
    browser.press("+").await;
    assert!(browser.run(range).await.as_f64().unwrap() < whole);
    browser.press("\u{e012}").await;
    let read = browser.run("return document.querySelector('.chart-unseen').textContent").await;
    assert!(read.as_str().unwrap().contains("Equity "), "{read}");
    browser.press("\u{e00c}").await;
    assert_eq!(browser.run(range).await.as_f64().unwrap().to_bits(), whole.to_bits());

    // Two are compared.
    browser.open(&page("/console/jobs")).await;
    for job in [&first, &second] {
        browser.click(&format!(r#"input[value="{job}"]"#)).await;
    }
    browser.click(".pick > button").await;
    browser.until_text("main", "What they differ in").await;
    browser.until_text(".chart-legend", short(&first).split_at(8).1).await;

    // One that never ends is cancelled.
    let endless = submit(&deployment, backtest("LoopsForever")).await;
    browser.open(&page(&format!("/console/jobs/{endless}"))).await;
    browser.until_text(".standing", "running").await;
    browser.click(r#"form[action$="/cancel"] button"#).await;
    browser.until_text(".standing", "cancelled").await;

    // One that failed is run once more.
    let failed = submit(&deployment, backtest("RaisesWhileRunning")).await;
    ended(&deployment, &failed).await;
    browser.open(&page("/console/dead")).await;
    browser.until_text("main", "no luck at candle 100").await;
    browser.click(&format!(r#"form[action="/console/jobs/{failed}/again"] button"#)).await;
    browser.until_text("h1", "RaisesWhileRunning").await;
    let again = browser.url().await;
    assert!(again.contains("/console/jobs/") && !again.contains(&failed), "{again}");
    browser.open(&page(&format!("/console/jobs/{failed}"))).await;
    browser.until_text(".standing", "runs again as").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn everybody_can_use_every_page_in_both_colour_schemes() {
    let deployment = Deployment::start(&["--grace", "1"]);
    let good = json!({"kind": "backtest", "spec": with(month("SmaCross"), &json!({"benchmark": true})), "campaign": "Ideas"});
    let good = submit(&deployment, good).await;
    let failed = submit(&deployment, backtest("RaisesWhileRunning")).await;
    let printed = submit(&deployment, backtest("PrintsMuch")).await;
    let grid = json!({"hyperparameters": {"fast": [5, 10], "slow": [40, 60]}});
    let (_, batch) = deployment.post("/v1/batches", &json!({"base": month("SmaCross"), "grid": grid})).await;
    let batch = batch["job_id"].as_str().unwrap_or_else(|| panic!("{batch}")).to_owned();
    let (_, webhook) = deployment.post("/v1/webhooks", &json!({"url": "https://example.com/hook"})).await;
    for job in [&good, &failed, &printed, &batch] {
        ended(&deployment, job).await;
    }
    let endless = submit(&deployment, backtest("LoopsForever")).await;
    let pages = [
        "/".to_owned(),
        "/console/login".to_owned(),
        "/console/jobs".to_owned(),
        format!("/console/jobs/{good}"),
        format!("/console/jobs/{failed}"),
        format!("/console/jobs/{printed}"),
        format!("/console/jobs/{endless}"),
        "/console/jobs/nonsense".to_owned(),
        format!("/console/batches/{batch}"),
        "/console/campaigns".to_owned(),
        "/console/campaigns/Ideas".to_owned(),
        format!("/console/compare?job={good},{printed}"),
        "/console/dead".to_owned(),
        "/console/webhooks".to_owned(),
        format!("/console/webhooks/{}", webhook["id"].as_str().unwrap()),
        "/console/cache".to_owned(),
        "/console/keys".to_owned(),
    ];
    let browser = Browser::start(LIGHT).await;
    for look in [LIGHT, Look { dark: true, ..LIGHT }, Look { width: 390, ..LIGHT }] {
        browser.look(look).await;
        for path in &pages {
            browser.open(&deployment.url(path)).await;
            browser.run(axe()).await;
            let found = browser
                .run_long("return (await axe.run(document)).violations.map((found) => `${found.id}: ${found.help}: ${found.nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`)")
                .await;
            assert_eq!(found, json!([]), "{path} {look:?}");
            let wide = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
            assert!(wide.as_f64().unwrap() <= 0.0, "{path} {look:?} is {wide} too wide");
        }
    }
    let (status, _) = deployment.post(&format!("/v1/jobs/{endless}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_others_wrote_is_shown_and_never_runs() {
    let deployment = Deployment::start(&[]);
    let evil =
        "</script></pre><script>document.title='pwned'</script><img src=x onerror=document.title='pwned'>";
    deployment.edit("RaisesWhileRunning", |code| {
        let print = format!("print({evil:?} + '\\x1b[31mred\\x1b[0m\\u202e' + 'x' * (1 << 20))\n            raise ValueError({evil:?} * 2 + 'no luck at candle 100')\n            raise");
        code.replacen("raise", &print, 1)
    });
    let name: String = evil[15..].chars().take(60).collect();
    let request = json!({"kind": "backtest", "spec": month("RaisesWhileRunning"), "campaign": name, "labels": {"<b>name": name}});
    let job = submit(&deployment, request).await;
    let job = ended(&deployment, &job).await;
    assert!(job["error"]["message"].as_str().unwrap().contains("<script>"), "{job}");
    let id = job["job_id"].as_str().unwrap();
    let browser = Browser::start(LIGHT).await;
    for path in [
        format!("/console/jobs/{id}"),
        "/console/jobs".into(),
        "/console/dead".into(),
        "/console/campaigns".into(),
        "/".into(),
    ] {
        browser.open(&deployment.url(&path)).await;
        let title = browser.run("return document.title").await;
        assert!(title.as_str().unwrap().ends_with("jesse-jobs"), "{path}: {title}");
        let foreign = "return [...document.querySelectorAll('main img[onerror], main script:not([type=\"application/json\"])')].length";
        assert_eq!(browser.run(foreign).await, 0, "{path}");
        let size = browser.run("return document.documentElement.outerHTML.length").await.as_u64().unwrap();
        assert!(size < 400_000, "{path}: {size}");
    }
    browser.open(&deployment.url(&format!("/console/jobs/{id}"))).await;
    let page = browser.run("return document.querySelector('main').textContent").await;
    let page = page.as_str().unwrap();
    assert!(page.contains("<script>document.title") && page.contains("<b>name"), "{page}");
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn without_scripts_pages_are_read_and_acted_on() {
    let deployment = Deployment::start(&["--grace", "1"]);
    let good = submit(&deployment, backtest("SmaCross")).await;
    ended(&deployment, &good).await;
    let endless = submit(&deployment, backtest("LoopsForever")).await;
    deployment.until(&endless, |job| job["state"] == "running").await;
    let browser = Browser::start(Look { scripts: false, ..LIGHT }).await;
    browser.open(&deployment.url(&format!("/console/jobs/{good}"))).await;
    let text = browser.text("main").await;
    for words in ["succeeded", "Sharpe ratio", "Returns by month", "Trades", "Asked for"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // In place of what a script would draw.
    let drawn = browser
        .run("const drawn = document.querySelector('.drawn'); return drawn.complete && drawn.naturalWidth")
        .await;
    assert!(drawn.as_u64().is_some_and(|width| width > 100), "{drawn}");
    browser.open(&deployment.url(&format!("/console/jobs/{endless}"))).await;
    assert!(browser.text(".standing").await.contains("running"));
    browser.click(r#"form[action$="/cancel"] button"#).await;
    browser.until_text(".standing", "cancelled").await;
}
