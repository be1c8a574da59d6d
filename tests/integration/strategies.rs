//! Strategies over HTTP and MCP: read, validate, write, delete, and whose code counts when several projects are there.

use std::process::Stdio;

use jobs::private_redis::PrivateRedis;
use serde_json::{Value, json};

use crate::{
    harness::{Deployment, EXCHANGE, Process, SYMBOL, binary, copy, fixtures, month, succeed, with},
    mcp::{call, call_checked, connect, structured},
};

const MAIN: &str = "strategies/Mine/__init__.py";

fn source(doc: &str) -> String {
    format!(
        "from jesse.strategies import Strategy\nimport jesse.indicators as ta\n\n\nclass Mine(Strategy):\n    \"\"\"{doc}\"\"\"\n\n    \
         def hyperparameters(self):\n        return [{{'name': 'period', 'type': int, 'min': 2, 'max': 90, 'default': 20}}]\n\n    \
         def should_long(self):\n        return self.price > ta.sma(self.candles, self.hp['period'])\n\n    \
         def should_cancel_entry(self):\n        return True\n\n    \
         def go_long(self):\n        self.buy = 0.1, self.price\n\n    \
         def update_position(self):\n        if not self.should_long():\n            self.liquidate()\n"
    )
}

#[tokio::test]
async fn a_strategy_is_read_with_what_it_imports() {
    let deployment = Deployment::shared();
    let (status, read) = deployment.get("/v1/strategies/Breakout").await;
    assert_eq!(status, 200, "{read}");
    let files: Vec<_> = read["files"].as_object().unwrap().keys().collect();
    let main = "strategies/Breakout/__init__.py";
    assert_eq!(files, ["indicators/__init__.py", "indicators/bands.py", main, "strategies/__init__.py"]);
    let on_disk = std::fs::read_to_string(deployment.project.join(main)).unwrap();
    assert_eq!(read["files"][main], json!(on_disk));
    assert!(read["bundle"].as_str().is_some_and(|bundle| bundle.len() == 64));

    let (_, one) = deployment.get("/v1/strategies/Breakout?file=indicators/bands.py").await;
    assert_eq!(one["files"].as_object().unwrap().len(), 1);
    let (status, problem) = deployment.get("/v1/strategies/Breakout?file=../../etc/passwd").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{problem}");
    let (status, problem) = deployment.get("/v1/strategies/Brekout").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    assert!(problem["detail"].as_str().unwrap().contains("did you mean \"Breakout\""), "{problem}");
    let (status, _) = deployment.get("/v1/strategies/..%2f..%2fetc").await;
    assert_eq!(status, 404);

    let client = connect(&deployment).await;
    let answer = call_checked(&client, "strategy_read", json!({"name": "SmaCross"})).await;
    assert!(structured(&answer)["files"]["strategies/SmaCross/__init__.py"].is_string());
    let answer = call(&client, "strategy_read", json!({"name": "Smacros"})).await;
    let error = &structured(&answer)["error"];
    assert_eq!((answer.is_error, &error["code"]), (Some(true), &json!("strategy_not_found")));
    assert!(error["message"].as_str().unwrap().contains("did you mean \"SmaCross\""), "{error}");
}

