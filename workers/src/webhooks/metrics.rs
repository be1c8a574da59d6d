//! How deliveries go, for Prometheus. What holds for the whole deployment is counted in Redis.

use std::time::Duration;

use jobs::webhooks::AttemptOutcome;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

const LAG_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
const DURATION_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// How many attempts there were and what came of them, how long they took, and how long after the event the first began.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    lag: Histogram,
    duration: Histogram,
    attempts: IntCounterVec,
    flying: IntGauge,
}

impl WebhookMetrics {
    /// Fails only if the registry has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let metrics = Self {
            lag: histogram(
                "jesse_jobs_webhook_lag_seconds",
                "Time from an event to the first attempt to deliver it",
                &LAG_BUCKETS,
            )?,
            duration: histogram(
                "jesse_jobs_webhook_duration_seconds",
                "Time that an attempt took",
                &DURATION_BUCKETS,
            )?,
            attempts: IntCounterVec::new(
                Opts::new(
                    "jesse_jobs_webhook_attempts_total",
                    "Attempts to deliver, by what came of them: delivered, retry, failed, gone, refused",
                ),
                &["result"],
            )?,
            flying: IntGauge::with_opts(Opts::new(
                "jesse_jobs_webhook_flying",
                "Attempts that this process makes",
            ))?,
        };
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.flying.clone()))?;
        // There from the start, so that the first failure is an increase.
        for result in ["delivered", "retry", "failed", "gone", "refused"] {
            metrics.attempts.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    pub(super) fn lag(&self, lag: Duration) {
        self.lag.observe(lag.as_secs_f64());
    }

    pub(super) fn attempted(&self, outcome: AttemptOutcome, refused: bool, took: Duration) {
        let result = match outcome {
            _ if refused => "refused",
            AttemptOutcome::Delivered => "delivered",
            AttemptOutcome::Retry { .. } => "retry",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::Gone => "gone",
        };
        self.attempts.with_label_values(&[result]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn set_flying(&self, number: usize) {
        self.flying.set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}
