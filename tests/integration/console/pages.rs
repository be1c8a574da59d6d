//! Pages in a real browser: what happens is seen as it happens, everybody can use them, and nothing that others wrote runs in them.

use std::{path::Path, process::Command, sync::OnceLock};

use serde_json::{Value, json};

use super::forms::sent;
use crate::{
    browser::{Browser, LIGHT, Look},
    harness::{Deployment, EXCHANGE, LIMIT, SYMBOL, month, python, with},
    webhooks::receiver::{Receiver, Reply},
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

/// Waits until the newest delivery of a webhook has ended like that.
async fn delivered(deployment: &Deployment, webhook: &str, state: &str) {
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let (_, found) = deployment.get(&format!("/v1/webhooks/{webhook}/deliveries")).await;
        if found["deliveries"][0]["state"] == state {
            return;
        }
        assert!(std::time::Instant::now() < end, "{found}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_was_given_up_is_taken_up_again() {
    // It is down while the first two attempts are made.
    let receiver = Receiver::start(|_, before| Reply::Status(if before < 2 { 500 } else { 200 })).await;
    let arguments = ["--grace", "1", "--webhook-allow", "127.0.0.1", "--webhook-schedule", "0.1"];
    let deployment = Deployment::start(&arguments);
    let (_, webhook) = deployment.post("/v1/webhooks", &json!({"url": receiver.url("/")})).await;
    let text = |name: &str| webhook[name].as_str().unwrap_or_else(|| panic!("{webhook}")).to_owned();
    let (webhook, secret) = (text("id"), text("secret"));

    // A strategy that crashes the process that runs it, as often as it is tried. (A signal to itself would not: it is the first of its
    // sandbox.)
    let crash = r#"__import__("ctypes").string_at(0)"#;
    deployment.edit("ExitsProcess", |code| code.replace("os._exit(7)", crash));
    let mut poison = backtest("ExitsProcess");
    poison["max_attempts"] = json!(2);
    let dead = submit(&deployment, poison).await;
    assert_eq!(ended(&deployment, &dead).await["state"], "dead");
    let browser = Browser::start(LIGHT).await;
    let page = |path: &str| deployment.url(path);

    delivered(&deployment, &webhook, "failed").await;
    browser.open(&page("/console/webhooks")).await;
    browser.click(&format!(r#"a[href="/console/webhooks/{webhook}"]"#)).await;
    browser.until_text("td .state", "given up").await;
    browser.click(r#"td form[action$="/resend"] button"#).await;
    browser.until_text("[role=status]", "1 sent again").await;
    delivered(&deployment, &webhook, "delivered").await;
    browser.open(&page(&format!("/console/webhooks/{webhook}"))).await;
    browser.until_text("td .state", "delivered").await;
    browser.shot("webhook-resent").await;
    let came = receiver.received();
    assert_eq!(came.len(), 3, "{came:?}");
    let message = format!("msg_{dead}");
    assert!(came.iter().all(|one| one.id == message && one.is_signed_with(&secret)), "{came:?}");
    assert_eq!(came[2].event(), "job.dead");

    // Its strategy is mended, and the job runs once more on the code of today.
    browser.open(&page("/console/dead")).await;
    browser.until_text("td .state", "dead").await;
    browser.until_text("main", "killed by signal 11").await;
    browser.shot("dead").await;
    deployment.edit("ExitsProcess", |code| code.replace(crash, "return False"));
    browser.click(&format!(r#"form[action="/console/jobs/{dead}/again"] button"#)).await;
    browser.until_text(".standing", "succeeded").await;
    let again = browser.url().await;
    assert!(!again.contains(&dead), "{again}");
    browser.open(&page("/console/dead")).await;
    browser.until_text("td:last-child", "as").await;
    let (_, job) = deployment.get(&format!("/v1/jobs/{dead}")).await;
    assert!(again.ends_with(job["requeued_as"].as_str().unwrap()), "{job}");
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
        "/console/submit".to_owned(),
        format!("/console/submit?like={good}"),
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
        for (place, path) in pages.iter().enumerate() {
            browser.open(&deployment.url(path)).await;
            is_for_everybody(&browser, &format!("{path} {look:?}")).await;
            let wide = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
            assert!(wide.as_f64().unwrap() <= 0.0, "{path} {look:?} is {wide} too wide");
            let scheme = if look.dark { "dark" } else { "light" };
            browser.shot(&format!("page-{place:02}-{scheme}-{}", look.width)).await;
        }
        refused_forms_can_be_used_too(&browser, &deployment, look).await;
    }
    let (status, _) = deployment.post(&format!("/v1/jobs/{endless}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
}

/// What axe finds in the page that is open.
async fn is_for_everybody(browser: &Browser, what: &str) {
    browser.run(axe()).await;
    let found = browser
        .run_long("return (await axe.run(document)).violations.map((found) => `${found.id}: ${found.help}: ${found.nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`)")
        .await;
    assert_eq!(found, json!([]), "{what}");
}

/// Pages that answer a form which cannot be taken, and the one that shows a key.
async fn refused_forms_can_be_used_too(browser: &Browser, deployment: &Deployment, look: Look) {
    let scheme = if look.dark { "dark" } else { "light" };
    browser.open(&deployment.url("/console/submit")).await;
    fill_in(browser, "SmaCros").await;
    browser.fill("#hyperparameters", "{").await;
    browser.click("main form .main").await;
    browser.until_text("[role=alert]", "Nothing was done").await;
    is_for_everybody(browser, &format!("a refused backtest {look:?}")).await;
    browser.shot(&format!("submit-refused-{scheme}-{}", look.width)).await;
    // A key without a scope is none; one with a scope would close this deployment.
    browser.open(&deployment.url("/console/keys")).await;
    browser.run("document.querySelectorAll('[name=scope]').forEach((box) => (box.checked = false))").await;
    browser.click("main form .main").await;
    browser.until_text("#scopes-wrong", "choose at least one").await;
    is_for_everybody(browser, &format!("a refused key {look:?}")).await;
    browser.shot(&format!("key-refused-{scheme}-{}", look.width)).await;
}

/// A month of a strategy in the form for backtests.
async fn fill_in(browser: &Browser, strategy: &str) {
    let fields = [
        ("#strategy", strategy),
        ("#exchange", EXCHANGE),
        ("#symbol", SYMBOL),
        ("#start_date", "2023-02-01"),
        ("#finish_date", "2023-03-01"),
    ];
    for (field, value) in fields {
        browser.fill(field, value).await;
    }
}

#[tokio::test]
async fn a_key_is_made_in_a_browser_which_then_has_to_show_one() {
    let deployment = Deployment::start(&["--grace", "1"]);
    let browser = Browser::start(LIGHT).await;
    browser.open(&deployment.url("/console/keys")).await;
    browser.fill("#label", "of the console").await;
    browser.click("main form .main").await;
    browser.until_text(".made", "shown this once").await;
    is_for_everybody(&browser, "a key that was made").await;
    browser.shot("key-made-light").await;
    browser.look(Look { dark: true, ..LIGHT }).await;
    is_for_everybody(&browser, "a key that was made, dark").await;
    browser.shot("key-made-dark").await;
    let key = browser.text(".secret").await;
    // A server that had no keys looks for the first one every few seconds.
    let end = std::time::Instant::now() + LIMIT;
    while deployment.get("/v1/jobs").await.0 != 401 {
        assert!(std::time::Instant::now() < end, "no key is asked for");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    browser.open(&deployment.url("/console/jobs")).await;
    browser.fill("#key", &key).await;
    browser.click("main form .main").await;
    browser.until_text("h1", "Jobs").await;
    assert_eq!(browser.complaints().await.iter().filter(|told| !told.contains("401")).count(), 0);
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
    // A backtest is submitted, after one try with a mistake that the form shows.
    browser.open(&deployment.url("/console/jobs")).await;
    browser.click(r#"a[href="/console/submit"]"#).await;
    fill_in(&browser, "SmaCros").await;
    browser.click("main form .main").await;
    browser.until_text("#strategy-wrong", "did you mean \"SmaCross\"").await;
    browser.fill("#strategy", "SmaCross").await;
    browser.click("main form .main").await;
    browser.until_text("h1", "SmaCross").await;
}

/// What runs nowhere, but would if a page let it.
const HOSTILE: &str = "</script><script>document.title='pwned'</script><img src=x onerror=document.title='pwned'>\u{1b}[31m\u{202e}";

#[tokio::test]
async fn names_that_are_none_are_repeated_and_never_run() {
    let deployment = Deployment::start(&["--grace", "1"]);
    // A folder of the project has such a name too: all strategies are named to those who misspell one.
    let name = HOSTILE.replace('/', "|");
    std::fs::create_dir(deployment.project.join("strategies").join(&name)).unwrap();
    std::fs::write(deployment.project.join("strategies").join(&name).join("__init__.py"), "").unwrap();
    let long = "<script>".repeat(100_000);
    for (field, value) in [
        ("strategy", HOSTILE),
        ("strategy", &*name),
        ("strategy", &*long),
        ("symbol", HOSTILE),
        ("symbol", &*long),
        ("exchange", &*long),
    ] {
        let spec = with(month("SmaCross"), &json!({ field: value }));
        let request = json!({"kind": "backtest", "spec": spec});
        let answer = deployment.client.post(deployment.url("/v1/jobs")).json(&request).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let (status, problem) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!((status, kind.as_str()), (422, "application/problem+json"), "{field}");
        assert!(problem.len() < 8_000, "{field}: {}", problem.len());
    }
    let huge = with(month("SmaCross"), &json!({"strategy": "x".repeat(1 << 20)}));
    let (status, problem) = deployment.post("/v1/jobs", &json!({"kind": "backtest", "spec": huge})).await;
    assert_eq!((status, &problem["code"]), (413, &json!("payload_too_large")));

    let browser = Browser::start(LIGHT).await;
    for field in ["#strategy", "#symbol", "#exchange", "#hyperparameters", "#more", "#campaign"] {
        for value in [HOSTILE, &long[..16_000]] {
            browser.open(&deployment.url("/console/submit")).await;
            fill_in(&browser, "SmaCros").await;
            browser.fill(field, value).await;
            browser.click("main form .main").await;
            browser.until_text("[role=alert]", "Nothing was done").await;
            let title = browser.run("return document.title").await;
            assert_eq!(title, "New backtest · jesse-jobs", "{field}");
            let foreign = "return document.querySelectorAll('main img, main script').length";
            assert_eq!(browser.run(foreign).await, 0, "{field}");
            let told = browser.run("return [...document.querySelectorAll('.wrong, [role=alert]')].map((one) => one.textContent).join()").await;
            let told = told.as_str().unwrap();
            assert!(
                !told.contains('\u{202e}') && !told.contains('\u{1b}') && told.len() < 10_000,
                "{field}: {told}"
            );
        }
    }
    // That they are refused is all that there is to complain of.
    let told = browser.complaints().await;
    assert!(told.iter().all(|told| told.contains("responded with a status of 4")), "{told:?}");
    // Wherever a name is filled in for something else.
    for path in
        ["/console/jobs?campaign=", "/console/campaigns/", "/console/submit?like=", "/console/compare?job="]
    {
        browser.open(&deployment.url(&format!("{path}{}", sent(HOSTILE)))).await;
        let title = browser.run("return document.title").await;
        assert!(title.as_str().unwrap().ends_with("jesse-jobs"), "{path}: {title}");
        assert_eq!(
            browser.run("return document.querySelectorAll('main img[onerror], main script').length").await,
            0,
            "{path}"
        );
    }
}
