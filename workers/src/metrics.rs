//! What a worker did, for Prometheus: a tower layer around the handlers.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use apalis_core::task::Task;
use futures::{FutureExt, future::BoxFuture};
use jesse::runner::Start;
use jobs::{
    Outcome,
    backend::{Assignment, Handled, StopReason},
};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Opts, Registry};
use tokio::sync::mpsc;
use tower::{Layer, Service};

const BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// How long runs took, by kind and how they ended, how many there are right now, and how long Jesse takes to start.
#[derive(Debug, Clone)]
pub struct RunMetrics {
    duration: HistogramVec,
    running: IntGauge,
    engine_start: Histogram,
    engine_failures: IntCounter,
}

impl RunMetrics {
    /// Fails only if the registry has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "jesse_jobs_run_duration_seconds",
            "Time that this worker took for a run, by kind and how it ended",
        );
        let duration = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["kind", "outcome"])?;
        let running =
            IntGauge::with_opts(Opts::new("jesse_jobs_worker_running", "Runs that this worker holds"))?;
        let engine_start = Histogram::with_opts(
            HistogramOpts::new(
                "jesse_jobs_engine_start_seconds",
                "Time from starting Python to a Jesse that can run something",
            )
            .buckets(vec![0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 180.0]),
        )?;
        let engine_failures = IntCounter::with_opts(Opts::new(
            "jesse_jobs_engine_start_failures_total",
            "Starts of Jesse that came to nothing",
        ))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(running.clone()))?;
        registry.register(Box::new(engine_start.clone()))?;
        registry.register(Box::new(engine_failures.clone()))?;
        Ok(Self { duration, running, engine_start, engine_failures })
    }

    /// Where starts of Jesse are told. They are taken up until all senders are gone.
    pub(crate) fn engine_starts(&self) -> mpsc::UnboundedSender<Start> {
        let (sender, mut starts) = mpsc::unbounded_channel();
        let metrics = self.clone();
        tokio::spawn(async move {
            while let Some(Start { took, serves }) = starts.recv().await {
                if serves {
                    metrics.engine_start.observe(took.as_secs_f64());
                } else {
                    metrics.engine_failures.inc();
                }
            }
        });
        sender
    }
}

pub(crate) fn outcome(handled: &Handled) -> &'static str {
    match handled {
        Handled::Finished(Outcome::Succeeded(_)) => "succeeded",
        Handled::Finished(Outcome::Failed(_)) => "failed",
        Handled::Finished(Outcome::Cancelled) | Handled::Stopped(StopReason::Cancelled) => "cancelled",
        Handled::Finished(Outcome::Awaits { .. }) => "awaits",
        Handled::Stopped(StopReason::Lost) => "lost",
        Handled::Stopped(StopReason::HandBack) => "handed_back",
        Handled::PutOff(..) => "put_off",
    }
}

impl<S> Layer<S> for RunMetrics {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, metrics: self.clone() }
    }
}

/// See [`RunMetrics`].
#[derive(Debug, Clone)]
pub struct Measured<S> {
    inner: S,
    metrics: RunMetrics,
}

impl<S> Service<Task<Assignment>> for Measured<S>
where
    S: Service<Task<Assignment>, Response = Handled>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Handled;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Handled, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, task: Task<Assignment>) -> Self::Future {
        let (kind, started, metrics) = (task.args.claim.kind, Instant::now(), self.metrics.clone());
        metrics.running.inc();
        let answer = self.inner.call(task);
        async move {
            let answer = answer.await;
            metrics.running.dec();
            let outcome = answer.as_ref().map_or("panicked", outcome);
            metrics
                .duration
                .with_label_values(&[kind.as_str(), outcome])
                .observe(started.elapsed().as_secs_f64());
            answer
        }
        .boxed()
    }
}
