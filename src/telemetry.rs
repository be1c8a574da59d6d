//! The log and the traces of a process: where they go, and in which form.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal},
    path::Path,
    sync::Mutex,
};

use axum::http::{HeaderMap, Method};
use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, fmt::writer::BoxMakeWriter, layer::SubscriberExt,
    util::SubscriberInitExt,
};
use workers::traces;

use crate::settings::{LogFormat, LogSettings};

/// What is to be closed at the end of the process.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and exporting traces if the settings say where to. To be called before anything else runs, since the
    /// exporter has a thread of its own, and in it a client that must not be made by a task. An error says which setting is wrong.
    pub fn start(settings: &LogSettings) -> Result<Self, String> {
        let filter = EnvFilter::try_new(settings.log_level.to_lowercase());
        let filter = filter.map_err(|error| format!("LOG_LEVEL is {:?}: {error}", settings.log_level))?;
        // Spans for traces would be in front of every line.
        let quiet =
            format!("{}=off", traces::TARGET).parse().map_err(|error| format!("LOG_LEVEL: {error}"))?;
        let file = settings.log_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        let colours = file.is_none() && io::stderr().is_terminal();
        let writer = match file {
            Some(file) => BoxMakeWriter::new(Mutex::new(rotating(file, settings)?)),
            None => BoxMakeWriter::new(io::stderr),
        };
        let lines = tracing_subscriber::fmt::layer::<Registry>().with_ansi(colours).with_writer(writer);
        let lines = match settings.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let lines = lines.with_filter(filter.add_directive(quiet));
        let exported = exported(settings)?;
        let spans = exported.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("jesse-jobs"));
            layer.with_filter(Targets::new().with_target(traces::TARGET, LevelFilter::INFO))
        });
        tracing_subscriber::registry().with(lines).with(spans).init();
        Ok(Self { traces: exported })
    }

    /// Sends what was not sent yet.
    pub fn end(self) {
        if let Some(provider) = self.traces
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// The log file, which becomes `FILE.1` and so on when it is full.
fn rotating(file: &Path, settings: &LogSettings) -> Result<FileRotate<AppendCount>, String> {
    // The library would panic.
    let file =
        std::path::absolute(file).map_err(|error| format!("LOG_FILE is {}: {error}", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let usable = fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().read(true).create(true).append(true).open(&file));
    usable.map_err(|error| format!("LOG_FILE is {}, which cannot be written: {error}", file.display()))?;
    let most = settings.log_file_mb as usize * 1_000_000;
    let older = AppendCount::new(settings.log_files as usize - 1);
    Ok(FileRotate::new(file, older, ContentLimit::BytesSurpassed(most), Compression::None, None))
}

/// Where traces go, if they go anywhere.
fn exported(settings: &LogSettings) -> Result<Option<SdkTracerProvider>, String> {
    let Some(endpoint) = settings.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(None);
    };
    let wrong = |why: String| format!("OTEL_EXPORTER_OTLP_ENDPOINT is {endpoint:?}: {why}");
    let url = reqwest::Url::parse(endpoint).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must be as http://collector:4318".into()));
    }
    jobs::choose_tls();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

/// The span of an HTTP request, in the trace that its client has begun, if it has.
pub(crate) fn request_span(method: &Method, route: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: traces::TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    if !span.is_disabled()
        && let Some(traceparent) = headers.get("traceparent").and_then(|value| value.to_str().ok())
    {
        traces::continue_from(&span, traceparent);
    }
    span
}

/// The span of a request, for what serves it in a task of its own.
#[derive(Debug, Clone)]
pub(crate) struct RequestSpan(pub(crate) Span);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeMap, io::Write};

    use super::*;

    #[test]
    fn full_log_files_make_room_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            log_level: "info".into(),
            log_format: LogFormat::Text,
            log_file: None,
            log_file_mb: 1,
            log_files: 3,
            otlp_endpoint: None,
            service_name: "test".into(),
        };
        let line = [&[b'x'; 999][..], b"\n"].concat();
        // As if the process were started anew in between: what is there counts.
        for _ in 0..2 {
            let mut file = rotating(&folder.path().join("log"), &settings).unwrap();
            for _ in 0..2_600 {
                file.write_all(&line).unwrap();
            }
        }
        let sizes: BTreeMap<_, _> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        assert_eq!(sizes.keys().collect::<Vec<_>>(), ["log", "log.1", "log.2"]);
        assert!(sizes.values().all(|size| *size <= 1_001_000), "{sizes:?}");
        assert!(sizes.values().sum::<u64>() > 2_000_000, "{sizes:?}");
    }
}
