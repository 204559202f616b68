//! `flowrun model lpt`: the graph after low precision transformations.

use std::process::ExitCode;

use crate::cli::{Lpt, NumericsName};
use crate::commands::print;
use crate::failure::Failure;

pub fn lpt(args: &Lpt) -> Result<ExitCode, Failure> {
    let graph = flow_model::ir::read(&args.model).map_err(Failure::failed)?;
    let graph = flow_model::half::in_f32(&graph).unwrap_or(graph);
    let numerics = match args.numerics {
        NumericsName::Literal => flow_lpt::Numerics::Literal,
        NumericsName::Openvino => flow_lpt::Numerics::OpenVino,
    };
    let options = flow_lpt::Options {
        numerics,
        ..flow_lpt::Options::default()
    };
    let lowered = flow_lpt::transform(&graph, &options).map_err(Failure::failed)?;
    if let Some(path) = &args.output {
        flow_model::ir::write(&lowered.graph, path).map_err(Failure::failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = if args.dot {
        flow_model::text::to_dot(&lowered.graph)
    } else {
        flow_model::text::to_text(&lowered.graph)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
