"""The row in which files of the training data are damaged, before a run and in the middle of it."""

import gzip
import os
import random
import re
import shutil
import signal
import struct

from job import CONFIG, STEPS_PER_EPOCH, expect
from row import Row

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_CONFIG = CONFIG.replace('format = "synthetic"\nnum_train = 75\nnum_test = 30\nsample_shape = [1, 6, 6]\n',
                            'format = "idx"\ndirectory = "data"\n')
SIZE, CLASSES = 6, 3


def write_idx_files(directory, num_train=75, num_test=30):
    """A small data set: class k is bright in row k."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", num_train), ("t10k", num_test)):
        labels = bytes(i % CLASSES for i in range(count))
        pixels = bytes((200 if row == labels[i] else 0) + (7 * i + 13 * row + column * column) % 50
                       for i in range(count) for row in range(SIZE) for column in range(SIZE))
        (directory / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, SIZE, SIZE) + pixels)
        (directory / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels)


def changed(directory, name, change):
    path = directory / name
    path.write_bytes(change(path.read_bytes()))


def packed(directory, change):
    content = gzip.compress((directory / IMAGES).read_bytes())
    (directory / IMAGES).unlink()
    (directory / (IMAGES + ".gz")).write_bytes(change(content))


# Name -> (what is done to the directory, file that is named, what is said of it).
BEFORE = {
    "bad label": (lambda d: changed(d, LABELS, lambda c: c[:8 + 41] + b"\x03" + c[8 + 42:]), LABELS,
                  r"byte 49: label of sample 41 out of range: got 3, expected 0 to 2"),
    "bad test label": (lambda d: changed(d, TEST_LABELS, lambda c: c[:-1] + b"\xff"), TEST_LABELS,
                       r"byte 37: label of sample 29 out of range: got 255, expected 0 to 2"),
    "fewer labels": (lambda d: changed(d, LABELS, lambda c: struct.pack(">2I", 0x801, 74) + c[8:-1]), LABELS,
                     r"byte 4: counts differ: got 74 labels, expected 75"),
    "wrong dimensions": (lambda d: changed(d, IMAGES, lambda c: struct.pack(">4I", 0x803, 75, 6, 7) + c[16:]), IMAGES,
                         r"byte 2716: truncated: got 2700 bytes of values, expected 3150 \(75 x 6 x 7\)"),
    "sizes that overflow": (lambda d: changed(d, IMAGES, lambda c: c[:4] + b"\xff" * 12 + c[16:]), IMAGES,
                            r"byte 4: sizes overflow"),
    "truncated": (lambda d: changed(d, IMAGES, lambda c: c[:-7]), IMAGES,
                  r"byte 2709: truncated: got 2693 bytes of values, expected 2700"),
    "empty": (lambda d: changed(d, IMAGES, lambda c: b""), IMAGES, r"byte 0: file ends inside the magic number"),
    "trailing bytes": (lambda d: changed(d, IMAGES, lambda c: c + b"x"), IMAGES, r"byte 2716: 1 trailing bytes"),
    "two files in one": (lambda d: changed(d, LABELS, lambda c: c + c), LABELS, r"byte 83: 83 trailing bytes"),
    "bad magic": (lambda d: changed(d, IMAGES, lambda c: b"\x01" + c[1:]), IMAGES, r"byte 0: bad magic: got 0x01000803"),
    "NaN features": (lambda d: changed(d, IMAGES, lambda c: struct.pack(">4I", 0xD03, 75, 6, 6) +
                                       struct.pack(">f", float("nan")) * 2700), IMAGES,
                     r"byte 2: element type float32 \(0x0d\) is not supported"),
    "a page instead": (lambda d: changed(d, IMAGES, lambda c: b"<html>not found</html>"), IMAGES, r"byte 0: got an HTML"),
    "missing": (lambda d: (d / LABELS).unlink(), LABELS, r"no such file"),
    "damaged gzip": (lambda d: packed(d, lambda c: c[:len(c) // 2] + bytes([c[len(c) // 2] ^ 64]) + c[len(c) // 2 + 1:]),
                     IMAGES + ".gz", r"byte \d+: \S"),
    "truncated gzip": (lambda d: packed(d, lambda c: c[:len(c) // 2]), IMAGES + ".gz", r"byte \d+: \S"),
}
# In the middle of the run: the data are in memory, and a restart reads them again.
DURING = {
    "changed": (lambda d: changed(d, IMAGES, lambda c: c[:-1] + bytes([c[-1] ^ 1])), r"was trained on other data: got "
                r"[^\n]+, expected [^\n]+"),
    "emptied": (lambda d: changed(d, IMAGES, lambda c: b""), IMAGES + r", byte 0: file ends inside the magic number"),
    "deleted": (lambda d: (d / LABELS).unlink(), LABELS + r": no such file"),
}


class DamagedData(Row):
    name = "F11"
    fault = ("files of the data of 2 ranks: " + ", ".join(BEFORE) + "; in the middle of the run: " + ", ".join(DURING) +
             "; the same, and a rank is killed")
    promise = ("exit code 3 with file and byte or record before anything is written; in the middle: the bits of an "
               "undisturbed run; a restart on other data: refused, and the run goes on when the data are back")
    trials = 2 * (len(BEFORE) + 2 * len(DURING))
    quick = 3
    seconds = 2.0
    config = IDX_CONFIG
    epochs = 30

    def trial(self, seed):
        cases = [(case, "before") for case in BEFORE] + [(case, when) for case in DURING for when in ("during", "restart")]
        case, when = cases[(seed * 4) % len(cases)]
        chance = random.Random(seed)
        expected = self.reference(self.epochs) if when != "before" else None
        job = self.job("trial", epochs=self.epochs)
        data = job.directory / "data"
        if when == "before":
            damage, file, problem = BEFORE[case]
            damage(data)
            job.launch(2)
            code = job.wait()
            what = f"{case}: exit code {code}\n{job.text()}"
            expect(code == 3 and re.search(rf"{re.escape(file)}(, |: ){problem}", job.text()), what)
            expect(not job.out.exists(), "something was written: " + what)
            return {"refused": 1}
        self.damage_during(job, data, case, chance, when)
        job.expect_result(expected)
        return {when: 1}

    def damage_during(self, job, data, case, chance, when):
        damage, problem = DURING[case]
        job.launch(2)
        expect(job.wait_for_superstep(chance.randrange(4, self.epochs * STEPS_PER_EPOCH - 40)), job.text())
        ranks = job.ranks()
        damage(data)
        if when == "restart":
            os.kill(ranks[chance.randrange(2)], signal.SIGKILL)
            code = job.wait()
            what = f"{case}, then a restart: exit code {code}\n{job.text()}"
            expect(code == 3 and re.search(problem, job.text()), what)
            write_idx_files(data)
            job.log.unlink()
            job.launch(2, "--resume")
        code = job.wait()
        expect(code == 0, f"{case} in the middle of the run: exit code {code}\n{job.text()}")

    def job(self, name, **options):
        job = super().job(name, **options)
        shutil.rmtree(job.directory / "data", ignore_errors=True)
        write_idx_files(job.directory / "data")
        return job
