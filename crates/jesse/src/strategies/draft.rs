//! A draft: a strategy as a client hands it in, before anybody knows whether it can run. Its files are stored as a bundle;
//! the job `strategy_validate` says what is wrong with them, and which of them make up the strategy.

use std::collections::BTreeMap;

use jobs::{CacheKey, ErrorCode, JobError, Kind, blobs::BlobId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::project::Files;
use crate::{
    catalogue::{Engine, Hyperparameter},
    plan::Limits,
};

/// The most files of a draft.
pub const MOST_FILES: usize = 100;
/// The most bytes of all files of a draft together.
pub const MOST_BYTES: usize = 512 << 10;
/// The longest name of a strategy.
pub const LONGEST_NAME: usize = 64;
/// The longest path of a file.
const LONGEST_PATH: usize = 200;
const MOST_PARTS: usize = 8;
/// Changes whenever the same draft may be judged otherwise.
const VERSION: u32 = 1;

/// What validating may use: an import, not a computation.
pub const LIMITS: Limits = Limits { wall_s: 30, cpu_s: 30, memory_mb: 1024 };

/// `/v1/strategies/validate` is something else.
const VALIDATE: &str = "validate";
/// Names that Python keeps for itself.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
/// Names that a run keeps for itself in its folder.
const TAKEN: [&str; 4] = ["storage", "__pycache__", "output.log", ".requires.json"];

/// A strategy as a client writes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftRequest {
    /// Default: the class in source
    #[serde(default)]
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// Python code of strategies/NAME/__init__.py
    #[serde(default)]
    #[schemars(with = "String")]
    pub source: Option<String>,
    /// Path to text, e.g. {"indicators/bands.py": "..."}
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// A draft whose name and paths are sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The strategy's name.
    pub name: String,
    /// All files, by path relative to a project.
    pub files: Files,
}

impl Draft {
    /// Checks a request. What it says of each field that is wrong is told at once.
    pub fn check(request: DraftRequest) -> Result<Self, JobError> {
        let mut mistakes = Vec::new();
        let DraftRequest { name, source, mut files } = request;
        let name = name.or_else(|| class_name(source.as_deref()?)).unwrap_or_else(|| {
            mistakes.push((
                "name",
                "is missing, and source defines no class from which it could be taken".to_owned(),
            ));
            String::new()
        });
        if mistakes.is_empty()
            && let Err(why) = check_name(&name)
        {
            mistakes.push(("name", why));
        }
        let main = main_file(&name);
        match source {
            Some(_) if files.contains_key(&main) => {
                mistakes.push(("source", format!("is in files too, as {main}; give it once")));
            }
            Some(source) => _ = files.insert(main, source),
            None if files.is_empty() => {
                mistakes.push(("source", "is missing: give source, or files with their paths".to_owned()));
            }
            None => {}
        }
        if files.len() > MOST_FILES {
            mistakes.push(("files", format!("must be at most {MOST_FILES}")));
        }
        let bytes: usize = files.values().map(String::len).sum();
        if bytes > MOST_BYTES {
            mistakes.push((
                "files",
                format!("must have at most {} KB together, not {}", MOST_BYTES >> 10, bytes >> 10),
            ));
        }
        mistakes.extend(
            files.keys().filter_map(|path| check_path(path).err()).take(10).map(|why| ("files", why)),
        );
        if mistakes.is_empty() {
            let files = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
            return Ok(Self { name, files });
        }
        let text: Vec<_> = mistakes.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let errors: Vec<_> =
            mistakes.iter().map(|(field, why)| json!({"field": field, "message": why})).collect();
        let error = JobError::new(ErrorCode::InvalidSpec, text.join("; "));
        Err(error.with_detail(json!({ "errors": errors })))
    }

    /// The same with the files that this strategy has so far, unless they are given anew.
    #[must_use]
    pub fn on(mut self, base: Files) -> Self {
        for (path, bytes) in base {
            self.files.entry(path).or_insert(bytes);
        }
        self
    }

