"""Faces in a clip, end to end: flowrun against the program a user would write with OpenCV and OpenVINO today.

usage: python faces.py FLOWRUN MODEL.xml CLIP.mp4 [--pairs 5]   (needs: openvino, opencv-python-headless, numpy)

MODEL is Ultra-Light-Fast-Generic-Face-Detector RFB-320. Both sides decode H.264, resize to 320x240, run the network, suppress
overlapping boxes and write one JSON line per frame; the OpenVINO program keeps an AsyncInferQueue of its optimal number of
requests full (throughput hint). flowrun runs pipelines/faces.yaml without the annotated video. Whole processes are timed, in turns
A B A B, so that start and model compilation count; prints the frames per second of each, the ratio of each pair, and how
many frames have the same number of faces. Where `ffmpeg` or `gst-launch-1.0` is installed, decode and scale alone are
timed too, as a bound of what any program around them reaches.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PIPELINE = pathlib.Path(__file__).parents[2] / "pipelines/faces.yaml"


def rival(model, clip, out):
    """The OpenVINO program; runs in a process of its own."""
    import cv2
    import numpy as np
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = ov.AsyncInferQueue(compiled)
    found = {}

    def finished(request, index):
        scores, boxes = (request.get_output_tensor(i).data[0] for i in range(2))
        scores = scores[:, 1]
        kept = scores > 0.7
        scores, boxes = scores[kept], boxes[kept]
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        best = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), 0.7, 0.3) if len(scores) else []
        found[index] = [{"confidence": float(scores[i]), "box": boxes[i].tolist()} for i in best]

    queue.set_callback(finished)
    video = cv2.VideoCapture(clip)
    frames = 0
    while True:
        good, frame = video.read()
        if not good:
            break
        picture = cv2.cvtColor(cv2.resize(frame, (320, 240)), cv2.COLOR_BGR2RGB).astype(np.float32)
        picture = ((picture - 127) / 128).transpose(2, 0, 1)[None]
        queue.start_async({0: np.ascontiguousarray(picture)}, frames)
        frames += 1
    queue.wait_all()
    with open(out, "w") as lines:
        for index in range(frames):
            lines.write(json.dumps({"seq": index, "detections": found[index]}) + "\n")


def pipeline(folder):
    """The shipped pipeline without the video."""
    lines = PIPELINE.read_text().splitlines()
    lines = [line for line in lines if not line.lstrip().startswith(("draw:", "video:"))]
    path = folder / "faces.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def faces(path):
    lines = [json.loads(line) for line in open(path)]
    return [len(line.get("detections") or line.get("objects") or []) for line in lines]


def timed(command, env=None):
    began = time.monotonic()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowrun")
    parser.add_argument("model")
    parser.add_argument("clip")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rival", metavar="OUT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        return rival(arguments.model, arguments.clip, arguments.rival)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = {"flowrun": folder / "faces.jsonl", "OpenVINO": folder / "rival.jsonl"}
        env = dict(os.environ, MODEL=os.path.abspath(arguments.model), INPUT=os.path.abspath(arguments.clip), OUT=str(folder))
        commands = {
            "flowrun": [arguments.flowrun, "run", str(pipeline(folder))],
            "OpenVINO": [sys.executable, __file__, arguments.flowrun, arguments.model, arguments.clip, "--rival", str(files["OpenVINO"])],
        }
        seconds = {name: [] for name in commands}
        for _ in range(arguments.pairs):
            for name, command in commands.items():
                seconds[name].append(timed(command, env))
        counts = {name: faces(path) for name, path in files.items()}
        frames = len(counts["OpenVINO"])
        for name, times in seconds.items():
            print(f"{name}: {frames / statistics.median(times):.1f} frames/s (median of {len(times)})")
        ratios = sorted(b / a for a, b in zip(seconds["flowrun"], seconds["OpenVINO"]))
        print(f"ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})")
        same = sum(a == b for a, b in zip(*counts.values()))
        print(f"frames: {frames} and {len(counts['flowrun'])}; the same number of faces in {same}")
        alone = {
            "ffmpeg": ["-v", "error", "-i", arguments.clip, "-vf", "scale=320:240", "-pix_fmt", "rgb24", "-f", "null", "-"],
            "gst-launch-1.0": ["-q", "filesrc", f"location={arguments.clip}", "!", "decodebin", "!", "videoconvert", "!", "videoscale"]
            + ["!", "video/x-raw,width=320,height=240,format=RGB", "!", "fakesink", "sync=false"],
        }
        for name, options in alone.items():
            if not shutil.which(name):
                print(f"{name} is not installed: decode and scale alone were not timed")
                continue
            try:
                times = [timed([name, *options]) for _ in range(arguments.pairs)]
                print(f"{name}, decode and scale alone: {frames / statistics.median(times):.1f} frames/s")
            except subprocess.CalledProcessError as failed:
                print(f"{name} did not decode the clip (exit code {failed.returncode}; a plugin may be missing)")


if __name__ == "__main__":
    main()
