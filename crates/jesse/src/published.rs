//! Where the catalogue comes from. Each project that a worker publishes is a document of its own, and so is what clients
//! have written; readers merge them, name by name, in the same way everywhere.
//!
//! | collection | document | holds |
//! |---|---|---|
//! | `catalogue` | one per project: [`publisher_id`] | [`Publication`] |
//! | `publishers` | the same | [`Presence`]: when that project's worker was last there |
//! | `written_strategies` | `all` | [`Written`] |
//!
//! Of a strategy that several projects have, the code that was published last counts; when a client has written one of that
//! name, it counts if it was meant to replace the project's. Either is said in [`Catalogue::conflicts`].
//! A project whose workers are gone stays in the catalogue, since any worker can run its bundles, until it was not seen for
//! [`FORGOTTEN_AFTER`] while workers of other projects were there.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jobs::{
    QueueError, Redis,
    documents::{Document, Documents},
};
use serde::{Deserialize, Serialize};

use crate::{
    catalogue::{Catalogue, Engine, Exchange, Strategy},
    runner::SandboxState,
};

const PUBLICATIONS: &str = "catalogue";
const PUBLISHERS: &str = "publishers";
const WRITTEN: &str = "written_strategies";
const ALL: &str = "all";

/// See the module's documentation.
pub const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// The most strategies that clients can have written.
pub const MOST_WRITTEN: usize = 1_000;
/// How often a change is tried again that others were faster with.
const TRIES: usize = 20;

/// What one project offers, and the Jesse that its workers have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// The Jesse that runs the jobs.
    pub engine: Engine,
    /// By name, as Jesse spells it.
    pub exchanges: BTreeMap<String, Exchange>,
    /// All timeframes that Jesse knows.
    pub timeframes: Vec<String>,
    /// By name.
    pub strategies: BTreeMap<String, Strategy>,
    /// Whether strategies are shut off from the worker's machine.
    #[serde(default)]
    pub sandbox: SandboxState,
    /// What people call the project.
    #[serde(default)]
    pub project: String,
    /// When the engine was first published (milliseconds since 1970).
    #[serde(default)]
    pub engine_since_ms: i64,
    /// When this code of each strategy was first published (milliseconds since 1970).
    #[serde(default)]
    pub since_ms: BTreeMap<String, i64>,
}

impl Publication {
    fn since(&self, name: &str) -> i64 {
        self.since_ms.get(name).copied().unwrap_or_default()
    }

    /// Keeps the times of what was published before, here or by somebody else with the same code, so that a worker that
    /// is started again does not count as a change; the others are of `now_ms`.
    #[must_use]
    pub fn dated<'a>(mut self, earlier: &(impl Iterator<Item = &'a Self> + Clone), now_ms: i64) -> Self {
        let engines = earlier.clone().filter(|publication| publication.engine == self.engine);
        self.engine_since_ms = engines.map(|publication| publication.engine_since_ms).min().unwrap_or(now_ms);
        let since = self.strategies.iter().map(|(name, strategy)| {
            let same = |publication: &&Self| {
                publication.strategies.get(name).is_some_and(|known| known.bundle == strategy.bundle)
            };
            let first = earlier.clone().filter(same).map(|publication| publication.since(name)).min();
            (name.clone(), first.unwrap_or(now_ms))
        });
        self.since_ms = since.collect();
        self
    }
}

/// When a project's worker was last there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Presence {
    seen_ms: i64,
}

/// The strategies that clients have written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// By name.
    pub strategies: BTreeMap<String, WrittenStrategy>,
}

/// A strategy that a client has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WrittenStrategy {
    /// What it is.
    pub strategy: Strategy,
    /// When it was written (milliseconds since 1970).
    pub written_ms: i64,
    /// Whether it counts where a project has a strategy of the same name.
    pub replace: bool,
}

