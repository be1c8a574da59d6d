//! Candles and code that nothing refers to any more leave the blob store.

use std::time::Duration;

use jesse::{candles::store::StoreError, references::inputs_in_use};
use jobs::{Collected, Patience, Queue, blobs::BlobStore, collect_unused};

/// How often one of a deployment's workers looks: a little less often than each of them asks.
const TURN: Duration = Duration::from_mins(55);
/// How much longer than results, which can be computed again from their receipt.
const LONGER_THAN_RESULTS: Duration = Duration::from_hours(24);
/// Between the plan of a job and its submission lie seconds; a large batch is submitted over minutes.
const MARGIN: Duration = Duration::from_hours(1);

/// Removes what has been of no use for longer than results are kept and a day; `None` when another worker has just done so.
pub(crate) async fn remove_unused_inputs(
    queue: &Queue,
    inputs: &BlobStore,
) -> Result<Option<Collected>, StoreError> {
    if !queue.may_collect_unused(TURN).await? {
        return Ok(None);
    }
    let patience = Patience { keep: queue.retention().results + LONGER_THAN_RESULTS, margin: MARGIN };
    let in_use = async || inputs_in_use(queue.redis(), inputs).await;
    collect_unused(queue, inputs, in_use, patience).await.map(Some)
}
