//! Log output: tracing to stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::uptime;

use crate::cli::{LogFormat, Logging};
use crate::failure::{Failure, color};

/// Sets up logging; `default` is what is logged unless the user says otherwise. `FLOWRUN_LOG` holds a filter in
/// tracing's syntax and wins over `-v` and `-q`.
pub fn init(options: &Logging, default: &str) -> Result<(), Failure> {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (_, 0) => default,
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = match std::env::var("FLOWRUN_LOG") {
        Ok(filter) => EnvFilter::try_new(&filter).map_err(|e| {
            Failure::usage(format!(
                "FLOWRUN_LOG={filter}: {e}; write for example FLOWRUN_LOG=info"
            ))
        })?,
        Err(_) => EnvFilter::new(level),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => {
            builder
                .with_timer(uptime())
                .with_ansi(color())
                .with_target(false)
                .init();
        }
    }
    Ok(())
}
