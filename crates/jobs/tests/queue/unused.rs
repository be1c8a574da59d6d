//! Inputs that nothing refers to leave the store, and no others do.
use std::{cell::Cell, collections::HashSet, path::PathBuf, time::Duration, time::SystemTime};

use jobs::{
    Collected, Patience, QueueError,
    blobs::{BlobId, BlobStore, Blobs},
    collect_unused,
};

use crate::support::{Bench, key_of, success};

const HOUR: Duration = Duration::from_hours(1);
/// What nothing refers to goes at once, as far as jobs let it.
const NONE: Patience = Patience { keep: Duration::ZERO, margin: Duration::ZERO };

/// Whatever goes wrong.
type Failure = Box<dyn std::error::Error>;

/// A queue, and inputs in a folder.
struct Inputs {
    bench: Bench,
    folder: tempfile::TempDir,
    store: BlobStore,
}

impl Inputs {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Blobs::in_folder(folder.path()).unwrap().inputs;
        Self { bench: Bench::new().await, folder, store }
    }

    async fn put(&self, text: &str) -> BlobId {
        self.store.put(text.to_owned().into()).await.unwrap()
    }

    async fn has(&self, id: &BlobId) -> bool {
        self.store.get(id).await.unwrap().is_some()
    }

    async fn sweep(&self, used: &[&BlobId], patience: Patience) -> Collected {
        let in_use = async || Ok::<_, Failure>(used.iter().map(|id| (*id).clone()).collect::<HashSet<_>>());
        let collected = collect_unused(&self.bench.queue, &self.store, in_use, patience).await.unwrap();
        // What is noted now is due in the next millisecond at the earliest.
        let now = self.bench.now_ms().await;
        while self.bench.now_ms().await == now {}
        collected
    }

    fn marks(&self) -> String {
        format!("{{{}}}:unused:inputs", self.bench.server.name())
    }

    /// As if it had been seen as unused two hours ago for the first time.
    async fn unused_for_two_hours(&self, id: &BlobId) {
        let then = (self.bench.now_ms().await - 2 * 3_600_000).to_string();
        let changed: u64 = self.bench.command(&["ZADD", &self.marks(), "XX", "CH", &then, id.as_str()]).await;
        assert_eq!(changed, 1, "it was seen as unused");
    }

    fn stored_two_hours_ago(&self, id: &BlobId) {
        let name = PathBuf::from("inputs").join(&id.as_str()[..2]).join(format!("{id}.zst"));
        let file = std::fs::File::options().write(true).open(self.folder.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }
}

fn collected(removed: usize, waiting: u64) -> Collected {
    Collected { removed, waiting }
}

#[tokio::test]
async fn what_nothing_refers_to_goes_after_its_time_and_nothing_else() {
    let inputs = Inputs::new().await;
    let patience = Patience { keep: HOUR, margin: Duration::ZERO };
    let [used, old, new] = [inputs.put("used").await, inputs.put("old").await, inputs.put("new").await];
    for id in [&used, &old, &new] {
        inputs.stored_two_hours_ago(id);
    }
    assert_eq!(
        inputs.sweep(&[&used], patience).await,
        collected(0, 2),
        "however old: it was in use until now"
    );
    inputs.unused_for_two_hours(&old).await;
    assert_eq!(inputs.sweep(&[&used], patience).await, collected(1, 1));
    assert!(inputs.has(&used).await && inputs.has(&new).await && !inputs.has(&old).await);

    // In use again in between: its time begins anew.
    inputs.unused_for_two_hours(&new).await;
    assert_eq!(inputs.sweep(&[&used, &new], patience).await, collected(0, 0));
    assert_eq!(inputs.sweep(&[&used], patience).await, collected(0, 1));
    assert!(inputs.has(&new).await);
    // Stored again by somebody who is about to refer to it.
    inputs.unused_for_two_hours(&new).await;
    inputs.put("new").await;
    assert_eq!(inputs.sweep(&[&used], patience).await, collected(0, 0));
    assert!(inputs.has(&new).await);
}

