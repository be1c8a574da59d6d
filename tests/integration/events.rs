//! A job as server-sent events.

use serde_json::{Value, json};

use crate::harness::{Deployment, LIMIT, month, with};

/// One event as it was sent.
#[derive(Debug)]
struct Told {
    name: String,
    id: String,
    job: Value,
}

/// An open stream of events, read one by one.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(deployment: &Deployment, job: &str, seen: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(deployment.url(&format!("/v1/jobs/{job}/events")));
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let response = request.send().await.unwrap();
        Self { response, text: String::new() }
    }

    fn header(&self, name: &str) -> &str {
        self.response.headers()[name].to_str().unwrap()
    }

    /// `None` once the server has ended it.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, _)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start().to_owned())
                };
                let told = field("data:").map(|data| Told {
                    name: field("event:").unwrap(),
                    id: field("id:").unwrap(),
                    job: serde_json::from_str(&data).unwrap(),
                });
                self.text.drain(..event.len() + 2);
                if told.is_some() {
                    return told;
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_and_a_client_that_comes_again_hears_of_what_differs() {
    let deployment = Deployment::shared();
    let new = json!({"kind": "backtest", "spec": month("LoopsForever"), "cache": "off"});
    let (_, accepted) = deployment.post("/v1/jobs", &new).await;
    let job = accepted["job_id"].as_str().unwrap();
    deployment.until(job, |view| view["state"] == "running").await;

    let mut stream = Stream::open(&deployment, job, None).await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert_eq!(stream.header("cache-control"), "no-store");
    let first = stream.next().await.unwrap();
    assert_eq!(
        (&*first.name, &first.job["state"], &first.job["job_id"]),
        ("job", &json!("running"), &json!(job))
    );

    // Who knows how it stands hears of the next change only.
    let mut again = Stream::open(&deployment, job, Some(&first.id)).await;
    deployment.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    for stream in [&mut stream, &mut again] {
        let mut last = stream.next().await.unwrap();
        while last.name == "job" {
            assert_eq!(last.job["state"], "running", "progress");
            last = stream.next().await.unwrap();
        }
        assert_eq!((&*last.name, &last.job["state"]), ("end", &json!("cancelled")));
        assert!(stream.next().await.is_none(), "it ends with the job");
    }

    let mut late = Stream::open(&deployment, job, Some(&first.id)).await;
    let end = late.next().await.unwrap();
    assert_eq!((&*end.name, &end.job["state"]), ("end", &json!("cancelled")));
    let over = Stream::open(&deployment, job, Some(&end.id)).await;
    assert_eq!(over.response.status(), 204, "nothing will come any more");
}

#[tokio::test]
async fn every_state_on_the_way_is_told_and_a_batch_can_be_followed_too() {
    let deployment = Deployment::shared();
    let grid = json!({"base": with(month("SmaCross"), &json!({"balance": 12_345})), "grid": {"fee": [0.0011, 0.0012]}});
    let (_, accepted) = deployment.post("/v1/batches", &grid).await;
    let mut stream = Stream::open(&deployment, accepted["job_id"].as_str().unwrap(), None).await;
    let mut states = Vec::new();
    while let Some(told) = stream.next().await {
        states.push((told.name, told.job["jobs"]["open"].as_u64().unwrap()));
    }
    assert_eq!(states.last().unwrap(), &("end".to_owned(), 0));
    assert!(states.is_sorted_by_key(|(_, open)| std::cmp::Reverse(*open)), "{states:?}");
}

#[tokio::test]
async fn what_cannot_be_followed_is_said() {
    let deployment = Deployment::shared();
    let (status, problem) = deployment.get("/v1/jobs/0199aaaa-0000-7000-8000-000000000000/events").await;
    assert_eq!((status, &problem["code"]), (404, &json!("job_not_found")));
    let (status, problem) = deployment.get("/v1/jobs/no-id/events").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));
}
