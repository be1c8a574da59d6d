//! Whether the Python packages on the disk are still those that a zygote has imported.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Names that come and go without anything being installed.
const PASSING: &str = "__pycache__";

/// A hash of what is installed in these folders: the names in them and the times of their packages' descriptions, and of the
/// package `jesse` every file with its time and size. Reading it takes some milliseconds.
pub(super) fn fingerprint(folders: &[PathBuf], jesse: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for folder in folders {
        // A folder that cannot be read has nothing installed.
        let _missing = hash_folder(folder, &mut hasher);
    }
    let _missing = hash_tree(jesse, &mut hasher);
    hasher.finalize()
}

fn hash_folder(folder: &Path, hasher: &mut blake3::Hasher) -> io::Result<()> {
    for entry in sorted(folder)? {
        let name = entry.file_name();
        hasher.update(name.as_encoded_bytes()).update(b"\n");
        if Path::new(&name).extension().is_some_and(|end| end == "dist-info" || end == "pth") {
            hash_stamp(&entry.metadata()?, hasher);
        }
    }
    Ok(())
}

fn hash_tree(folder: &Path, hasher: &mut blake3::Hasher) -> io::Result<()> {
    for entry in sorted(folder)? {
        hasher.update(entry.file_name().as_encoded_bytes()).update(b"\n");
        if entry.file_type()?.is_dir() {
            hash_tree(&entry.path(), hasher)?;
        } else {
            hash_stamp(&entry.metadata()?, hasher);
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.retain(|entry| entry.file_name() != PASSING);
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

fn hash_stamp(metadata: &fs::Metadata, hasher: &mut blake3::Hasher) {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    hasher.update(&modified.unwrap_or_default().as_nanos().to_le_bytes());
    // The length of a folder depends on the file system's mood.
    let length = if metadata.is_file() { metadata.len() } else { 0 };
    hasher.update(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_installed_changes_it_and_what_is_compiled_does_not() {
        let site = tempfile::tempdir().unwrap();
        let jesse = site.path().join("jesse");
        fs::create_dir_all(jesse.join("modes")).unwrap();
        fs::write(jesse.join("modes/backtest_mode.py"), "1").unwrap();
        let look = || fingerprint(&[site.path().to_owned()], &jesse);
        let mut last = look();
        for folder in [site.path(), &jesse, &jesse.join("modes")] {
            fs::create_dir(folder.join(PASSING)).unwrap();
            fs::write(folder.join(PASSING).join("x.pyc"), "").unwrap();
        }
        assert_eq!(look(), last);
        let version = |version: &str| site.path().join(format!("numpy-{version}.dist-info"));
        let changes: [&dyn Fn() -> io::Result<()>; 4] = [
            &|| fs::write(jesse.join("modes/backtest_mode.py"), "12"),
            &|| fs::create_dir(version("2.0")),
            &|| fs::rename(version("2.0"), version("2.1")),
            &|| fs::remove_dir_all(&jesse),
        ];
        for change in changes {
            change().unwrap();
            let now = look();
            assert_ne!(now, last);
            last = now;
        }
    }
}