#[tokio::test]
async fn a_validation_says_what_is_wrong_where_or_what_can_be_set() {
    let deployment = Deployment::start(&["--allow-strategy-write"]);
    let validate = async |body: Value| deployment.post("/v1/strategies/validate?wait=120", &body).await;
    let (status, sound) = validate(json!({"source": source("Sound.")})).await;
    assert_eq!((status, &sound["valid"], &sound["name"]), (200, &json!(true), &json!("Mine")), "{sound}");
    assert_eq!(
        sound["hyperparameters"],
        json!([{"name": "period", "type": "int", "min": 2.0, "max": 90.0, "default": 20}])
    );
    // It is a job like others, and the same again is answered by the cache.
    let (_, again) = validate(json!({"source": source("Sound.")})).await;
    let (_, job) = deployment.get(&format!("/v1/jobs/{}", again["job_id"].as_str().unwrap())).await;
    assert_eq!((&job["kind"], &job["cached"]), (&json!("strategy_validate"), &json!(true)), "{job}");
    assert_eq!(job["summary"]["valid"], json!(true));

    let (_, broken) = validate(json!({"name": "Mine", "source": "import os\n\ndef f(:\n"})).await;
    assert_eq!(broken["valid"], json!(false));
    let expected = json!([{"message": "SyntaxError: invalid syntax", "file": MAIN, "line": 3, "column": 7}]);
    assert_eq!(broken["errors"], expected, "{broken}");
    let (_, quits) = validate(json!({"name": "Mine", "source": "import os\nos._exit(3)\n"})).await;
    assert_eq!(quits["valid"], json!(false), "{quits}");
    assert!(quits["errors"][0]["message"].as_str().unwrap().contains("status 3"), "{quits}");

    // What is not given is what the strategy has: only its own file is edited here.
    let on_disk = deployment.project.join("strategies/Breakout/__init__.py");
    let edited = std::fs::read_to_string(on_disk).unwrap() + "\n# edited\n";
    let (_, edited) = validate(json!({"name": "Breakout", "source": edited})).await;
    assert_eq!(edited["valid"], json!(true), "{edited}");

    for (body, words) in [
        (json!({}), "name: is missing"),
        (json!({"name": "../x", "source": ""}), "Python identifier"),
        (json!({"name": "Mine", "files": {"../../x.py": ""}}), "is not a path"),
        (json!({"name": "Mine", "files": {"helper.py": ""}}), "strategies/Mine/__init__.py is missing"),
        (json!({"name": "Mine", "source": "x".repeat(600_000)}), "at most 512 KB"),
    ] {
        let (status, problem) = validate(body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_spec")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{words}: {problem}");
    }

    let client = connect(&deployment).await;
    let answer = call_checked(
        &client,
        "strategy_validate",
        json!({"source": source("Sound.").replace("go_long", "go_lng"), "wait_seconds": 50}),
    )
    .await;
    let errors = structured(&answer)["errors"].clone();
    assert_eq!(errors[0]["message"], json!("the method go_long(self) -> None is missing"), "{errors}");
    assert_eq!(errors[0]["line"], json!(5));
}

#[tokio::test]
async fn writing_is_refused_unless_it_is_allowed() {
    let deployment = Deployment::shared();
    let new = json!({"source": source("Refused.")});
    let (status, problem) = deployment.post("/v1/strategies", &new).await;
    assert_eq!((status, &problem["code"]), (403, &json!("writing_not_allowed")), "{problem}");
    let delete = deployment.client.delete(deployment.url("/v1/strategies/SmaCross")).send().await.unwrap();
    assert_eq!(delete.status(), 403);
    // Importing is running code too: what would end the import is not noticed, what cannot be parsed is.
    for (tail, valid) in [("\nraise SystemExit\n", true), ("\nif:\n", false)] {
        let new = json!({"source": source("Not run.") + tail});
        let (status, found) = deployment.post("/v1/strategies/validate?wait=120", &new).await;
        assert_eq!((status, &found["valid"]), (200, &json!(valid)), "{found}");
    }
    let client = connect(&deployment).await;
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().all(|tool| tool.name != "strategy_write"));
}

#[tokio::test]
async fn what_is_written_runs_also_after_a_restart() {
    let mut deployment = Deployment::start(&["--allow-strategy-write"]);
    let spec = with(month("Mine"), &json!({"hyperparameters": {"period": 30}}));
    let write =
        async |deployment: &Deployment, body: Value| deployment.post("/v1/strategies?wait=120", &body).await;
    let (status, written) = write(&deployment, json!({"source": source("First.")})).await;
    assert_eq!((status, &written["written"]), (201, &json!(true)), "{written}");
    let ended = deployment.backtest(&spec).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let (_, listed) = deployment.get("/v1/strategies/Mine").await;
    assert_eq!((&listed["written"], &listed["doc"]), (&json!(true), &json!("First.")));
    assert_eq!(listed["files"], json!({MAIN: source("First.")}));

    let (status, problem) =
        write(&deployment, json!({"name": "Mine", "source": "class Mine:\n    pass\n"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("strategy_error")), "{problem}");
    assert_eq!(problem["errors"][0]["line"], json!(1));
    let taken = source("Shadows.").replace("Mine", "SmaCross");
    let (status, problem) = write(&deployment, json!({"source": taken})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("strategy_exists")), "{problem}");
    let client = connect(&deployment).await;
    let replaced = call_checked(
        &client,
        "strategy_write",
        json!({"source": taken, "replace": true, "wait_seconds": 50}),
    )
    .await;
    assert_eq!(structured(&replaced)["written"], json!(true), "{replaced:?}");
    let (_, shadow) = deployment.get("/v1/strategies/SmaCross").await;
    assert_eq!(shadow["doc"], json!("Shadows."));
    assert!(shadow["conflict"].as_str().unwrap().contains("instead of the project's"), "{shadow}");

    drop(client);
    assert!(deployment.process.stop().await);
    // Another machine's disk, as it were: the code comes from the blob store.
    std::fs::remove_dir_all(deployment.data.path().join("worker")).unwrap();
    let project = deployment.project.to_str().unwrap().to_owned();
    deployment.process =
        Process::up(deployment.data.path(), &["--project", &project, "--allow-strategy-write"]);
    assert_eq!(deployment.backtest(&spec).await["cached"], json!(true));
    let fresh = deployment.backtest(&with(spec.clone(), &json!({"balance": 12_345}))).await;
    assert_eq!((&fresh["state"], &fresh["cached"]), (&json!("succeeded"), &json!(false)), "{fresh}");

    for (name, status) in [("SmaCross", 204), ("SmaCross", 409), ("Mine", 204), ("Mine", 404)] {
        let url = deployment.url(&format!("/v1/strategies/{name}"));
        assert_eq!(deployment.client.delete(url).send().await.unwrap().status(), status, "{name}");
    }
    let (_, back) = deployment.get("/v1/strategies/SmaCross").await;
    assert_eq!(
        (&back["doc"], &back["conflict"]),
        (&json!("Crossover of two moving averages."), &Value::Null)
    );
}

