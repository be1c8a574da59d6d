//! The binary: reads settings, starts logging, and becomes what the subcommand says.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use jesse_jobs::{
    cli::{Cli, Role},
    client::{self, ClientCommand},
    roles::{self, RoleError},
    telemetry::Telemetry,
};

fn main() -> ExitCode {
    let dotenv = dotenvy::dotenv();
    let cli = Cli::parse();
    let telemetry = match Telemetry::start(&cli.log) {
        Ok(telemetry) => telemetry,
        Err(why) => return fail(&why),
    };
    if let Err(error) = dotenv
        && !error.not_found()
    {
        return fail(&format!("the file .env cannot be read: {error}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot be started: {error}")),
    };
    let code = match runtime.block_on(become_role(cli.role)) {
        Ok(code) => code,
        Err(error) => fail(&jobs::chain(&error)),
    };
    telemetry.end();
    code
}

async fn become_role(role: Role) -> Result<ExitCode, RoleError> {
    jobs::choose_tls();
    // What is not here ends at once on a signal.
    let stop = || roles::on_signal().map_err(RoleError::Serve);
    match role {
        Role::Up(settings) => roles::up::run(*settings, stop()?).await?,
        Role::Serve(settings) => roles::serve::run(*settings, stop()?).await?,
        Role::Worker(settings) => Box::pin(roles::worker::run(*settings, stop()?)).await?,
        Role::Webhooks(command) => roles::webhooks::run(*command, stop()?).await?,
        Role::Mcp(settings) => roles::mcp::run(*settings, stop()?).await?,
        Role::Candles(command) => roles::candles::run(*command).await?,
        Role::Keys(command) => roles::keys::run(*command).await?,
        Role::Cache(command) => roles::cache::run(*command).await?,
        Role::Strategies(command) => roles::strategies::run(*command).await?,
        Role::Client(command) => return Ok(ask(*command).await),
        Role::Completions { shell } => {
            jesse_jobs::output::print_completions(shell).map_err(RoleError::Print)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a client asks of a server, with exit codes of its own.
async fn ask(command: ClientCommand) -> ExitCode {
    match client::run(command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            fail(&jobs::chain(&error));
            error.exit_code().into()
        }
    }
}

fn fail(why: &str) -> ExitCode {
    let _closed = writeln!(std::io::stderr(), "jesse-jobs: {why}");
    ExitCode::FAILURE
}
