//! `flowrun control`: changes to a running pipeline, through its HTTP server.

use std::process::ExitCode;

use super::print;
use crate::cli::{Control, ControlAction};
use crate::client;
use crate::failure::Failure;
use crate::observing::TOKEN;

pub fn control(args: &Control) -> Result<ExitCode, Failure> {
    let host = client::url(&args.url).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is no address; write http://127.0.0.1:9898",
            args.url
        ))
    })?;
    let token = std::env::var(TOKEN).map_err(|_| {
        Failure::usage(format!(
            "{TOKEN} is not set; give it the token that the run was started with"
        ))
    })?;
    let (method, path, body) = match &args.action {
        ControlAction::Set { change } => ("POST", "/control/set".to_owned(), change.as_str()),
        ControlAction::Restart { stage } => ("POST", format!("/control/restart?stage={}", named(stage)?), ""),
        ControlAction::Reload => ("POST", "/control/reload".to_owned(), ""),
        ControlAction::Pause { source } => ("POST", format!("/control/pause?source={}", named(source)?), ""),
        ControlAction::Start { source } => ("POST", format!("/control/start?source={}", named(source)?), ""),
        ControlAction::End { source } => ("POST", format!("/control/end?source={}", named(source)?), ""),
        ControlAction::Stop => ("POST", "/control/stop".to_owned(), ""),
        ControlAction::Status => ("GET", "/control".to_owned(), ""),
    };
    print(&client::request(&host, method, &path, Some(&token), body)?)?;
    Ok(ExitCode::SUCCESS)
}

/// A name of a component; it holds nothing that a path would take for something else.
fn named(name: &str) -> Result<&str, Failure> {
    match name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    {
        true => Ok(name),
        false => Err(Failure::usage(format!("`{name}` is no name of a component"))),
    }
}