#[tokio::test]
async fn projects_of_several_workers_are_offered_together() {
    let data = tempfile::tempdir().unwrap();
    let redis = PrivateRedis::start(&data.path().join("shared-redis")).await.unwrap();
    let url = redis.url().to_owned();
    let mut candles = binary();
    candles.args(["candles", "generate", "--exchange", EXCHANGE, "--symbol", SYMBOL, "--days", "70"]);
    succeed(candles.args(["--redis-url", &url, "--data"]).arg(data.path()));
    let [first, second] = ["first", "second"].map(|name| data.path().join(name));
    for (project, names) in [(&first, ["SmaCross", "ShortOnly"]), (&second, ["SmaCross", "NoTrades"])] {
        for name in names {
            let strategy = format!("strategies/{name}");
            copy(&fixtures().join("project").join(&strategy), &project.join(&strategy));
        }
    }
    let main = second.join("strategies/SmaCross/__init__.py");
    let other =
        std::fs::read_to_string(&main).unwrap().replace("Crossover of two", "Another crossover of two");
    std::fs::write(&main, other).unwrap();

    let mut up = Process::up(data.path(), &["--redis-url", &url, "--project", first.to_str().unwrap()]);
    let client = reqwest::Client::new();
    let list = async || {
        let list = client.get(format!("{}/v1/strategies", up.url)).send().await.unwrap();
        list.json::<Value>().await.unwrap()["strategies"].as_array().unwrap().clone()
    };
    assert_eq!(names(&list().await), ["ShortOnly", "SmaCross"]);
    let mut worker = binary();
    worker.args(["worker", "--redis-url", &url, "--data"]).arg(data.path()).arg("--project").arg(&second);
    let mut worker = Process::serving(worker.stdout(Stdio::null()).spawn().unwrap(), 0);
    let mut merged = list().await;
    let end = std::time::Instant::now() + crate::harness::LIMIT;
    while names(&merged) != ["NoTrades", "ShortOnly", "SmaCross"] {
        assert!(std::time::Instant::now() < end, "{merged:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        merged = list().await;
    }
    let sma = merged.iter().find(|strategy| strategy["name"] == "SmaCross").unwrap();
    assert_eq!(sma["doc"], json!("Another crossover of two moving averages."), "{sma}");
    let conflict = sma["conflict"].as_str().unwrap();
    assert!(conflict.contains("second on ") && conflict.contains("first on "), "{conflict}");

    // Each worker runs the strategies of both.
    assert!(worker.stop().await);
    for name in ["ShortOnly", "NoTrades"] {
        let job = json!({"kind": "backtest", "spec": month(name)});
        let ended = client.post(format!("{}/v1/jobs?wait=120", up.url)).json(&job).send().await.unwrap();
        let ended: Value = ended.json().await.unwrap();
        assert_eq!(ended["state"], "succeeded", "{name}: {ended}");
    }
    assert!(up.stop().await);
    redis.stop().await;
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter().map(|strategy| strategy["name"].as_str().unwrap()).collect()
}
