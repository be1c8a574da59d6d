//! `watch`: jobs to their ends, by their events.

use std::{io::IsTerminal, time::Duration};

use futures::{StreamExt, stream::FuturesOrdered};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Method;
use serde_json::Value;

use super::{ClientError, http::Server, job_path, print, show};
use crate::sse::EventReader;

/// How long to wait before a connection that broke is taken up again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times in a row nothing may come of that.
const TRIES: u32 = 30;
/// How fine a bar is.
const STEPS: u32 = 1000;

/// Follows jobs until all have ended; answers whether all succeeded. A terminal shows bars meanwhile, anything else nothing.
pub(super) async fn watch(server: &Server, ids: Vec<String>, json: bool) -> Result<bool, ClientError> {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bars = MultiProgress::with_draw_target(target);
    let paths = ids.iter().map(|id| job_path(id, "/events")).collect::<Result<Vec<_>, _>>()?;
    let mut following: FuturesOrdered<_> =
        paths.iter().map(|path| follow(server, path, bars.add(bar()))).collect();
    let mut ended = Vec::new();
    while let Some(job) = following.next().await {
        ended.push(job?);
    }
    bars.clear().map_err(|error| ClientError::Io("the terminal".into(), error))?;
    for job in &ended {
        match (json, ended.len()) {
            (true, _) => print(&job.to_string())?,
            (false, 1) => print(&show::job(job))?,
            (false, _) => {}
        }
    }
    if !json && ended.len() > 1 {
        print(&show::jobs(&ended))?;
    }
    Ok(ended.iter().all(|job| job["state"] == "succeeded"))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3}%  {wide_msg}");
    let bar = ProgressBar::new(STEPS.into());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#> "));
    bar
}

/// One job to its end, over as many connections as that takes.
async fn follow(server: &Server, path: &str, bar: ProgressBar) -> Result<Value, ClientError> {
    let mut last = Value::Null;
    let mut tries = 0;
    loop {
        match connection(server, path, &bar, &mut last).await {
            Ok(true) => return Ok(last),
            Ok(false) => tries = 0,
            Err(error @ ClientError::Unreachable(..)) => {
                tries += 1;
                if tries >= TRIES || last.is_null() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reads one connection; answers whether the job has ended.
async fn connection(
    server: &Server,
    path: &str,
    bar: &ProgressBar,
    last: &mut Value,
) -> Result<bool, ClientError> {
    let mut response = server.send(|| server.request(Method::GET, path, &[])).await?;
    let mut events = EventReader::default();
    let broken = |error| ClientError::Unreachable(path.to_owned(), error);
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        for data in events.feed(&piece).map_err(ClientError::Input)? {
            *last = serde_json::from_str(&data)
                .map_err(|error| ClientError::Input(format!("the server sent no JSON: {error}")))?;
            draw(bar, last);
            if let Some(state) = last["state"].as_str().and_then(jobs::JobState::parse)
                && state.is_terminal()
            {
                bar.finish_and_clear();
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of some steps")]
fn draw(bar: &ProgressBar, job: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(&job["job_id"]);
    // The end of an id is what tells ids of one second apart.
    bar.set_prefix(id.chars().skip(id.len().saturating_sub(8)).collect::<String>());
    let (counts, progress) = (&job["jobs"], &job["progress"]);
    let (fraction, message) =
        if let (Some(total), Some(open)) = (counts["total"].as_f64(), counts["open"].as_f64()) {
            (1.0 - open / total.max(1.0), format!("{} of {total} jobs", total - open))
        } else {
            (progress["fraction"].as_f64().unwrap_or_default(), text(&progress["message"]))
        };
    let left = progress["eta_s"].as_f64().map(|seconds| format!(", {seconds:.0} s left")).unwrap_or_default();
    bar.set_position((fraction.clamp(0.0, 1.0) * f64::from(STEPS)) as u64);
    let state = text(&job["state"]);
    bar.set_message(if message.is_empty() { state } else { format!("{state}: {message}{left}") });
}
