"""What the runtime costs per packet, beside GStreamer doing the same.

usage: python hop_cost.py [PAIRS] [PACKETS]    (needs: cargo, gst-launch-1.0 of Debian's gstreamer1.0-tools)

Each pair runs, one after the other,

    gst-launch-1.0 -q fakesrc num-buffers=PACKETS sizetype=empty ! queue ! queue ! queue ! fakesink sync=false

and a source, two stages and a sink of flowrun with three queues of the same capacity (200) between them: empty packets,
three queues and four threads on both sides. GStreamer is timed from the start of its process to its end, flowrun from the
start of the pipeline to its end; starting gst-launch without any buffers is timed as well and taken off.

The latency of a hop counts from when a thread hands a packet over to when the next one has it, by queue; the slowest of the
three queues is shown. Beside it stands what the machine takes to wake a thread that sleeps, without any of the runtime.
"""
import json
import resource
import statistics
import subprocess
import sys
import time

TARGET = 4.0
IDLE_HOP_US = 50.0


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def gst(packets):
    command = f"gst-launch-1.0 -q fakesrc num-buffers={packets} sizetype=empty ! queue ! queue ! queue ! fakesink sync=false"
    began = time.monotonic()
    subprocess.run(command.split(), check=True)
    return time.monotonic() - began


def flowrun(packets):
    """The program times itself, from the start of its pipeline."""
    command = f"cargo bench --quiet -p flow --bench hop_cost -- {packets}"
    return json.loads(subprocess.run(command.split(), check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    packets = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    flowrun(1)
    start = min(gst(1) for _ in range(3))
    ratios, hops, bare, shares, work = [], [], [], [], []
    for pair in range(pairs):
        before = cpu_of_children()
        rival = packets / (gst(packets) - start)
        rival_work = (cpu_of_children() - before) / packets
        own = flowrun(packets)
        if "error" in own:
            sys.exit(own["error"])
        ratios.append(own["packets_per_second"] / rival)
        hops.append(own["idle_hop_p99_us"])
        work.append((rival_work * 1e6, own["cpu_seconds"] / packets * 1e6))
        bare.append(own["bare_wake_p99_us"])
        shares.append(own["idle_cpu_share"])
        print(
            f"pair {pair + 1}: gstreamer {rival / 1e3:7.0f} k/s, flowrun {own['packets_per_second'] / 1e3:7.0f} k/s, "
            f"{ratios[-1]:.2f} times; idle hop p50 {own['idle_hop_p50_us']:.1f} us, p99 {own['idle_hop_p99_us']:.1f} us "
            f"(a bare wake-up: {own['bare_wake_p50_us']:.1f} and {own['bare_wake_p99_us']:.1f} us)"
        )
    ratio, hop = statistics.median(ratios), statistics.median(hops)
    print(f"median of {pairs} pairs: {ratio:.2f} times as many packets a second (target {TARGET:.0f})")
    least = [min(side) for side in zip(*work)]
    print(f"CPU time of a packet, least of all pairs: gstreamer {least[0]:.2f} us, flowrun {least[1]:.2f} us")
    print(f"the machine itself: p99 {statistics.median(bare):.1f} us to wake a thread that sleeps")
    print(f"idle: p99 {hop:.1f} us per hop (target {IDLE_HOP_US:.0f}), {100 * max(shares):.1f} % of one core at 1000 packets a second")
    sys.exit(0 if ratio >= TARGET and hop <= IDLE_HOP_US else 1)


if __name__ == "__main__":
    main()
