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
}

impl<T: Serialize + DeserializeOwned> Documents<T> {
    /// The documents of this collection.
    pub fn new(redis: Redis, collection: &'static str) -> Self {
        Self { redis, collection, read: Mutex::default() }
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
            found.push(Some(match known {
                Some(known) => known,
                None => self.fetch(name).await?,
            }));
        }
        Ok(found)
    }

    async fn fetch(&self, name: &str) -> Result<Arc<Document<T>>, QueueError> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.key(name)).arg("hash").arg("body");
        let (hash, body): (String, String) = self.redis.query(&read).await?;
        let value = serde_json::from_str(&body)
            .map_err(|error| QueueError::Corrupt(format!("document {name}: {error}")))?;
        let document = Arc::new(Document { hash, value });
        self.lock().insert(name.to_owned(), document.clone());
        Ok(document)
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
        let mut call = DOCUMENT.prepare_invoke();
        call.key(self.key(name)).arg(self.redis.keys().name());
        call.arg(self.collection).arg(name).arg(expected.unwrap_or_default());
        call.arg(hash.as_str()).arg(body);
        self.redis.invoke(&call).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Document<T>>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