/// The name of a project's document: the same on each start of a worker on this machine.
pub fn publisher_id(host: &str, project: &Path) -> String {
    let project = project.as_os_str().as_encoded_bytes();
    let mut hasher = blake3::Hasher::new();
    hasher.update(host.as_bytes()).update(b"\n").update(project);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The catalogue that these publications, by the name of their document, and these written strategies make; `None` without
/// any publication.
pub fn merge(publications: &[(String, &Publication)], written: &Written) -> Option<Catalogue> {
    // The newest engine: after an upgrade of the first worker jobs are planned for it.
    let newest = publications.iter().max_by_key(|(id, publication)| (publication.engine_since_ms, id))?;
    let Publication { engine, exchanges, timeframes, .. } = newest.1;
    let (engine, exchanges, timeframes) = (engine.clone(), exchanges.clone(), timeframes.clone());
    let mut found: BTreeMap<&str, Vec<(i64, &str, &Publication, &Strategy)>> = BTreeMap::new();
    for (id, publication) in publications {
        for (name, strategy) in &publication.strategies {
            found.entry(name).or_default().push((publication.since(name), id, publication, strategy));
        }
    }
    let (mut strategies, mut conflicts) = (BTreeMap::new(), BTreeMap::new());
    for (name, mut offers) in found {
        offers.sort_by_key(|(since, id, ..)| (std::cmp::Reverse(*since), *id));
        let (_, _, publication, strategy) = offers[0];
        if let Some((_, _, other, _)) = offers.iter().find(|offer| offer.3.bundle != strategy.bundle) {
            let note = format!(
                "{} and {} have different code of this name; that of {}, published last, is used",
                publication.project, other.project, publication.project
            );
            conflicts.insert(name.to_owned(), note);
        }
        strategies.insert(name.to_owned(), strategy.clone());
    }
    let mut by_clients = BTreeMap::new();
    for (name, WrittenStrategy { strategy, replace, written_ms }) in &written.strategies {
        let of_project = strategies.get(name).is_some_and(|known| known.bundle != strategy.bundle);
        if of_project {
            let counts = if *replace { "it is used instead of" } else { "not used, in favour of" };
            conflicts.insert(
                name.clone(),
                format!("a client has written one of this name; {counts} the project's"),
            );
        }
        if *replace || !of_project {
            strategies.insert(name.clone(), strategy.clone());
            by_clients.insert(name.clone(), *written_ms);
        }
    }
    // What is said of all is what holds for the weakest.
    let weakest =
        publications.iter().map(|(_, publication)| &publication.sandbox).min_by_key(|sandbox| sandbox.active);
    let sandbox = weakest.cloned().unwrap_or_default();
    Some(Catalogue { engine, exchanges, timeframes, strategies, conflicts, written: by_clients, sandbox })
}

/// A catalogue, and the hashes of the documents that it was made from.
type Merged = (Vec<String>, Option<Arc<Catalogue>>);

/// Reads and changes what is published.
#[derive(Debug)]
pub struct Published {
    publications: Documents<Publication>,
    publishers: Documents<Presence>,
    written: Documents<Written>,
    merged: Mutex<Merged>,
}

impl Published {
    /// What is published in this deployment.
    pub fn new(redis: Redis) -> Self {
        Self {
            publications: Documents::new(redis.clone(), PUBLICATIONS),
            publishers: Documents::new(redis.clone(), PUBLISHERS),
            written: Documents::new(redis, WRITTEN),
            merged: Mutex::default(),
        }
    }

    /// The catalogue as it is now; `None` while no worker has published anything. One short round trip when nothing
    /// changed.
    pub async fn catalogue(&self) -> Result<Option<Arc<Catalogue>>, QueueError> {
        let (publications, written) = tokio::try_join!(self.publications.all(), self.written.get(ALL))?;
        let hashes = publications.iter().map(|(_, document)| document.hash.clone());
        let hashes: Vec<_> = hashes.chain(written.iter().map(|document| document.hash.clone())).collect();
        let known = self.merged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.0 == hashes {
            return Ok(known.1);
        }
        let publications: Vec<_> =
            publications.iter().map(|(id, document)| (id.clone(), &document.value)).collect();
        let none = Written::default();
        let written = written.as_ref().map_or(&none, |document| &document.value);
        let catalogue = merge(&publications, written).map(Arc::new);
        *self.merged.lock().unwrap_or_else(PoisonError::into_inner) = (hashes, catalogue.clone());
        Ok(catalogue)
    }

    /// Whether a project is published.
    pub async fn has(&self, publisher: &str) -> Result<bool, QueueError> {
        Ok(self.publications.get(publisher).await?.is_some())
    }

    /// Publishes a project; answers whether that changed anything.
    pub async fn publish(&self, id: &str, publication: &Publication) -> Result<bool, QueueError> {
        loop {
            let published = self.publications.all().await?;
            let earlier = published.iter().map(|(_, document)| &document.value);
            let publication = publication.clone().dated(&earlier, now_ms());
            let stored = published.iter().find(|(known, _)| known == id).map(|(_, stored)| stored);
            if stored.is_some_and(|stored| stored.value == publication) {
                return Ok(false);
            }
            let expected = stored.map(|stored| stored.hash.as_str());
            if self.publications.replace(id, expected, &publication).await? {
                return Ok(true);
            }
        }
    }

    /// Says that this project's worker is there; forgets projects whose workers are long gone, and answers their names.
    pub async fn present(&self, own: &str) -> Result<Vec<String>, QueueError> {
        let now_ms = now_ms();
        let published = self.publications.all().await?;
        let ids: Vec<_> = published.iter().map(|(id, _)| id.as_str()).collect();
        let mut forgotten = Vec::new();
        for ((id, publication), presence) in published.iter().zip(self.publishers.get_all(&ids).await?) {
            let expected = presence.as_ref().map(|presence| presence.hash.as_str());
            let seen_ms = presence.as_ref().filter(|_| id != own).map(|presence| presence.value.seen_ms);
            match seen_ms {
                // One that never said so, as an earlier version does not, is there for as long as it takes to find out.
                None => _ = self.publishers.replace(id, expected, &Presence { seen_ms: now_ms }).await?,
                Some(seen_ms) if is_forgotten(seen_ms, now_ms) => {
                    if self.publications.remove(id, &publication.hash).await? {
                        forgotten.push(publication.value.project.clone());
                        self.publishers.remove(id, expected.unwrap_or_default()).await?;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(forgotten)
    }

    /// What clients have written.
    pub async fn written(&self) -> Result<Option<Arc<Document<Written>>>, QueueError> {
        self.written.get(ALL).await
    }

    /// Every document that names bundles, for those who look for what nobody names.
    pub async fn bundles(&self) -> Result<Vec<jobs::blobs::BlobId>, QueueError> {
        let (publications, written) = tokio::try_join!(self.publications.all(), self.written.get(ALL))?;
        let published = publications.iter().flat_map(|(_, document)| document.value.strategies.values());
        let written = written.iter().flat_map(|document| document.value.strategies.values());
        let all = published.chain(written.map(|written| &written.strategy));
        Ok(all.map(|strategy| strategy.bundle.clone()).collect())
    }

    /// Changes what clients have written; answers what `change` answered, or `None` if others changed it all the time.
    pub async fn change_written<T>(
        &self,
        mut change: impl FnMut(&mut BTreeMap<String, WrittenStrategy>) -> T,
    ) -> Result<Option<T>, QueueError> {
        for _ in 0..TRIES {
            let stored = self.written.get(ALL).await?;
            let mut written = stored.as_ref().map(|stored| stored.value.clone()).unwrap_or_default();
            let answer = change(&mut written.strategies);
            let expected = stored.as_ref().map(|stored| stored.hash.as_str());
            let unchanged = stored.as_ref().is_some_and(|stored| stored.value == written);
            if unchanged || self.written.replace(ALL, expected, &written).await? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

fn is_forgotten(seen_ms: i64, now_ms: i64) -> bool {
    let after = i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_sub(seen_ms) > after
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jobs::blobs::BlobId;

    use super::*;

    fn strategy(code: &str) -> Strategy {
        let bundle = BlobId::of(code.as_bytes());
        Strategy { bundle, doc: String::new(), hyperparameters: Vec::new(), error: None }
    }

    fn publication(project: &str, version: &str, strategies: &[(&str, &str)]) -> Publication {
        let version = version.to_owned();
        Publication {
            engine: Engine {
                jesse_version: version,
                semantics: "runner/1".into(),
                environment: String::new(),
            },
            exchanges: BTreeMap::new(),
            timeframes: Vec::new(),
            strategies: strategies.iter().map(|(name, code)| ((*name).into(), strategy(code))).collect(),
            sandbox: SandboxState::default(),
            project: project.into(),
            engine_since_ms: 0,
            since_ms: BTreeMap::new(),
        }
    }

    fn merged(publications: &[(&str, &Publication)], written: &Written) -> Catalogue {
        let publications: Vec<_> =
            publications.iter().map(|(id, publication)| ((*id).to_owned(), *publication)).collect();
        merge(&publications, written).unwrap()
    }

    #[test]
    fn projects_are_merged_by_strategy_whoever_published_last() {
        let one = publication("one", "3.5.3", &[("A", "a"), ("Same", "s"), ("Both", "old")]);
        let one = one.dated(&std::iter::empty(), 100);
        let two = publication("two", "3.5.4", &[("B", "b"), ("Same", "s"), ("Both", "new")]);
        let two = two.dated(&std::iter::once(&one), 200);
        let written = Written::default();
        let catalogue = merged(&[("x", &one), ("y", &two)], &written);
        assert_eq!(catalogue, merged(&[("y", &two), ("x", &one)], &written));
        assert_eq!(catalogue.strategies.keys().collect::<Vec<_>>(), ["A", "B", "Both", "Same"]);
        assert_eq!(catalogue.strategies["Both"], strategy("new"));
        assert_eq!(catalogue.engine.jesse_version, "3.5.4");
        assert_eq!(catalogue.conflicts.keys().collect::<Vec<_>>(), ["Both"]);
        assert!(catalogue.conflicts["Both"].contains("that of two"), "{}", catalogue.conflicts["Both"]);

        // A restart without a change brings back no old code.
        let again = publication("one", "3.5.3", &[("A", "a"), ("Same", "s"), ("Both", "old")]);
        let again = again.dated(&[&one, &two].into_iter(), 300);
        assert_eq!(again, one);
        // An edit does.
        let edited = publication("one", "3.5.3", &[("Both", "edited")]).dated(&[&one, &two].into_iter(), 300);
        assert_eq!(merged(&[("x", &edited), ("y", &two)], &written).strategies["Both"], strategy("edited"));
        assert!(merge(&[], &written).is_none());
    }

    #[test]
    fn what_a_client_has_written_shadows_a_project_only_if_it_is_meant_to() {
        let project = publication("project", "3.5.3", &[("A", "a")]);
        let mut written = Written::default();
        for (name, replace) in [("A", false), ("New", false)] {
            let strategy = WrittenStrategy { strategy: strategy("written"), written_ms: 5, replace };
            written.strategies.insert(name.into(), strategy);
        }
        let catalogue = merged(&[("x", &project)], &written);
        assert_eq!(catalogue.strategies["A"], strategy("a"));
        assert_eq!(catalogue.strategies["New"], strategy("written"));
        assert_eq!(catalogue.written, BTreeMap::from([("New".to_owned(), 5)]));
        assert!(catalogue.conflicts["A"].contains("not used"));

        written.strategies.get_mut("A").unwrap().replace = true;
        let catalogue = merged(&[("x", &project)], &written);
        assert_eq!(catalogue.strategies["A"], strategy("written"));
        assert!(catalogue.conflicts["A"].contains("instead of"));
    }

    #[test]
    fn what_an_earlier_version_published_can_be_read() {
        let mut old = serde_json::to_value(publication("", "3.5.3", &[("A", "a")])).unwrap();
        for name in ["project", "engine_since_ms", "since_ms"] {
            old.as_object_mut().unwrap().remove(name);
        }
        let read: Publication = serde_json::from_value(old).unwrap();
        assert_eq!(read, publication("", "3.5.3", &[("A", "a")]));
    }

    #[test]
    fn a_project_is_forgotten_after_an_hour() {
        assert!(!is_forgotten(0, 3_600_000) && is_forgotten(0, 3_600_001) && !is_forgotten(5, 0));
    }
}
