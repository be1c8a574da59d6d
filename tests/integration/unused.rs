//! Candles and code that nothing refers to leave the store, end to end: no job loses what it was planned with, and what is
//! needed again is stored again, under the same names and with the same results.
use std::{collections::HashSet, path::Path, time::Duration};

use jesse::references::inputs_in_use;
use jobs::{
    Collected, Patience, Queue, Redis, Retention,
    blobs::{BlobId, BlobStore, Blobs},
    collect_unused,
    private_redis::PrivateRedis,
};
use serde_json::{Value, json};

use crate::{
    candles::of,
    harness::{Deployment, SEED, SYMBOL, generate_on, month, succeed},
};

/// What nothing refers to goes at once, as far as jobs let it.
const NONE: Patience = Patience { keep: Duration::ZERO, margin: Duration::ZERO };

/// The deployment's queue and inputs, as a worker that sweeps sees them.
struct Sweeper {
    queue: Queue,
    inputs: BlobStore,
}

impl Sweeper {
    /// Does what a worker does once an hour, without its patience.
    async fn sweep(&self) -> Collected {
        let in_use = async || inputs_in_use(self.queue.redis(), &self.inputs).await;
        let mut last = Collected::default();
        // What the first notes as unused is due for one in a later millisecond.
        for _ in 0..2 {
            let swept = collect_unused(&self.queue, &self.inputs, in_use, NONE).await.unwrap();
            last = Collected { removed: last.removed + swept.removed, waiting: swept.waiting };
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        last
    }

    async fn has(&self, id: &BlobId) -> bool {
        self.inputs.get(id).await.unwrap().is_some()
    }
}

/// The candles and the code that a result was computed from.
fn inputs_of(result: &Value) -> HashSet<BlobId> {
    let receipt = &result["provenance"];
    let candles =
        receipt["candles"].as_array().unwrap().iter().flat_map(|series| series["chunks"].as_array().unwrap());
    let code = receipt["bundles"].as_array().unwrap();
    candles.chain(code).map(|id| id.as_str().unwrap().parse().unwrap()).collect()
}

/// What a worker keeps on its disk: without it, it fetches all anew.
fn forget_what_the_worker_has(data: &Path) {
    for folder in ["candles", "bundles"] {
        let folder = data.join("worker").join(folder);
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        }
    }
}

#[tokio::test]
async fn inputs_go_when_nothing_needs_them_and_come_back_as_they_were() {
    let redis_folder = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(redis_folder.path()).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let at_redis = ["--redis-url", redis.url()];
    generate_on(data.path(), SYMBOL, 70, SEED, &at_redis);
    let deployment = Deployment::start_on(data, &[&at_redis[..], &["--workers", "2"]].concat());
    let data = deployment.data.path();
    let sweeper = Sweeper {
        queue: Queue::new(Redis::open(redis.url(), "jj", 2).unwrap(), Retention::default()),
        inputs: Blobs::in_folder(&data.join("blobs")).unwrap().inputs,
    };
    let result_of = async |job: &Value| {
        assert_eq!(job["state"], "succeeded", "{job}");
        let id = job["job_id"].as_str().unwrap();
        deployment.get(&format!("/v1/jobs/{id}/result")).await.1
    };

    let first = result_of(&deployment.backtest(&month("SmaCross")).await).await;
    let inputs = inputs_of(&first);
    assert!(inputs.len() >= 3, "two months and a bundle: {inputs:?}");
    assert_eq!(sweeper.sweep().await, Collected { removed: 0, waiting: 0 }, "all is referred to");

    // One job runs on the code and the candles of now, one waits for its turn with them.
    let submit = async |spec: Value| {
        let job = json!({"kind": "backtest", "spec": spec, "cache": "off"});
        deployment.post("/v1/jobs", &job).await.1["job_id"].as_str().unwrap().to_owned()
    };
    let endless = submit(month("LoopsForever")).await;
    deployment.until(&endless, |view| view["state"] == "running").await;
    deployment.post("/v1/queue/pause", &json!({})).await;
    let waiting = submit(month("SmaCross")).await;

    // Their code and their candles are replaced, and nothing names them any more.
    let own = data.join("own.csv");
    succeed(of(data, SYMBOL, &["export", own.to_str().unwrap()]).args(at_redis));
    let text = std::fs::read_to_string(&own).unwrap();
    let other = data.join("other.csv");
    std::fs::write(&other, with_other_volumes(&text)).unwrap();
    let seed = SEED.to_string();
    let import = |file: &Path| {
        let arguments = ["import", file.to_str().unwrap(), "--synthetic", &seed];
        succeed(of(data, SYMBOL, &arguments).args(at_redis));
    };
    import(&other);
    deployment.edit("SmaCross", |text| format!("{text}\n# another version\n"));
    // Whoever asks what there is has the worker look.
    assert_eq!(deployment.get("/v1/strategies").await.0, 200);
    let removed = deployment.post("/v1/cache/invalidate", &json!({"all": true})).await.1;
    assert_eq!(removed["invalidated"], 1, "{removed}");
    forget_what_the_worker_has(data);
    let swept = sweeper.sweep().await;
    assert_eq!(swept.removed, 0, "two open jobs were planned with them");
    assert!(swept.waiting >= inputs.len() as u64, "{swept:?}");

    deployment.post("/v1/queue/resume", &json!({})).await;
    // The one that waited gets what it was planned with, and finds the same.
    let done = deployment.until(&waiting, |view| view["state"] == "succeeded").await;
    let found = result_of(&done).await;
    assert_eq!((&found["metrics"], &found["trades"]), (&first["metrics"], &first["trades"]));
    assert_eq!(inputs_of(&found), inputs);
    assert_eq!(sweeper.sweep().await.removed, 0, "one goes on");

    // With the last of them they go, from the store and with the worker's disk.
    deployment.post(&format!("/v1/jobs/{endless}/cancel"), &json!({})).await;
    let swept = sweeper.sweep().await;
    assert!(swept.removed >= inputs.len() && swept.waiting == 0, "{swept:?}");
    for id in &inputs {
        assert!(!sweeper.has(id).await, "{id}");
    }
    forget_what_the_worker_has(data);

    // The same code and the same candles again are the same inputs, with the same result to the last digit.
    import(&own);
    deployment.edit("SmaCross", |text| text.replace("\n# another version\n", ""));
    let again = deployment.backtest(&month("SmaCross")).await;
    assert_eq!(again["cached"], json!(false), "{again}");
    let again = result_of(&again).await;
    assert_eq!(inputs_of(&again), inputs);
    for id in &inputs {
        assert!(sweeper.has(id).await, "{id}");
    }
    assert_eq!(again["provenance"]["cache_key"], first["provenance"]["cache_key"]);
    assert_eq!(
        (&again["metrics"], &again["trades"], &again["equity_curve"]),
        (&first["metrics"], &first["trades"], &first["equity_curve"])
    );
}

/// The same candles with a volume of one more each: other content in every month, and other days for every key.
fn with_other_volumes(text: &str) -> String {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let volume = header.iter().position(|name| *name == "volume").unwrap();
    let changed = lines.map(|line| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[volume] = (values[volume].parse::<f64>().unwrap() + 1.0).to_string();
        values.join(",")
    });
    std::iter::once(header.join(",")).chain(changed).collect::<Vec<_>>().join("\n") + "\n"
}
