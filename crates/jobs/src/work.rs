//! The queue as workers see it: claims under leases, outcomes handed in under a fence, and the reconciler.

use std::time::Duration;

use crate::{
    error::{ErrorCode, JobError, QueueError, chain},
    ids::{Fence, JobId, RunId, WorkerId},
    queue::{Queue, json, parse},
    record::{Claim, Finish, Kind, Outcome, Progress, Stored},
    redis::{Blocking, LONGEST_BLOCK},
    rules::{STALLS_TOLERATED, milliseconds},
    state::JobState,
    together::Step,
    trial::TrialRecord,
};

/// Retries wait a random time of up to `BACK_OFF * 2^attempt`, at most `BACK_OFF_MAX` (full jitter).
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_mins(5);

/// How many steps one sweep of the listings takes at most.
const SWEPT_AT_ONCE: usize = 200;

/// What a worker has free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Slots: a run takes one or more.
    pub slots: u32,
    /// Megabytes.
    pub memory_mb: u32,
    /// Whether it holds nothing. Then it takes a run that is larger than all it has.
    pub idle: bool,
}

impl Free {
    /// New fences for a claim of all that is free, up to `most` runs.
    pub(crate) fn fences(&self, most: u32) -> Vec<Fence> {
        (0..self.slots.min(most)).map(|_| Fence::generate()).collect()
    }
}

/// What a renewal says of a run that must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody else holds it, or it is over.
    Lost,
    /// Nobody waits for it any more.
    Cancelled,
}

/// Why a worker is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// Something was queued.
    Work,
    /// One of its runs should stop: it is to renew its leases, which says which.
    Stop,
}

/// What the reconciler found.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Runs whose lease was over, what became of them (`stalled`, `dead` or `cancelled`), and who held them.
    pub lost: Vec<(RunId, String, String)>,
}

impl Queue {
    /// Claims runs for a worker, as many as it has room for. The flag says that there may be more for it at once.
    pub async fn claim(&self, worker: &WorkerId, free: Free) -> Result<(Vec<Claim>, bool), QueueError> {
        self.claim_under(&free.fences(u32::MAX), worker, free).await
    }

    /// The same under these fences, at most as many runs as there are, by which [`Queue::recover`] finds what was claimed when this fails.
    pub async fn claim_under(
        &self,
        fences: &[Fence],
        worker: &WorkerId,
        free: Free,
    ) -> Result<(Vec<Claim>, bool), QueueError> {
        let mut call = self.call(&self.scripts.claim);
        call.arg(worker.as_str())
            .arg(self.version)
            .arg(free.slots)
            .arg(free.memory_mb)
            .arg(u8::from(free.idle));
        for fence in fences {
            call.arg(fence.to_string());
        }
        let (rows, more): (Vec<String>, u8) = self.redis.invoke(&call).await?;
        let claims = rows.chunks_exact(3).zip(fences).map(|(row, fence)| claimed(row, *fence));
        Ok((claims.collect::<Result<_, _>>()?, more == 1))
    }

    /// Hands back what a claim under these fences took whose answer never came, and says how many runs that were. They are queued at
    /// once, as after an interruption, instead of when their leases end, as after a stall.
    ///
    /// `sent` and `given_up` are how long ago the claim was sent and failed.
    pub async fn recover(
        &self,
        fences: &[Fence],
        sent: Duration,
        given_up: Duration,
    ) -> Result<usize, QueueError> {
        let mut call = self.call(&self.scripts.recover);
        call.arg(milliseconds(sent)).arg(milliseconds(given_up));
        for fence in fences {
            call.arg(fence.to_string());
        }
        let found: Vec<String> = self.redis.invoke(&call).await?;
        let (found, _) = found.as_chunks::<2>();
        for [run, fence] in found {
            self.hand_back(run, fence).await?;
        }
        Ok(found.len())
    }

