//! The compiled kernels keep their accumulators in registers.
//!
//! Where the compiler does not unroll every loop over an array of accumulators, it keeps the array on the stack and writes to it
//! in the innermost loop: the same results at half the speed. This test reads the machine code of the tiles of convolutions
//! in its own executable with `objdump` (binutils, which a linker comes with). Checks of debug builds would take registers of their own:
//! `make check-kernels` builds without them.

#![cfg(all(target_arch = "x86_64", not(debug_assertions)))]

use std::process::Command;

/// An instruction and where it stands.
struct Instruction<'a> {
    at: u64,
    text: &'a str,
}

impl<'a> Instruction<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (at, text) = line.trim_start().split_once(":\t")?;
        let at = u64::from_str_radix(at, 16).ok()?;
        Some(Self { at, text })
    }

    /// Where a jump goes.
    fn target(&self) -> Option<u64> {
        let (name, to) = self.text.split_once(char::is_whitespace)?;
        let to = to.split_whitespace().next()?;
        name.starts_with('j').then(|| u64::from_str_radix(to, 16).ok())?
    }

    /// Whether it multiplies and adds.
    fn sums(&self) -> bool {
        ["dpbusd", "maddubs", "fmadd"]
            .iter()
            .any(|name| self.text.contains(name))
    }

    /// Whether it writes a vector to the stack.
    fn spills(&self) -> bool {
        let Some((name, operands)) = self.text.split_once(char::is_whitespace) else {
            return false;
        };
        let from_vector = ["%xmm", "%ymm", "%zmm"]
            .iter()
            .any(|register| operands.trim_start().starts_with(register));
        name.contains("mov") && from_vector && (operands.ends_with("(%rsp)") || operands.ends_with("(%rbp)"))
    }
}

/// The innermost loops of a function.
fn loops<'a, 'b>(code: &'b [Instruction<'a>]) -> Vec<&'b [Instruction<'a>]> {
    let place = |at: u64| code.binary_search_by_key(&at, |i| i.at).ok();
    let mut all: Vec<std::ops::RangeInclusive<usize>> = code
        .iter()
        .enumerate()
        .filter_map(|(last, instruction)| Some((place(instruction.target()?)?, last)))
        .filter(|(first, last)| first <= last)
        .map(|(first, last)| first..=last)
        .collect();
    let inside = |a: &std::ops::RangeInclusive<usize>, b: &std::ops::RangeInclusive<usize>| {
        a != b && b.start() <= a.start() && a.end() <= b.end()
    };
    let copies = all.clone();
    all.retain(|one| !copies.iter().any(|other| inside(other, one)));
    all.into_iter().map(|range| &code[range]).collect()
}

#[test]
fn accumulators_of_tiles_stay_in_registers() {
    // The kernels of all instruction sets are part of this executable.
    flow_cpu::kernels::KernelTable::select(None).unwrap();
    let objdump = Command::new("objdump")
        .args(["-d", "-C", "--no-show-raw-insn"])
        .arg(std::env::current_exe().unwrap())
        .output()
        .expect("objdump runs: it is part of binutils, as the linker is");
    assert!(objdump.status.success());
    let text = String::from_utf8_lossy(&objdump.stdout);
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for function in text.split("\n\n") {
        let Some((head, code)) = function.trim_start().split_once(">:\n") else {
            continue;
        };
        let Some(set) = head
            .split_once("flow_cpu::kernels::sets::")
            .and_then(|(_, rest)| rest.split_once("::tile"))
            .map(|(set, _)| set)
        else {
            continue;
        };
        let code: Vec<_> = code.lines().filter_map(Instruction::read).collect();
        for inner in loops(&code) {
            let sums = inner.iter().filter(|i| i.sums()).count();
            let spills = inner.iter().filter(|i| i.spills()).count();
            if sums == 0 {
                continue;
            }
            *seen.entry(set).or_default() += 1;
            assert!(
                // Sets with 16 registers may lack one.
                spills <= sums / 8,
                "{set}: a loop of {sums} products writes {spills} vectors to the stack:\n{}",
                inner.iter().map(|i| i.text).collect::<Vec<_>>().join("\n")
            );
        }
    }
    for set in ["avx512vnni", "avx512bw", "avxvnni", "avx2", "v512", "v256"] {
        assert!(seen.get(set).is_some_and(|&loops| loops > 3), "{set}: {seen:?}");
    }
}
