"""What a busy neighbour costs a network that several threads share: latency with and without another process on one core.

usage: python busy_neighbour.py FLOWRUN MODEL.xml [MODEL.xml ...] [--pairs 5] [--seconds 2]

A thread that waits for a slower one by spinning loses whole time slices where another process takes a core. Runs alone and beside a loop
pinned to the last core this process may use, in turns; prints the medians and the ratio of each pair.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


def latency(flowrun, model, seconds):
    """The median latency in ms with as many threads as there are cores."""
    command = [flowrun, "model", "benchmark", model, "--mode", "latency", "--seconds", str(seconds), "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-800:]}")
    return json.loads(done.stdout)["latency_ms"]["median"]


def beside(core, run):
    """What `run` gives while another process keeps a core busy."""
    busy = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
    try:
        return run()
    finally:
        busy.kill()
        busy.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowrun")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    arguments = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    for model in arguments.models:
        run = lambda: latency(arguments.flowrun, model, arguments.seconds)
        pairs = [(run(), beside(core, run)) for _ in range(arguments.pairs)]
        ratio = sorted(b / a for a, b in pairs)
        alone, shared = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        name = pathlib.Path(model).stem
        print(f"{name:26} alone {alone:7.3f} ms  beside a busy core {shared:7.3f} ms  ratio {statistics.median(ratio):.2f} ({ratio[0]:.2f}..{ratio[-1]:.2f})", flush=True)


if __name__ == "__main__":
    main()