    /// Waits until the worker is spoken to, at most for [`LONGEST_BLOCK`].
    pub(crate) async fn wait_for_message(
        &self,
        connection: &mut Blocking,
        worker: &WorkerId,
    ) -> Result<Option<Message>, QueueError> {
        let mut wait = redis::cmd("BLPOP");
        wait.arg(self.redis.keys().inbox(worker.as_str())).arg(LONGEST_BLOCK.as_secs_f64());
        let message: Option<(String, String)> = connection.query(&wait).await?;
        Ok(message.map(|(_, text)| if text == "stop" { Message::Stop } else { Message::Work }))
    }

    /// Renews the leases of what a worker holds; answers what must stop.
    pub async fn renew(&self, held: &[(RunId, Fence)]) -> Result<Vec<(RunId, Stop)>, QueueError> {
        let mut call = self.call(&self.scripts.renew);
        for (run, fence) in held {
            call.arg(run.to_string()).arg(fence.to_string());
        }
        let stop: Vec<String> = self.redis.invoke(&call).await?;
        let why = |why: &str| if why == "cancelled" { Stop::Cancelled } else { Stop::Lost };
        stop.chunks_exact(2).map(|pair| Ok((parse(&pair[0])?, why(&pair[1])))).collect()
    }

    /// Records how far a run is; answers whether the caller still holds it.
    pub async fn progress(&self, run: RunId, fence: Fence, progress: &Progress) -> Result<bool, QueueError> {
        let mut call = self.call(&self.scripts.progress);
        call.arg(run.to_string()).arg(fence.to_string()).arg(json(progress)?);
        self.redis.invoke(&call).await
    }

    /// Hands in the outcome of a run and settles the jobs that wait for it.
    pub async fn finish(&self, claim: &Claim, outcome: &Outcome) -> Result<Finish, QueueError> {
        let (outcome, details) = match outcome {
            Outcome::Succeeded(result) => (
                "succeeded",
                [
                    result.id.clone(),
                    one_line(&result.summary),
                    json(&result.receipt)?,
                    result.stored.as_ref().map(Stored::to_text).unwrap_or_default(),
                    result.trial.as_deref().map(TrialRecord::to_text).unwrap_or_default(),
                ],
            ),
            Outcome::Failed(error) => (
                "failed",
                [
                    json(error)?,
                    u8::from(error.retryable).to_string(),
                    milliseconds(back_off(claim.attempt)).to_string(),
                    u8::from(error.code == ErrorCode::Timeout).to_string(),
                    String::new(),
                ],
            ),
            Outcome::Awaits { batch, plan } => {
                let next = format!("{plan}\n{}", claim.request);
                ("awaits", [batch.to_string(), next, String::new(), String::new(), String::new()])
            }
            Outcome::Cancelled => ("cancelled", [const { String::new() }; 5]),
        };
        let mut arguments = vec![claim.run.to_string(), claim.fence.to_string(), outcome.to_owned()];
        arguments.extend(details);
        let step = Step { head: None, arguments };
        let (answer, left): (String, u64) = self.finishing.step(step).await?;
        match answer.as_str() {
            "accepted" => {
                if left > 0
                    && let Err(error) = self.settle(claim.run).await
                {
                    tracing::debug!(run.id = %claim.run, error = chain(&error), "left to be settled by the reconciler");
                }
                Ok(Finish::Accepted)
            }
            "retry" => Ok(Finish::Retry),
            _ => Ok(Finish::Refused),
        }
    }

