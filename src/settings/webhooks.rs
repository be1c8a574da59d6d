//! How webhooks are delivered, and where they may go.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use workers::webhooks::{AddressFilter, Allowed, WebhookSettings};

/// Where webhooks may go.
#[derive(Debug, Clone, Args)]
pub struct ReceiverSettings {
    /// Networks, addresses and host names that webhooks may be sent to beside public addresses, e.g. 10.1.0.0/16,hooks.internal
    /// (comma-separated)
    #[arg(long, env = "WEBHOOK_ALLOW", value_delimiter = ',', value_parser = Allowed::from_str)]
    pub webhook_allow: Vec<Allowed>,
}

impl ReceiverSettings {
    /// What is allowed.
    pub fn filter(&self) -> AddressFilter {
        AddressFilter::new(self.webhook_allow.iter().cloned())
    }
}

/// Whether a process delivers webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delivers {
    /// Beside what else it does.
    On,
    /// Others do.
    Off,
    /// It does nothing else, and needs no Jesse.
    Only,
}

/// How webhooks are delivered.
#[derive(Debug, Clone, Args)]
pub struct WebhookArgs {
    /// Whether this process delivers webhooks: on, off, or (for a worker) only, which needs no Jesse
    #[arg(long, env = "JESSE_JOBS_WEBHOOKS", default_value = "on")]
    pub webhooks: Delivers,

    /// See the struct.
    #[command(flatten)]
    pub receivers: ReceiverSettings,

    /// Seconds between the attempts to deliver a webhook, on average: each pause is drawn between none and twice it
    #[arg(long, env = "WEBHOOK_SCHEDULE", value_delimiter = ',', value_parser = seconds,
        default_value = "5,300,1800,7200,18000,36000,50400,72000,86400")]
    pub webhook_schedule: Vec<Duration>,

    /// Seconds that one attempt may take
    #[arg(long, env = "WEBHOOK_TIMEOUT", default_value = "15", value_parser = seconds)]
    pub webhook_timeout: Duration,

    /// Attempts at once for one receiver; fewer while it fails
    #[arg(long, env = "WEBHOOK_CONCURRENCY", default_value_t = jobs::webhooks::DEFAULT_WIDTH, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub webhook_concurrency: u32,

    /// Attempts at once in this process
    #[arg(long, env = "WEBHOOK_SLOTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub webhook_slots: u32,

    /// Hours of nothing but failures after which an endpoint is disabled
    #[arg(long, env = "WEBHOOK_DISABLE_HOURS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub webhook_disable_hours: u64,
}

/// The longest that all pauses of a schedule may take together, on average: deliveries are not kept for longer.
const LONGEST_SCHEDULE: Duration = Duration::from_hours(96);

const MOST_ATTEMPTS: usize = 30;

impl WebhookArgs {
    /// How to deliver. An error says what does not fit.
    pub fn webhook_settings(&self) -> Result<WebhookSettings, String> {
        let schedule = self.webhook_schedule.clone();
        if schedule.len() >= MOST_ATTEMPTS || schedule.iter().sum::<Duration>() > LONGEST_SCHEDULE {
            return Err(format!(
                "--webhook-schedule: at most {} pauses, which take {} hours together",
                MOST_ATTEMPTS - 1,
                LONGEST_SCHEDULE.as_secs() / 3600
            ));
        }
        if !(Duration::from_millis(100)..=Duration::from_mins(2)).contains(&self.webhook_timeout) {
            return Err("--webhook-timeout: must be from 0.1 to 120".into());
        }
        Ok(WebhookSettings {
            schedule,
            timeout: self.webhook_timeout,
            slots: self.webhook_slots as usize,
            disable_after: Duration::from_hours(self.webhook_disable_hours),
        })
    }
}

/// A number of seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|duration| *duration <= Duration::from_hours(30 * 24))
        .ok_or_else(|| "must be from 0 to 2592000".into())
}
