#!/usr/bin/env bash
# Renders the demo's clip anew into pipelines/demo. Needs a built flowrun, and ffmpeg with libx264.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
OUT="$out" "${FLOWRUN:-target/release/flowrun}" run examples/train-demo-detector/clip.yaml
ffmpeg -y -loglevel error -i "$out/scene.y4m" -vf format=yuv420p -c:v libx264 -preset slow -crf 22 \
    -movflags +faststart pipelines/demo/scene.mp4
cp "$out/scene.truth.jsonl" pipelines/demo/