    /// Gives the jobs that wait for a finished run its outcome, in chunks. Idempotent; the reconciler does it again
    /// for runs whose worker did not get this far.
    pub async fn settle(&self, run: RunId) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.settle);
        call.arg(run.to_string());
        while self.redis.invoke::<u64>(&call).await? > 0 {}
        Ok(())
    }

    /// Hands a run back unfinished, as at a graceful stop. Costs no attempt.
    pub async fn release(&self, claim: &Claim) -> Result<(), QueueError> {
        self.hand_back(&claim.run.to_string(), &claim.fence.to_string()).await
    }

    /// Hands back a run that cannot be computed yet, to be queued again after this time, and after as much more each further time, up to
    /// ten times as much. It costs no attempt, and until then its jobs show what it waits for.
    pub async fn put_off(
        &self,
        claim: &Claim,
        after: Duration,
        waits_for: &Progress,
    ) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.release);
        call.arg(claim.run.to_string()).arg(claim.fence.to_string());
        call.arg(milliseconds(after)).arg(json(waits_for)?);
        self.redis.invoke(&call).await
    }

    async fn hand_back(&self, run: &str, fence: &str) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.release);
        call.arg(run).arg(fence);
        self.redis.invoke(&call).await
    }

    /// One round of the reconciler: takes back what lost workers held, queues what is due, ends what is overdue, and
    /// goes on with what others left half done.
    pub async fn reap(&self) -> Result<Reaped, QueueError> {
        type Found = (Vec<(String, String, String)>, Vec<String>, Vec<String>, Vec<String>, u8);
        let given_up = json(&JobError::new(
            ErrorCode::WorkerLost,
            format!(
                "the workers that ran this were lost {STALLS_TOLERATED} times (killed, or out of memory), the last time with \
                 nothing beside it, so it was given up; if its memory limit is too small for it, shorten the date range"
            ),
        ))?;
        let mut reaped = Reaped::default();
        loop {
            let mut call = self.call(&self.scripts.reap);
            call.arg(&given_up);
            let (lost, unsettled, opening, closing, more): Found = self.redis.invoke(&call).await?;
            for (run, action, worker) in lost {
                reaped.lost.push((parse(&run)?, action, worker));
            }
            for run in &unsettled {
                self.settle(parse(run)?).await?;
            }
            for batch in &opening {
                self.open(parse::<JobId>(batch)?).await?;
            }
            for batch in &closing {
                self.close(parse::<JobId>(batch)?).await?;
            }
            if more == 0 {
                return Ok(reaped);
            }
        }
    }

    /// Takes jobs whose records have expired out of the listings, a bounded number.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        let mut call = self.call(&self.scripts.sweep);
        for kind in Kind::ALL {
            for state in JobState::ALL.into_iter().filter(|state| state.is_terminal()) {
                call.arg(format!("{}:{}", kind.as_str(), state.as_str()));
            }
        }
        for _ in 0..SWEPT_AT_ONCE {
            if self.redis.invoke::<u8>(&call).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// A claim from what the script answered for it: the run, its terms, and its plan with the request.
fn claimed(row: &[String], fence: Fence) -> Result<Claim, QueueError> {
    let corrupt = || QueueError::Corrupt(format!("a claim is {row:?}"));
    let [run, terms, work] = row else { return Err(corrupt()) };
    // Version, kind, slots, memory, attempt, whether it runs alone, and time-out.
    let mut terms = terms.split(' ').skip(1);
    let mut term = || terms.next().ok_or_else(corrupt);
    let (plan, request) = work.split_once('\n').ok_or_else(corrupt)?;
    Ok(Claim {
        run: parse(run)?,
        fence,
        kind: term()?.parse()?,
        slots: parse(term()?)?,
        memory_mb: parse(term()?)?,
        attempt: parse(term()?)?,
        alone: term()? == "1",
        timeout_s: parse(term()?)?,
        plan: plan.to_owned(),
        request: request.to_owned(),
    })
}

/// The same JSON without line breaks, which stand only between its parts: records have a line for it.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn back_off(attempt: u32) -> Duration {
    let most = BACK_OFF.saturating_mul(2_u32.saturating_pow(attempt)).min(BACK_OFF_MAX);
    // The upper 32 of a UUIDv4's random bits, as a fraction.
    let random = uuid::Uuid::new_v4().as_u128() >> 96;
    most.mul_f64(f64::from(u32::try_from(random).unwrap_or(u32::MAX)) / f64::from(u32::MAX))
}
