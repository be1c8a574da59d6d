//! A worker's folder for its lifetime: sockets, scratch space, the Python package. It goes when the worker goes; what a killed
//! worker left is removed by the next one, which can tell by the lock that the operating system took off it.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The longest path of a folder in which sockets can be made.
const LONGEST: usize = 80;
const LOCK: &str = "lock";

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct RunFolder {
    folder: tempfile::TempDir,
    _lock: File,
}

impl RunFolder {
    /// Makes a new folder in this one, or, where its path would be too long for sockets, in the system's for temporary files.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        let parent = std::path::absolute(parent)?;
        fs::create_dir_all(&parent)?;
        remove_left_over(&parent)?;
        let fits = parent.as_os_str().len() + "/12345678".len() <= LONGEST;
        let parent = if fits { parent } else { std::env::temp_dir() };
        let mut builder = tempfile::Builder::new();
        // Nobody else may talk to the runner.
        builder
            .prefix(if fits { "" } else { "jesse-jobs-" })
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o700));
        let folder = builder.tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_left_over(parent: &Path) -> io::Result<()> {
    let folders: Vec<PathBuf> = fs::read_dir(parent)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for folder in folders {
        // One without a lock file was just made, or is none of ours.
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            tracing::info!(folder = %folder.display(), "removing what a worker left that was killed");
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_a_dead_worker_left_is_removed_and_what_a_live_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let live = RunFolder::make(parent.path()).unwrap();
        let dead = parent.path().join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let second = RunFolder::make(parent.path()).unwrap();
        assert!(!dead.exists() && live.path().exists() && second.path().exists());
        assert_eq!(fs::metadata(second.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_path_that_is_too_long_for_sockets_is_avoided() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("x".repeat(100));
        let folder = RunFolder::make(&deep).unwrap();
        assert!(folder.path().as_os_str().len() <= LONGEST, "{}", folder.path().display());
    }
}
