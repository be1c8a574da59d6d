//! What a task prints, read when it has failed. Of a long text the begin and the end are kept.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The file in the scratch folder; the child appends to it.
const NAME: &str = "output.log";
const HEAD: u64 = 16 << 10;
const TAIL: u64 = 48 << 10;

/// The file, opened before the task began: what the task puts in its place, a link for instance, is not followed.
#[derive(Debug)]
pub(super) struct Output(File);

impl Output {
    pub(super) fn create(scratch: &Path) -> io::Result<Self> {
        File::options().read(true).append(true).create_new(true).open(scratch.join(NAME)).map(Self)
    }

    /// What was printed so far. What cannot be read is left out: it is not worth an error of its own.
    pub(super) fn read(&self) -> String {
        self.try_read().unwrap_or_default()
    }

    fn try_read(&self) -> io::Result<String> {
        let mut file = &self.0;
        let cut = file.seek(SeekFrom::End(0))?.saturating_sub(HEAD + TAIL);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(HEAD).read_to_end(&mut bytes)?;
        if cut > 0 {
            bytes.extend_from_slice(format!("\n[... {cut} bytes are left out here ...]\n").as_bytes());
            file.seek(SeekFrom::Start(HEAD + cut))?;
        }
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn after(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(folder.path()).unwrap();
        let mut other = File::options().append(true).open(folder.path().join(NAME)).unwrap();
        io::Write::write_all(&mut other, text.as_bytes()).unwrap();
        output.read()
    }

    #[test]
    fn what_fits_is_kept_whole_and_of_what_does_not_both_ends() {
        assert_eq!(after(""), "");
        assert_eq!(after("grüezi\n"), "grüezi\n");
        let whole = "x".repeat(64 << 10);
        assert_eq!(after(&whole), whole);
        let long = after(&format!("first{}last", "x".repeat(100 << 10)));
        let cut = (100 << 10) + 9 - (64 << 10);
        assert!(long.starts_with("first") && long.ends_with("last"));
        assert!(long.contains(&format!("\n[... {cut} bytes are left out here ...]\n")), "{}", long.len());
    }
}