    /// Whether the file is there that makes it a strategy.
    pub fn has_main_file(&self) -> bool {
        self.files.contains_key(&main_file(&self.name))
    }
}

/// The file that makes a strategy of this name.
pub fn main_file(name: &str) -> String {
    format!("strategies/{name}/__init__.py")
}

/// Whether a strategy can have this name.
pub fn check_name(name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(80).collect();
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !starts || !rest || name.len() > LONGEST_NAME {
        return Err(format!(
            "{shown:?} is not a name for a strategy: it must be a Python identifier of 1 to {LONGEST_NAME} ASCII letters, digits \
             and underscores that starts with a letter"
        ));
    }
    if name == VALIDATE {
        return Err(format!("{shown:?} cannot be the name of a strategy: its address is taken"));
    }
    if KEYWORDS.contains(&name) {
        return Err(format!("{shown:?} is a word that Python keeps for itself"));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    let shown: String = path.chars().take(80).collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let parts: Vec<_> = path.split('/').collect();
    let sound = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed);
    if path.len() > LONGEST_PATH || parts.len() > MOST_PARTS || !parts.iter().copied().all(sound) {
        return Err(format!(
            "{shown:?} is not a path: write names of letters, digits, \"_\", \"-\" and \".\" with \"/\" between them, relative to \
             the project, e.g. strategies/Mine/__init__.py"
        ));
    }
    match parts.iter().find(|part| TAKEN.contains(part)) {
        Some(taken) => Err(format!("{shown:?}: a run keeps the name {taken:?} for itself")),
        None => Ok(()),
    }
}

/// The first class of a source that is derived from something.
fn class_name(source: &str) -> Option<String> {
    let named = source.lines().find_map(|line| {
        let (name, base) = line.strip_prefix("class ")?.split_once('(')?;
        base.contains("Strategy").then(|| name.trim().to_owned())
    })?;
    check_name(&named).is_ok().then_some(named)
}

/// What is shown of a validation as a job's spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationSpec {
    /// The strategy's name.
    pub strategy: String,
    /// The bundle of the draft's files.
    pub draft: BlobId,
    /// Their paths, with their bytes.
    pub files: BTreeMap<String, u64>,
    /// Whether the code may be run, which importing it is; without that only its syntax is looked at.
    pub import: bool,
}

impl ValidationSpec {
    /// Of a draft that is stored under this id.
    pub fn new(draft: &Draft, id: BlobId, import: bool) -> Self {
        let files = draft.files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
        Self { strategy: draft.name.clone(), draft: id, files, import }
    }

    /// The key under which the report is stored.
    pub fn cache_key(&self, engine: &Engine) -> CacheKey {
        let Engine { jesse_version, semantics, environment } = engine;
        let all = json!([
            VERSION,
            Kind::StrategyValidate.as_str(),
            self.strategy,
            self.draft,
            self.import,
            jesse_version,
            semantics,
            environment
        ]);
        CacheKey::new(blake3::hash(all.to_string().as_bytes()).to_hex().as_str())
    }
}

/// What a worker is told besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValidationPlan {
    /// What it may use.
    pub limits: Limits,
}

/// A mistake, or something else worth knowing, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// What is wrong, and what is wanted.
    pub message: String,
    /// Relative to the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub line: Option<u32>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub column: Option<u32>,
}

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it can run.
    pub valid: bool,
    /// Why it cannot.
    pub errors: Vec<Note>,
    /// What its author may not expect.
    #[serde(default)]
    pub warnings: Vec<Note>,
    /// What may be set.
    #[serde(default)]
    pub hyperparameters: Vec<Hyperparameter>,
    /// The first line of its documentation.
    #[serde(default)]
    pub doc: String,
    /// The files that it consists of: its own folder and what it imports.
    #[serde(default)]
    pub files: Vec<String>,
    /// The third-party packages that it imports, with their versions.
    #[serde(default)]
    pub requires: BTreeMap<String, String>,
    /// These files, stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BlobId>,
}

