//! The Python side of the runner, carried in the binary so that one file is all there is to install.

use std::{io, path::Path};

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../runner/", $name)))),+];
    };
}

files!(
    "__init__.py",
    "__main__.py",
    "backtest.py",
    "child.py",
    "engine.py",
    "exchange.py",
    "failures.py",
    "faster/__init__.py",
    "faster/candles.py",
    "faster/equivalent.py",
    "faster/indicators.py",
    "faster/metrics.py",
    "faster/simulation.py",
    "faster/trades.py",
    "imports.py",
    "limits.py",
    "protocol.py",
    "sandbox.py",
    "significance.py",
    "stateless.py",
    "strategies.py",
    "validate.py",
    "warmup.py",
    "zygote.py",
);

/// Writes the package `runner` into this folder, which goes into `PYTHONPATH`.
pub fn write(folder: &Path) -> io::Result<()> {
    let package = folder.join("runner");
    FILES.iter().try_for_each(|(name, text)| {
        let file = package.join(name);
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(file, text)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    #[test]
    fn every_file_of_the_package_is_carried() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/runner"));
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "py") {
                    found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
                } else if path.is_dir() && !path.ends_with("tests") {
                    folders.push(path);
                }
            }
        }
        found.sort();
        assert_eq!(found, super::FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn the_package_is_written_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        super::write(folder.path()).unwrap();
        for (name, text) in super::FILES {
            assert_eq!(std::fs::read_to_string(folder.path().join("runner").join(name)).unwrap(), *text);
        }
    }
}
