"""Our side: one process of `differential` (tests/src/differential.rs) that runs folder after folder."""
import pathlib
import subprocess
import tempfile

import numpy as np
import openvino as ov

from spec import build


class Engine:
    def __init__(self, binary, scratch=None):
        self.binary = binary
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="differential-", dir=scratch))
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [self.binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self, spec, inputs, names, extra=()):
        """What each configuration says: a list of outputs, or a string that begins with `error`, `panic` or `died`."""
        for old in self.folder.iterdir():
            old.unlink()
        write(spec, inputs, self.folder, extra)
        return self.run_folder(self.folder, names)

    def run_open(self, spec, inputs, again, name):
        """What one engine says to inputs of two shapes: two lists of outputs, or a string."""
        for old in self.folder.iterdir():
            old.unlink()
        write(spec, inputs, self.folder)
        for i, value in enumerate(again):
            np.save(self.folder / f"again.{i}.npy", value)
        first = self.run_folder(self.folder, [name])[name]
        if isinstance(first, str):
            return first
        return first, [np.load(self.folder / f"again.{name}.{i}.npy") for i in range(len(first))]

    def run_folder(self, folder, names):
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.process.stdin.write(f"{folder} {' '.join(names)}\n")
        self.process.stdin.flush()
        said = {}
        while True:
            line = self.process.stdout.readline()
            if not line:
                self.process.wait()
                missing = [n for n in names if n not in said]
                said.update({n: f"died with {self.process.returncode}" for n in missing[:1]})
                said.update({n: "error not run" for n in missing[1:]})
                self.process = None
                break
            name, _, rest = line.strip().partition(" ")
            if name == "done":
                break
            said[name] = rest
        for name, rest in said.items():
            if rest == "ok":
                count = len(list(folder.glob(f"{name}.*.npy")))
                said[name] = [np.load(folder / f"{name}.{i}.npy") for i in range(count)]
        return said


def write(spec, inputs, folder, extra=()):
    """The model as IR, and its inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    ov.serialize(build(spec, False, extra), str(folder / "model.xml"), str(folder / "model.bin"))
    for i, value in enumerate(inputs):
        np.save(folder / f"in.{i}.npy", value)
