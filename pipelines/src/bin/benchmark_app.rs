//! The `benchmark_app` command: OpenVINO's flags and reports.

fn main() -> std::process::ExitCode {
    flowrun::benchmark_app()
}
