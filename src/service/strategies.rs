//! Strategies as clients see them: list, read, validate, write, delete.

use std::{collections::BTreeMap, time::Duration};

use jesse::{
    catalogue::{Catalogue, Hyperparameter, Strategy, nearest},
    published::{MOST_WRITTEN, WrittenStrategy, now_ms},
    strategies::{
        bundle,
        draft::{self, Draft, DraftRequest, Note, Report, ValidationPlan, ValidationSpec, main_file},
        project::Files,
    },
};
use jobs::{
    Accepted, CacheMode, ErrorCode, JobError, JobId, JobState, JobView, Kind, Priority, Submission, Tags,
    TenantId, Treatment,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{Service, engines::Runnable, submit::json_text};
use crate::errors::{Code, ServiceError};

/// The most bytes of text of one answer.
const MOST_SHOWN: usize = 256 << 10;
/// How many known names an error tells.
const NAMES_TOLD: usize = 40;

/// A strategy as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Strategy")]
pub struct StrategyView {
    /// Its name.
    pub name: String,
    /// The first line of its documentation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// What may be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hyperparameters: Vec<Hyperparameter>,
    /// Why it cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
    /// A client has written it: it is in no project.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
    /// What there is to know of others of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub conflict: Option<String>,
}

impl StrategyView {
    fn new(name: &str, strategy: &Strategy, catalogue: &Catalogue) -> Self {
        Self {
            name: name.to_owned(),
            doc: strategy.doc.clone(),
            hyperparameters: strategy.hyperparameters.clone(),
            error: strategy.error.as_ref().map(|error| error.message.clone()),
            written: catalogue.written.contains_key(name),
            conflict: catalogue.conflicts.get(name).cloned(),
        }
    }
}

/// A strategy with its source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StrategySource {
    /// What the list says of it.
    #[serde(flatten)]
    pub view: StrategyView,
    /// Names this code: a backtest that is submitted now runs exactly it.
    pub bundle: String,
    /// Path to text: the strategy and all that it imports.
    pub files: BTreeMap<String, String>,
    /// Paths whose text is left out, and how many bytes it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub omitted: BTreeMap<String, u64>,
}

/// What a validation found, or, if it goes on, which job it is.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Validation {
    /// Whether the strategy can run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub valid: Option<bool>,
    /// Its name.
    pub name: String,
    /// Why it cannot run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Note>,
    /// What its author may not expect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Note>,
    /// What may be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hyperparameters: Vec<Hyperparameter>,
    /// Names the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub bundle: Option<String>,
    /// Whether backtests can use it from now on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
    /// The job that validates.
    pub job_id: String,
    /// Where that job stands.
    pub state: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub next: Option<String>,
}

impl Service {
    /// All strategies, by name.
    pub async fn strategies(&self) -> Result<Vec<StrategyView>, ServiceError> {
        let Runnable { catalogue, offer, .. } = self.runnable().await?;
        let mut all = BTreeMap::new();
        let offered = offer.iter().map(|offer| &offer.value.catalogue);
        // A strategy that both have runs on the runner.
        for catalogue in offered.chain(catalogue.as_deref()) {
            for (name, strategy) in &catalogue.strategies {
                all.insert(name, StrategyView::new(name, strategy, catalogue));
            }
        }
        Ok(all.into_values().collect())
    }

