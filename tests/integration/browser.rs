//! A headless Chromium, by the WebDriver protocol (W3C), as much of it as these tests need.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::harness::LIMIT;

/// `None`, having said so, where there is no Chromium: `scripts/setup tests` installs it where it can.
pub fn program() -> Option<&'static str> {
    let there = |name: &&str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    let found = ["chromedriver", "/usr/lib/chromium-browser/chromedriver"].into_iter().find(there);
    if found.is_none() {
        eprintln!(
            "skipped: no chromedriver; `scripts/setup tests` installs it, or chromium-driver of Debian"
        );
    }
    found
}

/// A browser of its own, which ends with it.
pub struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
}

impl Browser {
    pub async fn start(program: &str, (width, height): (u32, u32)) -> Self {
        let mut driver = Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        // It says where it listens, and then no more than a pipe holds.
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let port = line.split_once("started successfully on port ")?.1.trim_end_matches('.').to_owned();
            port.parse::<u16>().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let url = format!("http://127.0.0.1:{}/session", port.unwrap());
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--force-device-scale-factor=1", format!("--window-size={width},{height}")]});
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}});
        let mut browser = Self { driver, session: url, client };
        let made = browser.ask("", Some(&wanted)).await;
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    async fn ask(&self, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.session);
        let request = match body {
            Some(body) => self.client.post(url).body(body.to_string()),
            None => self.client.get(url),
        };
        let answer = request.timeout(LIMIT).send().await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.ask("/url", Some(&json!({"url": url}))).await;
    }

    /// What the body of a function answers that runs in the page.
    pub async fn script(&self, script: &str) -> Value {
        self.ask("/execute/sync", Some(&json!({"script": script, "args": []}))).await
    }

    /// Waits until a script answers something else than null, false or an empty list.
    pub async fn until(&self, script: &str) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = self.script(script).await;
            if !(answer.is_null() || answer == false || answer == json!([])) {
                return answer;
            }
            assert!(Instant::now() < end, "never: {script}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looks into a frame of the page by its place, or at the page itself again.
    pub async fn frame(&self, place: Option<u32>) {
        self.ask("/frame", Some(&json!({"id": place}))).await;
    }

    /// The window as PNG. For people to look at it, it is kept in the folder that `JESSE_JOBS_SHOTS` names.
    pub async fn shot(&self, name: &str) -> Vec<u8> {
        let png = BASE64.decode(self.ask("/screenshot", None).await.as_str().unwrap()).unwrap();
        if let Some(folder) = std::env::var_os("JESSE_JOBS_SHOTS") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &png).unwrap();
        }
        png
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its browser with it.
        let _gone = Command::new("kill").arg("-TERM").arg(self.driver.id().to_string()).status();
        let _ended = self.driver.wait();
    }
}
