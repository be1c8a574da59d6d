//! A bundle: the files of a strategy's import closure as one tar archive, the same bytes for the same files on every
//! machine. Its hash is its id in the blob store.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path},
};

use super::project::Files;

/// The file in a bundle that names the third-party packages that its code imports, with their versions. It makes the
/// hash change when such a package is upgraded.
pub const REQUIRES: &str = ".requires.json";

/// Packs some of a project's files.
pub fn pack<'a>(
    files: &Files,
    closure: impl Iterator<Item = &'a String>,
    requires: &BTreeMap<String, String>,
) -> io::Result<Vec<u8>> {
    let requires = serde_json::to_vec(requires)?;
    let mut chosen: BTreeMap<&str, &[u8]> =
        closure.filter_map(|path| files.get(path).map(|bytes| (path.as_str(), bytes.as_slice()))).collect();
    chosen.insert(REQUIRES, &requires);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in chosen {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()
}

/// The files of a bundle, by path.
pub fn files(bundle: &[u8]) -> io::Result<Files> {
    let mut found = Files::new();
    for entry in tar::Archive::new(bundle).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let parts: Option<Vec<_>> = path
            .components()
            .map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        let (Some(parts), true) = (parts, entry.header().entry_type().is_file()) else {
            return Err(invalid("a bundle holds something else than files".into()));
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut entry, &mut bytes)?;
        if path != Path::new(REQUIRES) {
            found.insert(parts.join("/"), bytes);
        }
    }
    Ok(found)
}

/// Unpacks bundles, of one or several strategies, into a new folder. Files that several have must be the same; the error is
/// of the kind `InvalidData` if they are not.
pub fn unpack(bundles: &[impl AsRef<[u8]>], folder: &Path) -> io::Result<()> {
    for bundle in bundles {
        for (path, bytes) in files(bundle.as_ref())? {
            let target = folder.join(&path);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match std::fs::read(&target) {
                Ok(there) if there == bytes => {}
                Ok(_) => {
                    let why = format!(
                        "the strategies bring different files {path}, so they cannot run in one backtest"
                    );
                    return Err(invalid(why));
                }
                Err(_) => std::fs::write(&target, bytes)?,
            }
        }
    }
    Ok(())
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn files() -> Files {
        let files = [("strategies/A/__init__.py", "a"), ("helper.py", "h"), ("other.py", "o")];
        files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_bundle_is_the_same_whatever_the_order_and_holds_the_closure_only() {
        let closure = ["strategies/A/__init__.py".to_owned(), "helper.py".to_owned()];
        let forward = pack(&files(), closure.iter(), &BTreeMap::new()).unwrap();
        let backward = pack(&files(), closure.iter().rev(), &BTreeMap::new()).unwrap();
        assert_eq!(forward, backward);
        let upgraded = BTreeMap::from([("numpy".to_owned(), "2.0".to_owned())]);
        assert_ne!(forward, pack(&files(), closure.iter(), &upgraded).unwrap());

        let folder = tempfile::tempdir().unwrap();
        unpack(&[&forward, &backward], folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("strategies/A/__init__.py")).unwrap(), b"a");
        assert!(folder.path().join("helper.py").exists() && !folder.path().join("other.py").exists());
    }

    #[test]
    fn two_bundles_that_disagree_on_a_file_are_refused() {
        let closure = ["helper.py".to_owned()];
        let one = pack(&files(), closure.iter(), &BTreeMap::new()).unwrap();
        let changed = Files::from([("helper.py".to_owned(), b"changed".to_vec())]);
        let other = pack(&changed, closure.iter(), &BTreeMap::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(&[one, other], folder.path()).is_err());
    }
}
