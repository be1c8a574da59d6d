//! What the command line prints.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::Cli;

/// Prints a text as it is. Whoever reads it may have seen enough and be gone: that is no mistake.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Prints what lets a shell complete commands and flags.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_completions(shell: clap_complete::Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "jesse-jobs", &mut script);
    print(&String::from_utf8_lossy(&script))
}
