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
    "faster.py",
    "imports.py",
    "limits.py",
    "protocol.py",
    "sandbox.py",
    "significance.py",
    "strategies.py",
    "validate.py",
    "warmup.py",
    "zygote.py",
);

/// Writes the package `runner` into this folder, which goes into `PYTHONPATH`.
pub fn write(folder: &Path) -> io::Result<()> {
    let package = folder.join("runner");
    std::fs::create_dir_all(&package)?;
    FILES.iter().try_for_each(|(name, text)| std::fs::write(package.join(name), text))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    #[test]
    fn every_file_of_the_package_is_carried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/runner");
        let names =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names
            .filter(|name| std::path::Path::new(name).extension().is_some_and(|end| end == "py"))
            .collect();
        names.sort();
        assert_eq!(names, super::FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
