//! The data folder: who uses it, and what lies where in it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{folder} is in use by process {pid}; stop that one first, or use another folder with --data")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        pid: String,
    },
    /// It cannot be made or written.
    #[error("the data folder {0} cannot be used")]
    Io(PathBuf, #[source] std::io::Error),
}

/// The data folder, in this process's hands for as long as it lives. The lock is the operating system's: it goes with the
/// process, however that ends.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder; makes it if it is missing.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io(path.to_owned(), error);
        std::fs::create_dir_all(path).map_err(io)?;
        let path = std::path::absolute(path).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _unknown = file.take(20).read_to_string(&mut pid);
                return Err(LockError::InUse { folder: path, pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { path, _lock: file })
    }

    /// The private Redis's folder.
    pub fn redis(&self) -> PathBuf {
        redis(&self.path)
    }

    /// The project that is offered when none is named.
    pub fn project(&self) -> PathBuf {
        self.path.join("project")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The private Redis's folder.
pub(super) fn redis(data: &Path) -> PathBuf {
    data.join("redis")
}

/// What a worker keeps on its disk; several workers may share it.
pub(super) fn worker(data: &Path) -> PathBuf {
    data.join("worker")
}
