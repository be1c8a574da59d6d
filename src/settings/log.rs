//! What is logged and traced, and where that goes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is logged and traced, and where that goes.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// error, warn, info, debug, trace, or a filter such as info,jobs=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info,rmcp=warn,apalis_core=warn", global = true)]
    pub log_level: String,

    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// File to log to instead of standard error, one for each process; when it is full, it becomes FILE.1, that FILE.2, and so on
    #[arg(long, env = "LOG_FILE", global = true)]
    pub log_file: Option<PathBuf>,

    /// Megabytes after which the log file is full
    #[arg(long, env = "LOG_FILE_MB", default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub log_file_mb: u32,

    /// Log files that are kept, the one that is written included
    #[arg(long, env = "LOG_FILES", default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub log_files: u32,

    /// Collector to send traces to (OTLP over HTTP), e.g. http://127.0.0.1:4318; the other OTEL_* variables of its kind hold too:
    /// OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,

    /// What this process is called in traces
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "jesse-jobs", global = true)]
    pub service_name: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
