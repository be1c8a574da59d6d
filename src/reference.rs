//! Pages of the documentation that are made from the code: a test holds them against it, or writes them anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Fails unless the file says this; with UPDATE_DOCS set, writes it first.
pub(crate) fn assert_up_to_date(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{file} is not what the code says; run: UPDATE_DOCS=1 cargo test reference");
}
