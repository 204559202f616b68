//! The `flowrun` command.

/// Packets are allocated by one thread and freed by another, and an instance that is rebuilt frees all it had. The arenas
/// of glibc keep such memory and grow for hours; this allocator hands most of it back. It serves C code (OpenH264) as well.
#[global_allocator]
static ALLOCATOR: flowrun::heap::Counting<mimalloc::MiMalloc> = flowrun::heap::Counting(mimalloc::MiMalloc);

fn main() -> std::process::ExitCode {
    flowrun::main()
}
