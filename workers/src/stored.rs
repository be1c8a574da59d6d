//! What every handler does with what it found: the body goes to the blob store, and the record says where it is.

use bytes::Bytes;
use jobs::{
    Claim, ErrorCode, Facets, JobError, Receipt, Stored, StoredResult, blobs::BlobStore, ledger::TrialRecord,
};
use serde_json::{Value, value::RawValue};

use crate::attend::unavailable;

/// A result that is to be stored.
pub(crate) struct New {
    pub(crate) body: Bytes,
    pub(crate) summary: Value,
    pub(crate) provenance: Value,
    /// By what it is found again; `None` if nobody is to find it.
    pub(crate) key: Option<String>,
    /// By what invalidations find it.
    pub(crate) facets: Facets,
    /// What the ledger keeps of it.
    pub(crate) trial: Option<Box<TrialRecord>>,
}

/// Stores the body, and says what the record is to hold.
pub(crate) async fn store(results: &BlobStore, claim: &Claim, new: New) -> Result<StoredResult, JobError> {
    let New { body, summary, provenance, key, facets, trial } = new;
    let bytes = body.len() as u64;
    // A name that nobody else has: the body can be deleted whoever else found the same.
    let file = claim.fence.to_string();
    let put = results.put_as(&file, body).await;
    let (blob, stored_bytes) = put.map_err(|error| unavailable(claim, "blob store", &error))?;
    let provenance = RawValue::from_string(provenance.to_string()).map_err(|error| {
        JobError::new(ErrorCode::Internal, format!("the receipt cannot be written: {error}"))
    })?;
    Ok(StoredResult {
        id: key.unwrap_or_else(|| claim.run.to_string()),
        summary: summary.to_string(),
        receipt: Receipt { blob, file: Some(file), bytes, provenance },
        stored: Some(Stored { bytes: stored_bytes, facets }),
        trial,
    })
}
