//! What a worker keeps on its disk of what lies in the blob store: chunks of candles as files, bundles as folders, each under
//! its hash. Several processes may share the folder.
//!
//! Bounded by bytes: what was used longest ago goes first, and never what is in use. Being in use is a shared lock (`flock`)
//! on the entry itself, so the operating system takes it off a process that was killed, and other processes see it. An
//! entry appears whole and never changes.
//!
//! Not guaranteed: that the bound is kept to the byte. Entries in use may be larger than it together.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// What the name of an entry begins with that is not there yet, or is on its way out.
const UNFINISHED: &str = "part-";
/// After how long such an entry is one that a killed process left.
const LEFT_OVER_AFTER: Duration = Duration::from_hours(24);

/// See the module's documentation.
#[derive(Debug)]
pub struct DiskCache {
    root: PathBuf,
    folders: &'static [&'static str],
    max_bytes: u64,
    /// What this process knows of: what was there when it last looked, and what it added since.
    bytes: AtomicU64,
}

/// An entry that stays for as long as this value lives.
#[derive(Debug)]
pub struct InUse {
    path: PathBuf,
    _lock: File,
}

impl InUse {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

struct Entry {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl DiskCache {
    /// A cache in this folder, which need not exist; its entries lie in the folders in it that are named, and whatever else
    /// is in it is left alone.
    pub fn new(root: PathBuf, folders: &'static [&'static str], max_bytes: u64) -> io::Result<Self> {
        let cache = Self { root, folders, max_bytes, bytes: AtomicU64::new(0) };
        cache.trim()?;
        Ok(cache)
    }

    /// An entry, if it is there. Takes a few system calls.
    pub fn find(&self, folder: &str, name: &str) -> io::Result<Option<InUse>> {
        let path = self.root.join(folder).join(name);
        loop {
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            lock.lock_shared()?;
            // Whoever removes an entry holds it alone; what was locked may be gone by then.
            if is_at(&lock, &path)? {
                // On a disk that is full or read-only it only looks older than it is.
                let _noted = lock.set_modified(SystemTime::now());
                return Ok(Some(InUse { path, _lock: lock }));
            }
        }
    }

    /// Adds an entry that `make` makes at the path it is given, a file or a folder; if another process is faster, takes that
    /// one's. Then makes room, if that is needed.
    pub fn add(
        &self,
        folder: &str,
        name: &str,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<InUse> {
        let parent = self.root.join(folder);
        fs::create_dir_all(&parent)?;
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&parent)?;
        let (entry, path) = (unfinished.path().join("entry"), parent.join(name));
        make(&entry)?;
        let lock = File::open(&entry)?;
        lock.lock_shared()?;
        let bytes = size(&entry)?;
        match appear(&entry, &path) {
            Ok(()) => {
                let known = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if known > self.max_bytes {
                    self.trim()?;
                }
                Ok(InUse { path, _lock: lock })
            }
            Err(error) => match self.find(folder, name)? {
                Some(faster) => Ok(faster),
                None => Err(error),
            },
        }
    }

    /// Removes what was used longest ago until the rest fits, with a tenth to spare so that this is not done for each new
    /// entry; answers how many bytes went.
    pub fn trim(&self) -> io::Result<u64> {
        let mut entries = self.entries()?;
        let all: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut left = all;
        if all > self.max_bytes {
            entries.sort_unstable_by_key(|entry| entry.used);
            for entry in entries {
                if left <= self.max_bytes / 10 * 9 {
                    break;
                }
                if remove(&entry.path)? {
                    left -= entry.bytes;
                }
            }
        }
        self.bytes.store(left, Ordering::Relaxed);
        Ok(all - left)
    }

    /// All entries, without what others remove meanwhile; removes what killed processes left.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for folder in self.folders {
            for path in children(&self.root.join(folder))? {
                let Ok(metadata) = fs::metadata(&path) else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let unfinished = path
                    .file_name()
                    .is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()));
                if !unfinished {
                    let Ok(bytes) = size(&path) else { continue };
                    found.push(Entry { path, used, bytes });
                } else if used.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER) {
                    fs::remove_dir_all(&path)?;
                }
            }
        }
        Ok(found)
    }
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The bytes of a file, or of all files in a folder.
fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    children(path)?.iter().try_fold(0, |sum, child| Ok(sum + size(child)?))
}