    /// A strategy with the text of its files, or of the one that is named. At most `most` bytes of text, the strategy's own
    /// file first.
    pub async fn strategy(
        &self,
        name: &str,
        file: Option<&str>,
        most: usize,
    ) -> Result<StrategySource, ServiceError> {
        let runnable = self.runnable().await?;
        let catalogue = runnable.runners()?;
        let of_server = runnable.offer.as_ref().is_some_and(|offer| {
            offer.value.catalogue.strategies.contains_key(name) && !catalogue.strategies.contains_key(name)
        });
        if of_server {
            let message = format!(
                "{name} is a strategy of Jesse's server, which can run it; its source is not kept here"
            );
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        let strategy = find(catalogue, name)?;
        let all = self.stored_files(strategy).await?.ok_or_else(|| {
            let message = format!(
                "the code of {name} is not in the blob store; a worker with its project stores it again"
            );
            ServiceError::new(Code::Unavailable, message)
        })?;
        let view = StrategyView::new(name, strategy, catalogue);
        let bundle = strategy.bundle.to_string();
        let mut source = StrategySource { view, bundle, files: BTreeMap::new(), omitted: BTreeMap::new() };
        if let Some(file) = file
            && !all.contains_key(file)
        {
            let known: Vec<_> = all.keys().map(String::as_str).take(NAMES_TOLD).collect();
            let message = format!("file: {name} has no {:?}; it has {}", shown(file), known.join(", "));
            return Err(ServiceError::new(Code::InvalidRequest, message));
        }
        let mut left = most.min(MOST_SHOWN);
        let main = main_file(name);
        let mut paths: Vec<_> = all.keys().filter(|path| file.is_none_or(|file| file == *path)).collect();
        paths.sort_by_key(|path| (**path != main, *path));
        for path in paths {
            let bytes = &all[path];
            match std::str::from_utf8(bytes) {
                Ok(text) if text.len() <= left => {
                    left -= text.len();
                    source.files.insert(path.clone(), text.to_owned());
                }
                _ => _ = source.omitted.insert(path.clone(), bytes.len() as u64),
            }
        }
        Ok(source)
    }

    async fn stored_files(&self, strategy: &Strategy) -> Result<Option<Files>, ServiceError> {
        let stored = self.inner.inputs.get(&strategy.bundle).await.map_err(jobs::QueueError::from)?;
        let files = stored.map(|stored| bundle::files(&stored)).transpose();
        files.map_err(|error| ServiceError::internal("a bundle cannot be read", &error))
    }

    /// Looks for what is wrong with a strategy; as long as clients may not write strategies, without running any of its code,
    /// so only at its syntax. What is not given is taken from the strategy of that name as it is now. The
    /// answer says either what was found, or, if that takes longer than `wait`, which job to ask.
    pub async fn validate(
        &self,
        tenant: &TenantId,
        request: DraftRequest,
        wait: Duration,
    ) -> Result<Validation, ServiceError> {
        let draft = Draft::check(request)?;
        Ok(Box::pin(self.judge(tenant, draft, wait)).await?.0)
    }

    /// Validates a strategy and, if it can run, makes it one that backtests can use, on every worker.
    pub async fn write(
        &self,
        tenant: &TenantId,
        request: DraftRequest,
        replace: bool,
        wait: Duration,
    ) -> Result<Validation, ServiceError> {
        self.check_writable()?;
        let draft = Draft::check(request)?;
        let name = draft.name.clone();
        refuse_to_shadow(&name, replace, &*self.catalogue().await?)?;
        let (mut validation, report) = Box::pin(self.judge(tenant, draft, wait)).await?;
        let Some(report) = report else {
            validation.next =
                Some("nothing is written yet; make the same call again once the job has ended".into());
            return Ok(validation);
        };
        let Some(bundle) = report.bundle.filter(|_| report.valid) else {
            validation.next = Some("nothing is written; mend the errors and write it again".into());
            return Ok(validation);
        };
        let strategy =
            Strategy { bundle, doc: report.doc, hyperparameters: report.hyperparameters, error: None };
        // Between the first look and now a project may have got one of this name.
        refuse_to_shadow(&name, replace, &*self.catalogue().await?)?;
        let written = WrittenStrategy { strategy, written_ms: now_ms(), replace };
        let changed = self.inner.published.change_written(|all| {
            let known = all
                .get(&name)
                .is_some_and(|known| known.strategy == written.strategy && known.replace == written.replace);
            let fits = all.contains_key(&name) || all.len() < MOST_WRITTEN;
            if fits && !known {
                all.insert(name.clone(), written.clone());
            }
            fits
        });
        if !changed.await?.ok_or_else(busy)? {
            let message =
                format!("{MOST_WRITTEN} strategies are written, which is the most; delete some first");
            return Err(ServiceError::new(Code::StrategyExists, message));
        }
        validation.written = true;
        Ok(validation)
    }

    /// Takes back a strategy that was written. Jobs that were submitted with it go on.
    pub async fn delete_strategy(&self, name: &str) -> Result<(), ServiceError> {
        self.check_writable()?;
        let removed = self.inner.published.change_written(|all| all.remove(name).is_some());
        if removed.await?.ok_or_else(busy)? {
            return Ok(());
        }
        let catalogue = self.catalogue().await?;
        find(&catalogue, name)?;
        let message =
            format!("{name} is in a project's folder; only strategies that were written can be deleted here");
        Err(ServiceError::new(Code::StrategyExists, message))
    }

    fn check_writable(&self) -> Result<(), ServiceError> {
        if self.writable {
            return Ok(());
        }
        let message = "strategies cannot be written here, since that is running code; whoever runs this server can allow it with \
                       --allow-strategy-write (JESSE_JOBS_ALLOW_STRATEGY_WRITE=true)";
        Err(ServiceError::new(Code::WritingNotAllowed, message))
    }

    /// Validates, as a job; answers the report too if it is there in time.
    async fn judge(
        &self,
        tenant: &TenantId,
        draft: Draft,
        wait: Duration,
    ) -> Result<(Validation, Option<Report>), ServiceError> {
        let catalogue = self.catalogue().await?;
        let draft = match catalogue.strategies.get(&draft.name) {
            Some(strategy) => {
                let base = self.stored_files(strategy).await?.unwrap_or_default();
                draft.on(base)
            }
            None => draft,
        };
        if !draft.has_main_file() {
            let message = format!("files: {} is missing", main_file(&draft.name));
            return Err(JobError::new(ErrorCode::InvalidSpec, message).into());
        }
        let unreadable = |error: std::io::Error| ServiceError::internal("a draft cannot be packed", &error);
        let packed = bundle::pack(&draft.files, draft.files.keys(), &BTreeMap::new()).map_err(unreadable)?;
        let id = self.inner.inputs.put(packed.into()).await.map_err(jobs::QueueError::from)?;
        let spec = ValidationSpec::new(&draft, id, self.writable);
        let mut cache = CacheMode::Use;
        loop {
            let (job, accepted) = self.submit_validation(tenant, &spec, &catalogue, cache).await?;
            let limit = if accepted == Accepted::Cached { Duration::ZERO } else { wait };
            let view = self.job(tenant, job, limit, |_| {}).await?;
            let report = self.report(tenant, &view).await?;
            // A report may outlive what it speaks of.
            if cache == CacheMode::Use
                && let Some(bundle) = report.as_ref().and_then(|report| report.bundle.as_ref())
                && self.inner.inputs.get(bundle).await.map_err(jobs::QueueError::from)?.is_none()
            {
                cache = CacheMode::Refresh;
                continue;
            }
            return Ok((validation(&draft.name, &view, report.as_ref()), report));
        }
    }

    async fn submit_validation(
        &self,
        tenant: &TenantId,
        spec: &ValidationSpec,
        catalogue: &Catalogue,
        cache: CacheMode,
    ) -> Result<(JobId, Accepted), ServiceError> {
        let limits = draft::LIMITS;
        let submission = Submission {
            tenant: tenant.clone(),
            kind: Kind::StrategyValidate,
            treatment: Treatment {
                priority: Priority::Interactive,
                cache,
                max_attempts: 2,
                timeout_s: limits.wall_s,
                slots: 1,
                memory_mb: limits.memory_mb,
                tags: Tags::default(),
                webhook: None,
                looks: None,
            },
            request: json_text(spec)?,
            plan: json_text(&ValidationPlan { limits })?,
            cache_key: spec.cache_key(&catalogue.engine),
            start_at_ms: None,
            deadline_ms: None,
            idempotency: None,
            instead_of: None,
            trial_of: Vec::new(),
        };
        Ok(self.inner.queue.submit(&submission).await?)
    }

    /// What an ended validation found. A strategy that took the process down, or did not end, has failed at being looked at.
    async fn report(&self, tenant: &TenantId, view: &JobView) -> Result<Option<Report>, ServiceError> {
        if view.state == JobState::Succeeded {
            let body = self.result(tenant, view.job_id).await?;
            let text = json_text(&body.fields)?;
            let report = serde_json::from_str(&text)
                .map_err(|error| ServiceError::internal("a report cannot be read", &error))?;
            return Ok(Some(report));
        }
        match &view.error {
            Some(error) if view.state.is_terminal() && is_its_own(error.code) => {
                Ok(Some(Report::failed(error.message.clone())))
            }
            Some(error) if view.state.is_terminal() => Err(error.clone().into()),
            _ if view.state.is_terminal() => {
                let message = format!("the validation was {}; call again", view.state.as_str());
                Err(ServiceError::new(Code::ResultNotReady, message))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a strategy can bring such an end about while it is imported.
fn is_its_own(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::StrategyNotFound
            | ErrorCode::StrategyError
            | ErrorCode::Timeout
            | ErrorCode::OutOfMemory
            | ErrorCode::EngineCrashed
    )
}

fn validation(name: &str, view: &JobView, report: Option<&Report>) -> Validation {
    let mut validation = Validation {
        name: name.to_owned(),
        job_id: view.job_id.to_string(),
        state: view.state.as_str().to_owned(),
        ..Validation::default()
    };
    if let Some(report) = report {
        validation.valid = Some(report.valid);
        validation.errors.clone_from(&report.errors);
        validation.warnings.clone_from(&report.warnings);
        validation.hyperparameters.clone_from(&report.hyperparameters);
        validation.bundle = report.bundle.as_ref().map(ToString::to_string);
    } else {
        let job = view.job_id;
        validation.next = Some(format!("call job_get with job_id {job} and wait_seconds 25"));
    }
    validation
}

/// A strategy, or an error that tells what there is.
fn find<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Strategy, ServiceError> {
    catalogue.strategies.get(name).ok_or_else(|| {
        let names = catalogue.strategies.keys().map(String::as_str);
        let hint =
            nearest(name, names.clone()).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        let known: Vec<_> = names.take(NAMES_TOLD).collect();
        let message = format!("strategy {:?} not found; known: {}{hint}", shown(name), known.join(", "));
        ServiceError::new(Code::Job(ErrorCode::StrategyNotFound), message)
    })
}

fn refuse_to_shadow(name: &str, replace: bool, catalogue: &Catalogue) -> Result<(), ServiceError> {
    let of_project = catalogue.strategies.contains_key(name) && !catalogue.written.contains_key(name);
    if replace || !of_project {
        return Ok(());
    }
    let message = format!(
        "a project has a strategy {name}; write it under another name, or with replace true, which is used instead of the project's"
    );
    let mut error = ServiceError::new(Code::StrategyExists, message);
    error.detail = json!({ "name": name });
    Err(error)
}

fn busy() -> ServiceError {
    ServiceError::new(Code::Unavailable, "others write strategies all the time; try again in a moment")
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