#[tokio::test]
async fn what_is_referred_to_while_a_sweep_runs_stays() {
    let inputs = Inputs::new().await;
    let id = inputs.put("replaced, and put back").await;
    assert_eq!(inputs.sweep(&[], Patience { keep: HOUR, margin: HOUR }).await, collected(0, 1));
    let looks = Cell::new(0);
    let in_use = async || {
        looks.set(looks.get() + 1);
        Ok::<_, Failure>(if looks.get() == 1 { HashSet::new() } else { HashSet::from([id.clone()]) })
    };
    let swept = collect_unused(&inputs.bench.queue, &inputs.store, in_use, NONE).await.unwrap();
    assert_eq!((swept, looks.get()), (collected(0, 0), 2));
    assert!(inputs.has(&id).await);
}

#[tokio::test]
async fn nothing_goes_while_the_references_are_not_known() {
    let inputs = Inputs::new().await;
    let id = inputs.put("something").await;
    assert_eq!(inputs.sweep(&[], Patience { keep: HOUR, margin: HOUR }).await, collected(0, 1));
    for known_first in [false, true] {
        let looks = Cell::new(0);
        let in_use = async || {
            looks.set(looks.get() + 1);
            if known_first && looks.get() == 1 {
                return Ok(HashSet::new());
            }
            Err(QueueError::Corrupt("a document of a newer version".into()).into())
        };
        let failure: Failure =
            collect_unused(&inputs.bench.queue, &inputs.store, in_use, NONE).await.unwrap_err();
        let corrupt = failure.downcast_ref::<QueueError>();
        assert!(matches!(corrupt, Some(QueueError::Corrupt(_))), "{failure:?}");
        assert!(inputs.has(&id).await);
    }
}

#[tokio::test]
async fn a_job_that_may_have_been_planned_with_an_input_keeps_it() {
    let inputs = Inputs::new().await;
    let bench = &inputs.bench;
    let id = inputs.put("code").await;
    // Of whatever tenant, queued or running.
    bench.submit_from("other", "older").await;
    for _ in 0..2 {
        assert_eq!(inputs.sweep(&[], NONE).await, collected(0, 1));
    }
    let claim = bench.claim().await;
    assert_eq!(inputs.sweep(&[], NONE).await, collected(0, 1));
    // A younger one was planned when nothing referred to it any more.
    bench.submit("younger").await;
    assert_eq!(inputs.sweep(&[], NONE).await, collected(0, 1));
    bench.finish(&claim, &success(&key_of(&claim))).await;
    assert_eq!(inputs.sweep(&[], Patience { margin: HOUR, ..NONE }).await, collected(0, 1), "too close");
    assert!(inputs.has(&id).await);
    assert_eq!(inputs.sweep(&[], NONE).await, collected(1, 0));
    assert!(!inputs.has(&id).await);
}

#[tokio::test]
async fn a_batch_keeps_what_its_children_were_planned_with_until_the_last_has_ended() {
    let inputs = Inputs::new().await;
    let bench = &inputs.bench;
    let id = inputs.put("candles").await;
    bench.submit_batch(&bench.batch(["one".to_owned(), "two".to_owned()])).await;
    for _ in 0..2 {
        assert_eq!(inputs.sweep(&[], NONE).await, collected(0, 1));
        let claim = bench.claim().await;
        assert_eq!(inputs.sweep(&[], NONE).await, collected(0, 1));
        bench.finish(&claim, &success(&key_of(&claim))).await;
    }
    assert_eq!(inputs.sweep(&[], NONE).await, collected(1, 0));
    assert!(!inputs.has(&id).await);
}

#[tokio::test]
async fn one_of_many_looks_in_each_span_of_time() {
    let bench = Bench::new().await;
    let turns = futures::future::join_all((0..8).map(|_| bench.queue.may_collect_unused(HOUR))).await;
    assert_eq!(turns.into_iter().filter(|turn| *turn.as_ref().unwrap()).count(), 1);
}
