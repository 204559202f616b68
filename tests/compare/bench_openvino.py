"""Speed, compile time and memory of `flowrun model benchmark` against OpenVINO's benchmark_app, in pairs.

usage: python bench_openvino.py FLOWRUN MODEL.xml [MODEL.xml ...] [--mode throughput latency] [--isa ISA ...]
                                [--numerics literal|openvino] [--pairs 5] [--seconds 3] [--markdown FILE]        (needs: openvino)

Both programs run in turns A B A B; what is printed is the median of each and of the ratio of each pair, with the smallest and largest
ratio. Above 1 flowrun is faster, or takes less. OpenVINO runs with the defaults of the hint; both use as many cores as the system gives.

  ISA   `all` (the default), or a cap for both sides: SSE41, AVX2, AVX512_CORE, AVX512_CORE_VNNI (the names of oneDNN)

With `--numerics literal`, the default of flowrun, its codes are those of the model's own f32 arithmetic, which those of OpenVINO are not;
with `--numerics openvino` both round alike.

Compile time is from the file to a network that is ready. Memory is the resident set of the whole process while it runs, and in brackets the
largest, while it compiles.
"""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CAPS = {"SSE41": "sse42", "AVX2": "avx2", "AVX512_CORE": "avx512bw", "AVX512_CORE_VNNI": "avx512vnni"}


def run(command, environment):
    """Standard output of a command, its resident set while it runs (the median of the second half of its time) and the largest, in
    MiB; ends with its errors if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment})
        seen = []
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            with contextlib.suppress(OSError, TypeError):
                found = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())
                seen.append(int(found[1]) / 1024)
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(map(str, command))}: exit code {process.returncode}\n{err.read()[-800:]}{out.read()[-800:]}")
        return out.read(), (statistics.median(seen[len(seen) // 2 :] or [0]), used.ru_maxrss / 1024)


def ours(flowrun, model, mode, isa, seconds, numerics):
    cap = {} if isa == "all" else {"FLOW_MAX_ISA": CAPS[isa]}
    text, memory = run([flowrun, "model", "benchmark", model, "--mode", mode, "--numerics", numerics, "--seconds", str(seconds), "--json", "-q"], cap)
    found = json.loads(text)
    return {"fps": found["fps"], "ms": found["latency_ms"]["median"], "compile": found["compile_ms"], "memory": memory[0], "most": memory[1]}


def theirs(app, model, mode, isa, seconds):
    cap = {} if isa == "all" else {"ONEDNN_MAX_CPU_ISA": isa}
    text, memory = run([app, "-m", model, "-d", "CPU", "-hint", mode, "-t", str(seconds)], cap)
    number = lambda pattern: float(re.search(pattern, text)[1])
    took = number(r"Read model took ([\d.]+) ms") + number(r"Compile model took ([\d.]+) ms")
    return {"fps": number(r"Throughput:\s+([\d.]+)"), "ms": number(r"Median:\s+([\d.]+)"), "compile": took, "memory": memory[0], "most": memory[1]}


def machine():
    """The processor, its cores that this process may use, and the load before the run."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        name = next((l.split(":", 1)[1].strip() for l in lines if l.startswith("model name")), "unknown processor")
        flags = next((l.split(":", 1)[1].split() for l in lines if l.startswith("flags")), [])
    except OSError:
        name, flags = "unknown processor", []
    sets = [f for f in ("avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8") if f in flags]
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {' '.join(sets)}; load {os.getloadavg()[0]:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowrun")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--mode", nargs="+", default=["throughput", "latency"], choices=["throughput", "latency"])
    parser.add_argument("--isa", nargs="+", default=["all"], choices=["all", *CAPS])
    parser.add_argument("--numerics", default="literal", choices=["literal", "openvino"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--markdown", help="also write the tables into this file")
    arguments = parser.parse_args()
    app = shutil.which("benchmark_app") or str(pathlib.Path(sys.executable).parent / "benchmark_app")
    if not pathlib.Path(app).exists():
        sys.exit("benchmark_app of OpenVINO was not found beside this Python: pip install openvino")
    import openvino

    said = [f"{datetime.date.today()}; {machine()}; OpenVINO {openvino.__version__.split('-')[0]}; numerics: {arguments.numerics}"]
    print(said[0], flush=True)
    head = "| model | mode | set | ours | OpenVINO | ratio | lowest | highest | compile, ms | memory, MiB |\n|---|---|---|---|---|---|---|---|---|---|"
    rows = []
    for isa in arguments.isa:
        for mode in arguments.mode:
            ratios = []
            for model in arguments.models:
                pairs = [
                    (ours(arguments.flowrun, model, mode, isa, arguments.seconds, arguments.numerics), theirs(app, model, mode, isa, arguments.seconds))
                    for _ in range(arguments.pairs)
                ]
                key, unit = ("fps", "/s") if mode == "throughput" else ("ms", "ms")
                ratio = sorted(a[key] / b[key] if key == "fps" else b[key] / a[key] for a, b in pairs)
                median = lambda side, k: statistics.median(pair[side][k] for pair in pairs)
                both = lambda k, digits: f"{median(0, k):.{digits}f} / {median(1, k):.{digits}f}"
                name = pathlib.Path(model).stem
                value = lambda side: f"{median(side, key):.{1 if key == 'fps' else 3}f} {unit}"
                row = (name, mode, isa, value(0), value(1), f"{statistics.median(ratio):.2f}", f"{ratio[0]:.2f}", f"{ratio[-1]:.2f}")
                memory = [f"{median(side, 'memory'):.0f} ({median(side, 'most'):.0f})" for side in (0, 1)]
                row += (both("compile", 0), " / ".join(memory))
                rows.append("| " + " | ".join(row) + " |")
                ratios.append(statistics.median(ratio))
                print("{:26} {:10} {:5} ours {:>12}  OpenVINO {:>12}  ratio {} ({}..{})  compile {} ms  memory {} MiB".format(*row), flush=True)
            print(f"geometric mean of the ratios, {mode}, {isa}: {statistics.geometric_mean(ratios):.2f}", flush=True)
    if arguments.markdown:
        pathlib.Path(arguments.markdown).write_text("\n".join([*said, "", head, *rows, ""]))


if __name__ == "__main__":
    main()
