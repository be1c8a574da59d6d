//! Small JSON documents beside the queue: candle manifests and the catalogue. Each has a hash, so that readers fetch
//! a document again only when it changed, and writers notice that somebody else was faster.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::QueueError, redis::Redis, scripts::DOCUMENT};

/// A document and the hash it had when it was read.
#[derive(Debug)]
pub struct Document<T> {
    /// The hash of its JSON.
    pub hash: String,
    /// What it says.
    pub value: T,
}

/// Reads and writes the documents of one collection, and keeps what it read. A document's value must depend on its
/// JSON alone.
#[derive(Debug)]
pub struct Documents<T> {
    redis: Redis,
    collection: &'static str,
    read: Mutex<HashMap<String, Arc<Document<T>>>>,
    /// The names as they were when all documents were last read.
    listed: Mutex<Vec<String>>,
}

impl<T: Serialize + DeserializeOwned> Documents<T> {
    /// The documents of this collection.
    pub fn new(redis: Redis, collection: &'static str) -> Self {
        Self { redis, collection, read: Mutex::default(), listed: Mutex::default() }
    }

    fn key(&self, name: &str) -> String {
        self.redis.keys().document(self.collection, name)
    }

    /// The document as it is now; one short round trip when it has not changed since it was last read.
    pub async fn get(&self, name: &str) -> Result<Option<Arc<Document<T>>>, QueueError> {
        Ok(self.get_all(&[name]).await?.pop().flatten())
    }

    /// Several documents, in the order of their names.
    pub async fn get_all(&self, names: &[&str]) -> Result<Vec<Option<Arc<Document<T>>>>, QueueError> {
        if names.is_empty() {
            // An empty pipeline is an error.
            return Ok(Vec::new());
        }
        let mut hashes = redis::pipe();
        for name in names {
            hashes.hget(self.key(name), "hash");
        }
        let hashes: Vec<Option<String>> = self.redis.pipeline(&hashes).await?;
        let mut found = Vec::with_capacity(names.len());
        for (name, hash) in names.iter().zip(hashes) {
            let Some(hash) = hash else {
                found.push(None);
                continue;
            };
            let known = self.lock().get(*name).filter(|known| known.hash == hash).cloned();
            found.push(match known {
                Some(known) => Some(known),
                None => self.fetch(name).await?,
            });
        }
        Ok(found)
    }

    /// All documents of the collection by name. One round trip, unless something changed since they were last read.
    pub async fn all(&self) -> Result<Vec<(String, Arc<Document<T>>)>, QueueError> {
        let known = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known_names: Vec<_> = known.iter().map(String::as_str).collect();
        let (names, mut found) = futures::try_join!(self.names(), self.get_all(&known_names))?;
        if names != known {
            found = self.get_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&names);
        }
        Ok(names.into_iter().zip(found).filter_map(|(name, found)| Some((name, found?))).collect())
    }

    /// `None` if it was removed meanwhile.
    async fn fetch(&self, name: &str) -> Result<Option<Arc<Document<T>>>, QueueError> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.key(name)).arg("hash").arg("body");
        let (hash, body): (Option<String>, Option<String>) = self.redis.query(&read).await?;
        let (Some(hash), Some(body)) = (hash, body) else { return Ok(None) };
        let value = serde_json::from_str(&body)
            .map_err(|error| QueueError::Corrupt(format!("document {name}: {error}")))?;
        let document = Arc::new(Document { hash, value });
        self.lock().insert(name.to_owned(), document.clone());
        Ok(Some(document))
    }

    /// The names of all documents of the collection, sorted.
    pub async fn names(&self) -> Result<Vec<String>, QueueError> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.redis.keys().collection(self.collection));
        let mut names: Vec<String> = self.redis.query(&read).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// Replaces a document that is still as `expected` (a hash, or `None` for "does not exist"). Answers whether it
    /// was; if not, read it again and start over.
    pub async fn replace(&self, name: &str, expected: Option<&str>, value: &T) -> Result<bool, QueueError> {
        let body = serde_json::to_string(value).map_err(|error| QueueError::Corrupt(error.to_string()))?;
        let hash = blake3::hash(body.as_bytes()).to_hex();
        self.exchange(name, expected.unwrap_or_default(), hash.as_str(), &body).await
    }

    /// Removes a document that still has this hash. Answers whether it had.
    pub async fn remove(&self, name: &str, expected: &str) -> Result<bool, QueueError> {
        let removed = self.exchange(name, expected, "", "").await?;
        self.lock().remove(name);
        Ok(removed)
    }

    async fn exchange(&self, name: &str, expected: &str, hash: &str, body: &str) -> Result<bool, QueueError> {
        let mut call = DOCUMENT.prepare_invoke();
        call.key(self.key(name)).arg(self.redis.keys().name());
        call.arg(self.collection).arg(name).arg(expected).arg(hash).arg(body);
        self.redis.invoke(&call).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Document<T>>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
