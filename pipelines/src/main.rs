//! The `flowrun` command.

fn main() -> std::process::ExitCode {
    flowrun::main()
}
