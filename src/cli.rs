//! The command line: one binary, its roles as subcommands.

use clap::{Parser, Subcommand};

use crate::{
    client::ClientCommand,
    roles::{
        cache::CacheCommand, candles::CandlesCommand, keys::KeysCommand, mcp::McpSettings,
        serve::ServeSettings, strategies::StrategiesCommand, up::UpSettings, webhooks::WebhooksCommand,
        worker::WorkerSettings,
    },
    settings::LogSettings,
};

/// Durable jobs for Jesse backtests, over MCP and HTTP
#[derive(Debug, Parser)]
#[command(name = "jesse-jobs", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to be.
    #[command(subcommand)]
    pub role: Role,
    /// What to log.
    #[command(flatten)]
    pub log: LogSettings,
}

/// What the binary can be.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Everything on this machine: a private Redis, a worker, HTTP and MCP
    Up(Box<UpSettings>),
    /// HTTP and MCP only; jobs go to the workers on the same Redis
    Serve(Box<ServeSettings>),
    /// A worker only
    Worker(Box<WorkerSettings>),
    /// MCP on standard input and output, for clients that spawn their servers
    Mcp(Box<McpSettings>),
    /// Import, export, make and list candles
    #[command(subcommand)]
    Candles(Box<CandlesCommand>),
    /// API keys: make, list, revoke and rotate them
    #[command(subcommand)]
    Keys(Box<KeysCommand>),
    /// Stored results: how much they take up, and a way to remove some
    #[command(subcommand)]
    Cache(Box<CacheCommand>),
    /// Strategies: list, read, validate, write and delete them
    #[command(subcommand)]
    Strategies(Box<StrategiesCommand>),
    /// Receive webhooks, for development
    #[command(subcommand)]
    Webhooks(Box<WebhooksCommand>),
    /// Print what lets a shell complete commands and flags
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// See the struct.
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fmt::Write;

    use clap::CommandFactory;

    use super::*;

    /// `docs/settings.md`, from the code.
    fn reference() -> String {
        let mut page = String::from(
            "# Settings\n\nMade from the code: `UPDATE_DOCS=1 cargo test reference` writes it anew.\n\nA setting is read from its \
             flag, else from its environment variable, else from a file `.env` in the working folder.\n",
        );
        let root = Cli::command();
        let mut commands = Vec::new();
        for command in root.get_subcommands() {
            commands.push((format!("jesse-jobs {}", command.get_name()), command));
            let nested = command.get_subcommands();
            commands.extend(
                nested.map(|nested| {
                    (format!("jesse-jobs {} {}", command.get_name(), nested.get_name()), nested)
                }),
            );
        }
        let mut global: Vec<_> = root.get_arguments().filter(|argument| argument.is_global_set()).collect();
        for (name, command) in commands.iter().filter(|(_, command)| !command.has_subcommands()) {
            write!(page, "\n## `{name}`\n\n{}\n\n", command.get_about().unwrap()).unwrap();
            table(&mut page, command.get_arguments());
        }
        page.push_str("\n## All of them\n\n");
        table(&mut page, global.drain(..));
        page
    }

    fn table<'a>(page: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
        page.push_str("| flag | environment | default | meaning |\n|---|---|---|---|\n");
        for argument in
            arguments.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            let flag = argument
                .get_long()
                .map_or_else(|| argument.get_id().as_str().to_uppercase(), |long| format!("--{long}"));
            let environment =
                argument.get_env().map_or(String::new(), |name| format!("`{}`", name.display()));
            let default: Vec<_> =
                argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            let default = if default.is_empty() { String::new() } else { format!("`{}`", default.join(",")) };
            let help = argument.get_help().map_or(String::new(), ToString::to_string);
            writeln!(page, "| `{flag}` | {environment} | {default} | {help} |").unwrap();
        }
    }

    #[test]
    fn the_reference_of_settings_is_up_to_date() {
        crate::reference::assert_up_to_date("docs/settings.md", &reference());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
