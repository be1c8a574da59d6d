//! Metrics for Prometheus: what this process saw, and what the queue's shared counters say.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jobs::{
    Backlog, CacheStats, Priority, Queue, Redis, RedisCall,
    webhooks::{WebhookBacklog, Webhooks},
};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How many tenants have metrics of their own: those for whom most waits. The others are one, called [`OTHERS`].
const TENANTS_MOST: usize = 20;
const OTHERS: &str = "(others)";

/// The metrics of one process. The tools' names are jesse-mcp's, so that its dashboards go on working.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    tool_calls: IntCounterVec,
    tool_duration: HistogramVec,
    errors: IntCounterVec,
    queue: IntGaugeVec,
    waiting: IntGaugeVec,
    oldest: GaugeVec,
    redis_duration: HistogramVec,
    redis_failures: IntCounterVec,
    counters: IntCounterVec,
    cache: IntGaugeVec,
    cache_lookups: IntCounterVec,
    webhooks: GaugeVec,
}

impl Metrics {
    /// Fails only if two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)
        };
        let metrics = Self {
            registry: Registry::new(),
            http_requests: IntCounterVec::new(
                Opts::new("jesse_jobs_http_requests_total", "HTTP requests served"),
                &["route", "method", "status"],
            )?,
            http_duration: histogram(
                "jesse_jobs_http_duration_seconds",
                "Time to serve, waiting included",
                &["route"],
            )?,
            tool_calls: IntCounterVec::new(
                Opts::new("jesse_mcp_tool_calls_total", "Total tool calls"),
                &["tool_name"],
            )?,
            tool_duration: histogram(
                "jesse_mcp_tool_duration_seconds",
                "Tool call duration",
                &["tool_name"],
            )?,
            errors: IntCounterVec::new(Opts::new("jesse_mcp_errors_total", "Total errors"), &["error_type"])?,
            queue: IntGaugeVec::new(
                Opts::new("jesse_jobs_queue_runs", "Runs in the queue, by state"),
                &["state"],
            )?,
            waiting: IntGaugeVec::new(
                Opts::new(
                    "jesse_jobs_queue_waiting",
                    "What waits for a worker, by priority and tenant (twenty with most, and the others together)",
                ),
                &["priority", "tenant"],
            )?,
            oldest: GaugeVec::new(
                Opts::new(
                    "jesse_jobs_queue_oldest_seconds",
                    "How long ago the first of what waits was submitted, by priority and tenant",
                ),
                &["priority", "tenant"],
            )?,
            redis_duration: histogram(
                "jesse_jobs_redis_duration_seconds",
                "Time that calls of Redis took in this process, waiting for a connection included",
                &["call"],
            )?,
            redis_failures: IntCounterVec::new(
                Opts::new("jesse_jobs_redis_failures_total", "Calls of Redis that were not answered"),
                &["call"],
            )?,
            counters: IntCounterVec::new(
                Opts::new(
                    "jesse_jobs_events_total",
                    "What happened in the deployment: the same from every instance",
                ),
                &["event"],
            )?,
            cache: IntGaugeVec::new(
                Opts::new(
                    "jesse_jobs_cache",
                    "Stored results: entries, bytes, and the most bytes they may take up",
                ),
                &["figure"],
            )?,
            cache_lookups: IntCounterVec::new(
                Opts::new(
                    "jesse_jobs_cache_total",
                    "What the cache did in the deployment: hit, miss, coalesced, evicted, invalidated",
                ),
                &["outcome"],
            )?,
            webhooks: GaugeVec::new(
                Opts::new(
                    "jesse_jobs_webhook_backlog",
                    "Events nobody has taken up, receivers for which something waits, and seconds that the most overdue one has waited",
                ),
                &["figure"],
            )?,
        };
        let all: [Box<dyn prometheus::core::Collector>; 14] = [
            Box::new(metrics.http_requests.clone()),
            Box::new(metrics.http_duration.clone()),
            Box::new(metrics.tool_calls.clone()),
            Box::new(metrics.tool_duration.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.queue.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.oldest.clone()),
            Box::new(metrics.redis_duration.clone()),
            Box::new(metrics.redis_failures.clone()),
            Box::new(metrics.counters.clone()),
            Box::new(metrics.cache.clone()),
            Box::new(metrics.cache_lookups.clone()),
            Box::new(metrics.webhooks.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        metrics.begin();
        Ok(metrics)
    }

    /// What is there from the start, so that the first failure is an increase.
    fn begin(&self) {
        for call in RedisCall::KINDS {
            self.redis_failures.with_label_values(&[call]);
        }
    }

    /// Where others register what they measure.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn http(&self, route: &str, method: &str, status: u16, time: Duration) {
        self.http_requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.http_duration.with_label_values(&[route]).observe(time.as_secs_f64());
    }

    pub(crate) fn tool(&self, tool: &str, time: Duration) {
        self.tool_calls.with_label_values(&[tool]).inc();
        self.tool_duration.with_label_values(&[tool]).observe(time.as_secs_f64());
    }

    pub(crate) fn error(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }

    /// Measures the calls of this Redis from now on.
    pub fn measure(&self, redis: &Redis) {
        let (duration, failures) = (self.redis_duration.clone(), self.redis_failures.clone());
        redis.observe(move |call| {
            duration.with_label_values(&[call.what]).observe(call.took.as_secs_f64());
            if !call.answered {
                failures.with_label_values(&[call.what]).inc();
            }
        });
    }

    fn show_backlog(&self, backlog: &[Backlog]) {
        // Who has nothing waiting any more is shown no more.
        self.waiting.reset();
        self.oldest.reset();
        for (priority, tenant, waiting, oldest) in by_tenant(backlog) {
            let labels = [priority.as_str(), tenant];
            self.waiting.with_label_values(&labels).set(i64::try_from(waiting).unwrap_or(i64::MAX));
            self.oldest.with_label_values(&labels).set(oldest.as_secs_f64());
        }
    }

    fn show_cache(&self, stats: &CacheStats) {
        let max = stats.max_bytes.unwrap_or_default();
        for (figure, value) in [("entries", stats.entries), ("bytes", stats.bytes), ("max_bytes", max)] {
            self.cache.with_label_values(&[figure]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.cache_lookups.reset();
        for (outcome, count) in [
            ("hit", stats.hits),
            ("miss", stats.misses),
            ("coalesced", stats.coalesced),
            ("evicted", stats.evicted),
            ("invalidated", stats.invalidated),
        ] {
            self.cache_lookups.with_label_values(&[outcome]).inc_by(count);
        }
    }

    fn show_webhooks(&self, backlog: &WebhookBacklog) {
        let WebhookBacklog { outbox, receivers, overdue } = *backlog;
        let set = |figure: &str, value: f64| self.webhooks.with_label_values(&[figure]).set(value);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        {
            set("outbox", outbox as f64);
            set("receivers", receivers as f64);
        }
        set("overdue_seconds", overdue.as_secs_f64());
    }

    /// All of them as text, with the content type of the format. Without Redis the process's own are still worth having.
    /// Tenants are named only to those who may know of them.
    pub(crate) async fn render(
        &self,
        queue: &Queue,
        names_tenants: bool,
    ) -> Result<(String, Vec<u8>), prometheus::Error> {
        if names_tenants && let Ok(backlog) = queue.backlog().await {
            self.show_backlog(&backlog);
        }
        if let Ok(depth) = queue.depth().await {
            for (state, runs) in
                [("ready", depth.ready), ("running", depth.running), ("delayed", depth.delayed)]
            {
                self.queue.with_label_values(&[state]).set(i64::try_from(runs).unwrap_or(i64::MAX));
            }
        }
        if let Ok(counters) = queue.counters().await {
            // They are counted in Redis; here they are only shown.
            self.counters.reset();
            for (event, count) in counters {
                self.counters.with_label_values(&[&event]).inc_by(count);
            }
        }
        if let Ok(stats) = queue.cache_stats().await {
            self.show_cache(&stats);
        }
        if let Ok(backlog) = Webhooks::new(queue.clone()).backlog().await {
            self.show_webhooks(&backlog);
        }
        let (encoder, mut text) = (TextEncoder::new(), Vec::new());
        encoder.encode(&self.registry.gather(), &mut text)?;
        Ok((encoder.format_type().to_owned(), text))
    }
}

/// The same with the tenants beyond [`TENANTS_MOST`] put together.
fn by_tenant(backlog: &[Backlog]) -> Vec<(Priority, &str, u64, Duration)> {
    let mut totals: HashMap<&str, u64> = HashMap::new();
    for Backlog { tenant, waiting, .. } in backlog {
        *totals.entry(tenant.as_str()).or_default() += waiting;
    }
    let mut ranked: Vec<_> = totals.into_iter().collect();
    ranked.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    ranked.truncate(TENANTS_MOST);
    let mut shown: BTreeMap<(&str, &str), (Priority, u64, Duration)> = BTreeMap::new();
    for Backlog { priority, tenant, waiting, oldest } in backlog {
        let has_own = ranked.iter().any(|(name, _)| *name == tenant.as_str());
        let name = if has_own { tenant.as_str() } else { OTHERS };
        let entry = shown.entry((priority.as_str(), name)).or_insert((*priority, 0, Duration::ZERO));
        entry.1 += waiting;
        entry.2 = entry.2.max(*oldest);
    }
    shown
        .into_iter()
        .map(|((_, name), (priority, waiting, oldest))| (priority, name, waiting, oldest))
        .collect()
}

#[cfg(test)]
mod tests {
    use jobs::TenantId;

    use super::*;

    #[test]
    fn tenants_beyond_the_twentieth_are_one() {
        let row = |number: u64, priority| Backlog {
            priority,
            tenant: TenantId::new(format!("t{number:02}")),
            waiting: 100 - number,
            oldest: Duration::from_secs(number),
        };
        let mut backlog: Vec<_> = (0..25).map(|number| row(number, Priority::Normal)).collect();
        backlog.push(row(24, Priority::Batch));
        // Two rows of one tenant count together: it is ahead of all others.
        let shown = by_tenant(&backlog);
        let own = |wanted: &str| shown.iter().filter(|(_, name, ..)| *name == wanted).count();
        assert_eq!((own("t00"), own("t18"), own("t24"), own("t19")), (1, 1, 2, 0));
        assert!(
            shown.contains(&(Priority::Normal, OTHERS, 81 + 80 + 79 + 78 + 77, Duration::from_secs(23))),
            "{shown:?}"
        );
        assert_eq!(
            shown.iter().map(|(_, _, waiting, _)| waiting).sum::<u64>(),
            backlog.iter().map(|row| row.waiting).sum::<u64>()
        );
    }
}