impl Report {
    /// Of a strategy that did not live to be looked at.
    pub fn failed(message: String) -> Self {
        let error = Note { message, file: None, line: None, column: None };
        Self {
            valid: false,
            errors: vec![error],
            warnings: Vec::new(),
            hyperparameters: Vec::new(),
            doc: String::new(),
            files: Vec::new(),
            requires: BTreeMap::new(),
            bundle: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn request(name: &str, files: &[(&str, &str)]) -> DraftRequest {
        let files = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        DraftRequest { name: Some(name.into()), source: None, files }
    }

    #[test]
    fn a_source_is_the_main_file_and_names_the_strategy() {
        let source = "import x\n\nclass Helper:\n    pass\n\nclass Mine(Strategy):\n    pass\n".to_owned();
        let draft =
            Draft::check(DraftRequest { source: Some(source.clone()), ..DraftRequest::default() }).unwrap();
        assert_eq!(draft.name, "Mine");
        assert_eq!(draft.files["strategies/Mine/__init__.py"], source.as_bytes());
        let base = Files::from([
            ("strategies/Mine/__init__.py".into(), b"old".to_vec()),
            ("helper.py".into(), b"h".to_vec()),
        ]);
        let whole = draft.on(base);
        assert_eq!(whole.files["strategies/Mine/__init__.py"], source.as_bytes());
        assert_eq!(whole.files["helper.py"], b"h");
    }

    #[test]
    fn names_and_paths_lead_nowhere_else() {
        for name in
            ["", "../x", "a/b", "a.b", "1a", "_a", "class", "ä", "a\0b", "a b", "validate", &"x".repeat(65)]
        {
            let error = Draft::check(request(name, &[("a.py", "")])).unwrap_err();
            assert!(
                error.code == ErrorCode::InvalidSpec && error.message.contains("name: "),
                "{name:?}: {error}"
            );
        }
        for path in [
            "",
            "/etc/passwd",
            "../x.py",
            "a/../b.py",
            "a//b.py",
            "./a.py",
            ".env",
            "a/.git/x",
            "a\\b.py",
            "a\0.py",
            "a b.py",
            "storage/x.py",
            "a/__pycache__/x.pyc",
            "output.log",
            "ä.py",
            "a/b/c/d/e/f/g/h/i.py",
            &"x".repeat(201),
        ] {
            let error = Draft::check(request("Mine", &[(path, "")])).unwrap_err();
            assert!(error.message.contains("files: "), "{path:?}: {error}");
        }
        for path in
            ["helper.py", "indicators/bands.py", "strategies/Mine/model-1.0.json", "strategies/__init__.py"]
        {
            assert!(Draft::check(request("Mine", &[(path, "")])).is_ok(), "{path}");
        }
    }

    #[test]
    fn too_much_or_nothing_at_all_is_refused() {
        let many: Vec<_> = (0..=MOST_FILES).map(|number| format!("f{number}.py")).collect();
        let many: Vec<_> = many.iter().map(|path| (path.as_str(), "")).collect();
        assert!(Draft::check(request("Mine", &many)).unwrap_err().message.contains("at most 100"));
        let long = "x".repeat(MOST_BYTES + 1);
        assert!(Draft::check(request("Mine", &[("a.py", &long)])).unwrap_err().message.contains("512 KB"));
        assert!(Draft::check(request("Mine", &[])).unwrap_err().message.contains("source: is missing"));
        assert!(Draft::check(DraftRequest::default()).unwrap_err().message.contains("name: is missing"));
        let mut twice = request("Mine", &[("strategies/Mine/__init__.py", "")]);
        twice.source = Some(String::new());
        assert!(Draft::check(twice).unwrap_err().message.contains("give it once"));
    }
}
