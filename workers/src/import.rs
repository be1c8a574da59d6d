//! The handler of imports: candles from an exchange, through Jesse's driver in a process of its own, month by month into the
//! store. What is stored stays stored, whatever becomes of the run.

use std::{sync::Arc, time::Duration};

use jesse::{
    candles::{
        exchange::{
            ExchangeError, ExchangeSettings, follow,
            job::{ImportSpec, answer, failure},
        },
        store::CandleStore,
    },
    runner::TaskError,
};
use jobs::{
    Claim, ErrorCode, Facets, JobError, Lock, Outcome, Progress, Queue, StoredResult,
    backend::{Assignment, Handled},
    blobs::Blobs,
    chain,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    attend::{Attendant, record_progress, unreadable},
    stored::{self, New},
};

/// How long an import whose turn it is not is put off for the first time.
const PUT_OFF: Duration = Duration::from_secs(2);

/// Imports candles.
#[derive(Debug)]
pub(crate) struct Imports {
    pub(crate) queue: Queue,
    pub(crate) blobs: Blobs,
    pub(crate) candles: CandleStore,
    /// How exchanges are asked; not there when this worker may not, or has no Python with Jesse.
    pub(crate) exchanges: Option<ExchangeSettings>,
    pub(crate) attendant: Arc<Attendant>,
}

impl Imports {
    /// Runs one import to its outcome, or until it must stop.
    pub(crate) async fn handle(&self, assignment: Assignment) -> Handled {
        let Assignment { claim, stop } = assignment;
        let Turn { spec, exchanges, lock } = match self.turn(&claim).await {
            Ok(Some(turn)) => turn,
            Ok(None) => {
                let message = "waits for another import of this series".to_owned();
                return Handled::PutOff(PUT_OFF, Progress { fraction: 0.0, message, eta_s: None });
            }
            Err(error) => return Handled::Finished(Outcome::Failed(error)),
        };
        let stopping = CancellationToken::new();
        let compute = async {
            // The process that asks the exchange ends with the future that is dropped here.
            match stopping.run_until_cancelled(self.import(&claim, &spec, exchanges, &lock)).await {
                Some(imported) => imported.map_err(TaskError::from),
                None => Err(TaskError::Stopped),
            }
        };
        let handled = Box::pin(self.attendant.attend(&claim, stop, &stopping, compute)).await;
        lock.release().await;
        handled
    }

    /// What an import is made with, unless another of its series is under way: to wait for that here would keep a slot from others for as
    /// long.
    async fn turn(&self, claim: &Claim) -> Result<Option<Turn<'_>>, JobError> {
        let spec: ImportSpec =
            serde_json::from_str(&claim.request).map_err(|error| unreadable(claim, &error))?;
        let exchanges = self.exchanges.as_ref().ok_or_else(|| {
            let message = "this worker may not ask exchanges for candles; whoever runs it can allow it with --candle-imports on";
            JobError::new(ErrorCode::ExchangeError, message).retryable()
        })?;
        let lock = self.candles.lock(&spec.series).await.map_err(|error| failed(claim, &error.into()))?;
        Ok(lock.map(|lock| Turn { spec, exchanges, lock }))
    }

    async fn import(
        &self,
        claim: &Claim,
        spec: &ImportSpec,
        exchanges: &ExchangeSettings,
        lock: &Lock,
    ) -> Result<StoredResult, JobError> {
        let (sender, receiver) = mpsc::channel(4);
        // Steps that nobody has read yet are as good as these.
        let told = |step| _ = sender.try_send(step);
        let following = follow(lock, exchanges, &spec.series, spec.wanted(), &self.candles, told);
        let limit = Duration::from_secs(claim.timeout_s.into());
        let followed = tokio::select! {
            followed = tokio::time::timeout(limit, following) => followed,
            never = record_progress(&self.queue, claim, receiver) => match never {},
        };
        let followed = followed.map_err(|_| {
            let message = format!(
                "the import did not end within {} s; whole months that came are stored: submit it again to go on",
                claim.timeout_s
            );
            JobError::new(ErrorCode::Timeout, message)
        })?;
        let followed = followed.map_err(|error| failed(claim, &error))?;
        let (summary, body) = answer(&followed);
        let provenance = json!({"series": spec.series, "version": followed.version});
        let new = New {
            body: body.to_string().into(),
            summary,
            provenance,
            key: Some(spec.cache_key().to_string()),
            facets: Facets::new(spec.series.exchange(), [spec.series.symbol()], []),
            trial: None,
        };
        stored::store(&self.blobs.results, claim, new).await
    }
}

/// The turn of an import.
struct Turn<'a> {
    spec: ImportSpec,
    exchanges: &'a ExchangeSettings,
    /// Nobody else imports the series meanwhile.
    lock: Lock,
}

fn failed(claim: &Claim, error: &ExchangeError) -> JobError {
    tracing::warn!(run.id = %claim.run, error = chain(error), "candles could not be imported");
    failure(error)
}
