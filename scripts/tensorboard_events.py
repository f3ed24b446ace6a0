#!/usr/bin/env python3
"""Writes the curves of a run as an event file that TensorBoard reads.

    tensorboard_events.py RUN_DIR [LOG_DIR]      LOG_DIR: by default RUN_DIR/tensorboard; then
    tensorboard --logdir LOG_DIR

Every number of metrics.jsonl (and privacy.jsonl) becomes a scalar of that superstep or round, named by its place:
"round/test_accuracy", "round/personal_test_accuracy/all/median". An event file that an earlier call left is replaced.
Times are those of the run's first start plus what its supersteps took. Python's standard library only.

Formats: records of TFRecord (length, masked CRC32C of the length, data, masked CRC32C of the data; all little-endian)
that hold the protocol buffers tensorflow.Event and tensorflow.Summary (tensorflow/core/util/event.proto,
tensorflow/core/framework/summary.proto).
"""

import json
import os
import struct
import sys
from datetime import datetime, timezone

import run_report

# Numbers that say where a line is, not what happened.
PLACES = ("superstep", "round", "epoch", "step_in_epoch", "type")
FILE_NAME = "events.out.tfevents.0000000000.superstep"
CASTAGNOLI = 0x82F63B78  # reflected


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, wire_type, payload):
    return varint(number << 3 | wire_type) + payload


def text_field(number, data):
    return field(number, 2, varint(len(data)) + data)


def event(wall_time, step, content):
    """Event: wall_time = 1 (double), step = 2 (int64), what = file_version 3 or summary 5."""
    return field(1, 1, struct.pack("<d", wall_time)) + (field(2, 0, varint(step)) if step else b"") + content


def summary(values):
    """Summary: repeated Value value = 1; Value: tag = 1, simple_value = 2 (float)."""
    encoded = b"".join(
        text_field(1, text_field(1, tag.encode()) + field(2, 5, struct.pack("<f", value))) for tag, value in values)
    return text_field(5, encoded)


def scalars(value, name):
    """The numbers in a nested object with their places."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() if name or key not in PLACES
                for row in scalars(inner, f"{name}/{key}" if name else key)]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    return [(name, float(value))]


def first_start(directory):
    """Seconds since 1970, of provenance.json; 0 when it does not say."""
    try:
        with open(os.path.join(directory, "provenance.json"), encoding="utf-8") as file:
            time = json.load(file)["starts"][0]["time"]
        return datetime.fromisoformat(time.replace("Z", "+00:00")).replace(tzinfo=timezone.utc).timestamp()
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0.0


def event_file(directory):
    entries = run_report.read_lines(os.path.join(directory, "metrics.jsonl"))
    if not entries:
        raise SystemExit(f"tensorboard_events.py: {directory}: no lines in metrics.jsonl")
    ledger = {line["round"]: line for line in run_report.read_lines(os.path.join(directory, "privacy.jsonl"))}
    time = first_start(directory)
    records = [record(event(time, 0, text_field(3, b"brain.Event:2")))]
    for entry in entries:
        if entry["type"] in ("superstep", "round"):
            time += entry["seconds"]["total"]
        values = [(f"{entry['type']}/{tag}", value) for tag, value in scalars(entry, "")]
        if entry["type"] == "round" and entry["round"] in ledger:
            values += [(f"privacy/{tag}", value) for tag, value in scalars(ledger[entry["round"]], "")]
        if values:
            records.append(record(event(time, entry["superstep"], summary(values))))
    return b"".join(records)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    data = event_file(sys.argv[1])
    target = sys.argv[2] if len(sys.argv) == 3 else os.path.join(sys.argv[1], "tensorboard")
    os.makedirs(target, exist_ok=True)
    path = os.path.join(target, FILE_NAME)
    with open(path + ".tmp", "wb") as output:
        output.write(data)
    os.replace(path + ".tmp", path)
    print(path)
