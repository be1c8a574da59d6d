//! Reading a Jesse project: the files that strategies may consist of, in memory, as they were at one moment.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bounds that keep a wrong folder (a home folder, a disk) from being read whole.
const MAX_FILES: usize = 5_000;
const MAX_MB: u64 = 64;
const MAX_DEPTH: usize = 12;

/// Folders that hold no code, or none of the project's own.
const IGNORED: [&str; 6] = ["__pycache__", "storage", "node_modules", "venv", "site-packages", "build"];

/// Why a project cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file or folder cannot be read.
    #[error("{0} cannot be read")]
    Io(PathBuf, #[source] io::Error),
    /// It has no folder `strategies`.
    #[error("{0} is not a Jesse project: it has no folder \"strategies\"")]
    NotAProject(PathBuf),
    /// It is far larger than strategies are.
    #[error("{0} is too large for a Jesse project: more than {MAX_FILES} files or {MAX_MB} MB of code")]
    TooLarge(PathBuf),
}

/// What tells without reading whether files were changed: path, length and time of the last change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

/// The files of a project, by path relative to its root with `/` between the parts.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Looks at the project's files without reading them: everything under `strategies`, and Python files elsewhere.
pub fn stamp(root: &Path) -> Result<Stamp, ProjectError> {
    if !root.join("strategies").is_dir() {
        return Err(ProjectError::NotAProject(root.to_owned()));
    }
    let mut found = BTreeMap::new();
    let mut bytes = 0;
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unreadable = |error| ProjectError::Io(folder.clone(), error);
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            // Follows links; one that leads nowhere is passed over.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if name.starts_with('.') || IGNORED.contains(&&*name) {
                continue;
            }
            if metadata.is_dir() {
                if depth < MAX_DEPTH && !path.join("pyvenv.cfg").exists() {
                    folders.push((path, depth + 1));
                }
            } else if metadata.is_file() && is_code(root, &path) {
                bytes += metadata.len();
                found.insert(path, (metadata.len(), metadata.modified().ok()));
            }
            if found.len() > MAX_FILES || bytes > MAX_MB << 20 {
                return Err(ProjectError::TooLarge(root.to_owned()));
            }
        }
    }
    Ok(Stamp(found))
}

fn is_code(root: &Path, path: &Path) -> bool {
    let python = path.extension().is_some_and(|extension| extension == "py");
    let compiled = path.extension().is_some_and(|extension| extension == "pyc");
    python || (path.starts_with(root.join("strategies")) && !compiled)
}

/// Reads the files that were stamped. A file that is gone meanwhile is left out; the next stamp will differ.
pub fn read(root: &Path, stamp: &Stamp) -> Result<Files, ProjectError> {
    let mut files = Files::new();
    for path in stamp.0.keys() {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ProjectError::Io(path.clone(), error)),
        };
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        files.insert(parts.join("/"), bytes);
    }
    Ok(files)
}
