//! A strategy's files on the disk, as a draft. Only as much is read as a draft may have, whatever lies there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
};

use jesse::strategies::draft::{DraftRequest, MOST_BYTES, MOST_FILES};

use super::StrategiesError;

/// The deepest folder that is looked into: more parts than the path of a draft's file may have.
const DEEPEST: usize = 8;
/// The most entries that are looked at in all folders, those that are left out included.
const MOST_ENTRIES: usize = 10_000;

/// The strategy in this folder or file, and the files `with` it in the project `root`.
pub(super) fn draft(
    path: &Path,
    name: Option<String>,
    root: &Path,
    with: &[String],
) -> Result<DraftRequest, StrategiesError> {
    let mut reading = Reading { files: BTreeMap::new(), bytes: 0, entries: 0 };
    let unreadable = |error| StrategiesError::Read(path.to_owned(), error);
    let mut draft = DraftRequest { name, ..DraftRequest::default() };
    if fs::metadata(path).map_err(unreadable)?.is_dir() {
        // `.` and `..` have no name of their own.
        let folder = path.canonicalize().map_err(unreadable)?;
        let own = folder.file_name().and_then(|name| name.to_str());
        let own = own.ok_or_else(|| StrategiesError::Name(path.to_owned()))?;
        let name = draft.name.get_or_insert_with(|| own.to_owned());
        reading.folder(&folder, &format!("strategies/{name}"), 0)?;
    } else {
        draft.source = Some(reading.text(path)?);
    }
    for file in with {
        let text = reading.text(&root.join(file))?;
        reading.files.insert(file.clone(), text);
    }
    draft.files = reading.files;
    Ok(draft)
}

struct Reading {
    files: BTreeMap<String, String>,
    bytes: usize,
    entries: usize,
}

impl Reading {
    /// All files of a folder; what is hidden or made by Python is left out, and links are not followed.
    fn folder(&mut self, folder: &Path, named: &str, depth: usize) -> Result<(), StrategiesError> {
        let unreadable = |error| StrategiesError::Read(folder.to_owned(), error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            entries.push(entry.map_err(unreadable)?);
            self.entries += 1;
            if self.entries > MOST_ENTRIES || self.files.len() > MOST_FILES {
                let most = format!("{MOST_FILES} files");
                return Err(StrategiesError::TooMuch(folder.to_owned(), most));
            }
        }
        // In one order, so that the same mistake is told each time.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| StrategiesError::Name(path.clone()))?;
            if name.starts_with('.') || name == "__pycache__" || is_compiled(&path) {
                continue;
            }
            let kind = entry.file_type().map_err(unreadable)?;
            let named = format!("{named}/{name}");
            if kind.is_dir() {
                if depth == DEEPEST {
                    let most = format!("folders {DEEPEST} deep");
                    return Err(StrategiesError::TooMuch(path, most));
                }
                self.folder(&path, &named, depth + 1)?;
            } else if kind.is_file() {
                let text = self.text(&path)?;
                self.files.insert(named, text);
            }
        }
        Ok(())
    }

    fn text(&mut self, path: &Path) -> Result<String, StrategiesError> {
        let unreadable = |error| StrategiesError::Read(path.to_owned(), error);
        // A pipe or a device might never end, or never begin.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::other("it is not a file")));
        }
        let left = MOST_BYTES.saturating_sub(self.bytes);
        let mut bytes = Vec::new();
        let most = u64::try_from(left).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() > left {
            let most = format!("{} KB in all its files", MOST_BYTES >> 10);
            return Err(StrategiesError::TooMuch(path.to_owned(), most));
        }
        self.bytes += bytes.len();
        String::from_utf8(bytes).map_err(|_| StrategiesError::NotText(path.to_owned()))
    }
}

fn is_compiled(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "pyc")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::PathBuf;

    use super::*;

    fn strategy(parent: &Path) -> PathBuf {
        let folder = parent.join("Mine");
        fs::create_dir_all(folder.join("parts/__pycache__")).unwrap();
        for (name, text) in [
            ("__init__.py", "main"),
            ("parts/one.py", "one"),
            ("parts/__pycache__/one.pyc", "no"),
            (".secret", "no"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_is_read_with_its_parts_and_a_file_as_the_source() {
        let parent = tempfile::tempdir().unwrap();
        let folder = strategy(parent.path());
        fs::write(parent.path().join("helper.py"), "helper").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link.py")).unwrap();
        let with = ["helper.py".to_owned()];
        let read = draft(&folder, None, parent.path(), &with).unwrap();
        let files: Vec<_> = read.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let expected = [
            ("helper.py", "helper"),
            ("strategies/Mine/__init__.py", "main"),
            ("strategies/Mine/parts/one.py", "one"),
        ];
        assert_eq!((read.name.as_deref(), &files[..]), (Some("Mine"), &expected[..]));

        let renamed = draft(&folder, Some("Other".into()), parent.path(), &[]).unwrap();
        assert!(renamed.files.contains_key("strategies/Other/__init__.py"));
        let one = draft(&folder.join("__init__.py"), None, parent.path(), &[]).unwrap();
        assert_eq!((one.name, one.source.as_deref(), one.files.len()), (None, Some("main"), 0));
    }

    #[test]
    fn what_cannot_be_a_strategy_is_refused_without_reading_all_of_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = strategy(parent.path());
        let said = |path: &Path| draft(path, None, parent.path(), &[]).unwrap_err().to_string();
        assert!(said(&parent.path().join("missing")).ends_with("cannot be read"));
        assert!(said(Path::new("/dev/zero")).ends_with("cannot be read"));
        fs::write(folder.join("image.png"), [0xff, 0xfe]).unwrap();
        assert!(said(&folder).contains("image.png is not UTF-8 text"));
        fs::remove_file(folder.join("image.png")).unwrap();
        fs::write(folder.join("large.py"), "#".repeat(MOST_BYTES)).unwrap();
        assert!(said(&folder).contains("512 KB in all its files"));
        fs::remove_file(folder.join("large.py")).unwrap();
        fs::create_dir_all(folder.join("a/b/c/d/e/f/g/h/i/j")).unwrap();
        assert!(said(&folder).contains("folders 8 deep"));
    }
}
