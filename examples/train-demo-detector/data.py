"""Pictures and labels that `flowrun run scenes.yaml` has written, as network inputs and targets."""
import concurrent.futures
import json
import pathlib

import numpy as np
from PIL import Image

from network import CELL, CLASSES, COLS, HEIGHT, ROWS, WIDTH

VISIBLE, HIDDEN = 0.5, 0.25  # objects seen at least so much are targets; seen less than that, they are ground


def load(folder, limit=None):
    """Pictures as u8 [N, 192, 320, 3], letterboxed, and boxes per picture as rows (class, x1, y1, x2, y2,
    visible share) in input pixels."""
    lines = pathlib.Path(folder, "truth.jsonl").read_text().splitlines()[:limit]
    records = [json.loads(line) for line in lines]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        pictures = np.stack(list(pool.map(lambda r: letterbox(pathlib.Path(folder, f"{r['seq']:06}.jpg")), records)))
    boxes = []
    for record in records:
        rows = [[t["class"], *(c / 2 for c in t["box"]), t["score"]] for t in record["detections"]]
        rows = np.array(rows, np.float32).reshape(-1, 6)
        rows[:, [2, 4]] += 6
        boxes.append(rows)
    return pictures, boxes


def letterbox(path):
    """A 640x360 picture halved to 320x180 (bilinear at exactly half size is the mean of 2x2 samples) on a
    192 rows high input."""
    picture = np.asarray(Image.open(path).convert("RGB"), np.uint16)
    assert picture.shape == (360, 640, 3), f"{path}: {picture.shape}, expected 640x360 pixels"
    half = (picture[0::2, 0::2] + picture[1::2, 0::2] + picture[0::2, 1::2] + picture[1::2, 1::2] + 2) // 4
    whole = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
    whole[6:186] = half
    return whole


def targets(boxes):
    """Heat [24, 40] (1 at centres, falling off around them, -1 where it does not count), and for cells that
    learn a box: mask, box (cx, cy, w, h as shares of the input), class."""
    heat = np.zeros((ROWS, COLS), np.float32)
    mask = np.zeros((ROWS, COLS), np.float32)
    box = np.zeros((ROWS, COLS, 4), np.float32)
    label = np.zeros((ROWS, COLS), np.int32)
    best = np.full((ROWS, COLS), np.inf, np.float32)
    gy, gx = np.mgrid[0:ROWS, 0:COLS].astype(np.float32) + 0.5
    for c, x1, y1, x2, y2, seen in boxes:
        if seen < HIDDEN:
            continue
        cx, cy, w, h = (x1 + x2) / 2 / CELL, (y1 + y2) / 2 / CELL, (x2 - x1) / CELL, (y2 - y1) / CELL
        col, row = min(int(cx), COLS - 1), min(int(cy), ROWS - 1)
        if seen < VISIBLE:
            near = (np.abs(gx - cx) < max(w / 2, 1)) & (np.abs(gy - cy) < max(h / 2, 1))
            heat[near & (heat < 0.5)] = -1
            continue
        sigma = np.array([max(w, 2), max(h, 2)]) / 7
        fall = np.exp(-0.5 * (((gx - col - 0.5) / sigma[0]) ** 2 + ((gy - row - 0.5) / sigma[1]) ** 2))
        heat = np.where(heat < 0, np.where(fall > 0.3, fall, heat), np.maximum(heat, fall * 0.999))
        heat[row, col] = 1.0
        # A cell's offset to the centre must fit tanh.
        dx, dy = cx - (gx - 0.5), cy - (gy - 0.5)
        can = (np.abs(dx) < 0.97) & (np.abs(dy) < 0.97) & (w * h < best)
        can[row, col] = True
        mask[can], label[can], best[can] = 1.0, int(c), w * h
        box[can] = (cx / COLS, cy / ROWS, w / COLS, h / ROWS)
    return heat, mask, box, label


def augment(picture, boxes, random):
    """Mirror, brightness, contrast and colour balance."""
    x = picture.astype(np.float32)
    boxes = boxes.copy()
    if random.random() < 0.5:
        x = x[:, ::-1]
        boxes[:, [1, 3]] = WIDTH - boxes[:, [3, 1]]
    gain = random.uniform(0.7, 1.3) * random.uniform(0.9, 1.1, 3)
    x = np.clip((x - 114) * gain + 114 + random.uniform(-25, 25), 0, 255)
    return ((x - 127) / 128).astype(np.float32), boxes