/// Whether this open file or folder is what lies at the path.
fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    let there = match fs::metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let ours = open.metadata()?;
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Gives a new entry its name, never in place of another: who removes entries relies on that.
fn appear(made: &Path, path: &Path) -> io::Result<()> {
    if made.is_dir() { fs::rename(made, path) } else { fs::hard_link(made, path) }
}

/// Removes an entry unless it is in use; answers whether it is gone.
fn remove(path: &Path) -> io::Result<bool> {
    let open = match File::open(path) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match open.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if !is_at(&open, path)? {
        return Ok(true);
    }
    let Some(parent) = path.parent() else { return Ok(false) };
    // Out of the way at once, then bit by bit.
    let going = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent)?;
    fs::rename(path, going.path().join("entry"))?;
    going.close()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const FOLDERS: &[&str] = &["candles", "bundles"];

    fn file(bytes: usize) -> impl FnOnce(&Path) -> io::Result<()> {
        move |path| fs::write(path, vec![0; bytes])
    }

    fn folder(bytes: usize) -> impl FnOnce(&Path) -> io::Result<()> {
        move |path| {
            fs::create_dir_all(path.join("deep"))?;
            fs::write(path.join("deep/file"), vec![0; bytes])
        }
    }

    /// Lets the clock of the file system go on, so that the order of use can be told.
    fn used_before(cache: &DiskCache, folder: &str, name: &str, seconds: u64) {
        let path = cache.root.join(folder).join(name);
        let past = SystemTime::now() - Duration::from_secs(seconds);
        File::open(path).unwrap().set_modified(past).unwrap();
    }

    #[test]
    fn the_least_recently_used_goes_and_never_what_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(root.path().join("cache"), FOLDERS, 1000).unwrap();
        let none_of_ours = root.path().join("cache/snapshots/large");
        fs::create_dir_all(&none_of_ours).unwrap();
        fs::write(none_of_ours.join("file"), vec![0; 9000]).unwrap();
        drop(cache.add("candles", "old", file(400)).unwrap());
        drop(cache.add("bundles", "older-but-used", folder(300)).unwrap());
        used_before(&cache, "candles", "old", 50);
        used_before(&cache, "bundles", "older-but-used", 100);
        let kept = cache.find("bundles", "older-but-used").unwrap().unwrap();
        used_before(&cache, "bundles", "older-but-used", 100);
        // Another process's view of the same folder.
        let other = DiskCache::new(root.path().join("cache"), FOLDERS, 1000).unwrap();
        let new = other.add("candles", "new", file(350)).unwrap();
        assert!(new.path().exists() && kept.path().join("deep/file").exists());
        assert!(other.find("candles", "old").unwrap().is_none());

        // All that is left is in use: it stays, although it is too much.
        let much = cache.add("candles", "much", file(5000)).unwrap();
        assert!(much.path().exists() && new.path().exists() && kept.path().exists());
        drop((much, new, kept));
        assert_eq!(cache.trim().unwrap(), 5650);
        let left = children(&root.path().join("cache/candles")).unwrap();
        assert!(left.is_empty() && none_of_ours.exists(), "{left:?}");
    }

    #[test]
    fn an_entry_appears_once_and_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(root.path().to_owned(), FOLDERS, 1000).unwrap();
        assert!(cache.find("candles", "a").unwrap().is_none());
        let failed = cache.add("candles", "a", |path| {
            fs::write(path, b"half")?;
            Err(io::Error::other("no more"))
        });
        assert!(failed.is_err() && cache.find("candles", "a").unwrap().is_none());
        let first = cache.add("candles", "a", file(5)).unwrap();
        let second = cache.add("candles", "a", |path| fs::write(path, b"another")).unwrap();
        assert_eq!(fs::read(second.path()).unwrap(), vec![0; 5]);
        assert_eq!(first.path(), second.path());
        let folders = [folder(5), folder(5)].map(|make| cache.add("bundles", "b", make).unwrap());
        assert_eq!(folders[0].path(), folders[1].path());
    }

    #[test]
    fn many_that_use_and_remove_at_once_never_see_an_entry_vanish() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = DiskCache::new(root.path().to_owned(), FOLDERS, 50).unwrap();
                    for round in 0..200 {
                        let name = format!("{}", round % 5);
                        let entry = match cache.find("bundles", &name).unwrap() {
                            Some(entry) => entry,
                            None => cache.add("bundles", &name, folder(20)).unwrap(),
                        };
                        assert!(entry.path().join("deep/file").exists());
                    }
                });
            }
        });
    }
}
