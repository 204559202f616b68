//! The `benchmark_app` command, built where the end-to-end tests find it.

fn main() -> std::process::ExitCode {
    flowrun::benchmark_app()
}
