//! A Chromium without a screen, driven by WebDriver: a handful of calls with JSON, for which a library would bring twenty more crates.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::harness::LIMIT;

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub dark: bool,
    pub width: u32,
    pub scripts: bool,
}

pub const LIGHT: Look = Look { dark: false, width: 1280, scripts: true };

/// It ends with its test.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    http: reqwest::Client,
}

fn installed(names: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    all.into_iter().find(|file| file.is_file()).map(|file| file.display().to_string())
}

impl Browser {
    pub async fn start(look: Look) -> Self {
        let chromium = installed(&["chromium", "google-chrome", "chromium-browser"]);
        let chromium =
            chromium.unwrap_or_else(|| panic!("chromium is missing (scripts/setup tests installs it)"));
        let mut command = Command::new("chromedriver");
        let driver = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = driver.unwrap_or_else(|error| {
            panic!("chromedriver is missing (scripts/setup tests installs it): {error}")
        });
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        // `ChromeDriver was started successfully on port 40001.`
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.rsplit_once(" successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let mut browser = Self { driver, port: port.unwrap(), session: String::new(), http };
        // Containers in which tests run have no sandbox; all that is loaded is this server's.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let options = json!({"binary": chromium, "args": arguments});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let wanted = json!({"capabilities": {"alwaysMatch": wanted}});
        let made = browser.send("POST", "/session", &wanted).await;
        browser.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        browser.look(look).await;
        browser
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method.clone(), format!("http://127.0.0.1:{}{path}", self.port));
        let request = if method == reqwest::Method::POST { request.json(body) } else { request };
        let answer = tokio::time::timeout(LIMIT, request.send()).await.unwrap().unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path}: {}", answer["value"]["message"]);
        answer["value"].clone()
    }

    async fn call(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body).await
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    pub async fn look(&self, look: Look) {
        let Look { dark, width, scripts } = look;
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [scheme]})).await;
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !scripts})).await;
    }

    pub async fn open(&self, url: &str) {
        self.call("/url", &json!({"url": url})).await;
    }

    /// What a function's body returns. It runs with the rights of the driver, whatever the page forbids.
    pub async fn run(&self, script: &str) -> Value {
        self.call("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// The same for a promise.
    pub async fn run_long(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done(String(e)));"
        );
        self.call("/execute/async", &json!({"script": script, "args": []})).await
    }

    /// The first element that fits.
    async fn find(&self, selector: &str) -> String {
        let found = self.call("/element", &json!({"using": "css selector", "value": selector})).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.call(&format!("/element/{element}/click"), &json!({})).await;
    }

    /// Fills in a field of a form.
    pub async fn fill(&self, selector: &str, text: &str) {
        let field = json!(selector);
        self.run(&format!("document.querySelector({field}).value = {}", json!(text))).await;
    }

    /// Keys, to whatever has the focus.
    pub async fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.call("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await;
    }

    /// The text of what fits, read without scripts of the page.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await;
        let path = format!("/session/{}/element/{element}/text", self.session);
        self.send("GET", &path, &Value::Null).await.as_str().unwrap_or_default().to_owned()
    }

    pub async fn url(&self) -> String {
        let path = format!("/session/{}/url", self.session);
        self.send("GET", &path, &Value::Null).await.as_str().unwrap().to_owned()
    }

    /// Waits until a function's body returns something else than null, false or an empty list.
    pub async fn until(&self, script: &str) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = self.run(script).await;
            if !(answer.is_null() || answer == false || answer == json!([])) {
                return answer;
            }
            assert!(Instant::now() < end, "never: {script}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looks into a frame of the page by its place, or at the page itself again.
    pub async fn frame(&self, place: Option<u32>) {
        self.call("/frame", &json!({"id": place})).await;
    }

    /// The window as PNG. For people to look at it, it is kept in the folder that `JESSE_JOBS_SHOTS` names.
    pub async fn shot(&self, name: &str) -> Vec<u8> {
        let path = format!("/session/{}/screenshot", self.session);
        let png = BASE64.decode(self.send("GET", &path, &Value::Null).await.as_str().unwrap()).unwrap();
        if let Some(folder) = std::env::var_os("JESSE_JOBS_SHOTS") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &png).unwrap();
        }
        png
    }

    /// Waits until the page says this.
    pub async fn until_text(&self, selector: &str, wanted: &str) {
        let end = Instant::now() + LIMIT;
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        loop {
            let text = self.run(&script).await;
            if text.as_str().is_some_and(|text| text.contains(wanted)) {
                return;
            }
            assert!(Instant::now() < end, "{selector} never said {wanted:?}: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the browser complained of since it was asked last, such as what a page's policy forbids.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.call("/se/log", &json!({"type": "browser"})).await;
        let entries = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without a goodbye the driver would leave the browser behind.
        let goodbye = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            self.session
        );
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _gone = driver.write_all(goodbye.as_bytes());
            // It answers once the browser is gone, and keeps the connection.
            let _gone = driver.set_read_timeout(Some(Duration::from_secs(10)));
            let _gone = driver.read(&mut [0; 512]);
        }
        let _gone = self.driver.kill();
        let _gone = self.driver.wait();
    }
}
