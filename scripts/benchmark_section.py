"""Sections of docs/benchmarks.md that scripts write: each between two marks, the rest left alone."""

import os
import pathlib
import platform
import re
import subprocess

HEADER = """# Benchmarks

Measured on the machines named in each section, written by the scripts named there; do not edit by hand.
"""


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def describe_machine():
    """One line: processor, cores, caches, kernel, compiler, MPI."""
    cpu = output_of("lscpu")

    def field(name):
        match = re.search(rf"^\s*{re.escape(name)}:\s*(.+)$", cpu, re.MULTILINE)
        return match.group(1) if match else "unknown"

    vectors = "AVX-512" if "avx512f" in cpu else "AVX2" if "avx2" in cpu else "SSE"
    compiler = output_of("c++", "--version").splitlines()
    mpi = output_of("mpirun", "--version").splitlines()
    return (f"{field('Model name')} (family {field('CPU family')}, model {field('Model')}, {vectors}), "
            f"{os.cpu_count()} cores, L2 {field('L2 cache')}, L3 {field('L3 cache')}, "
            f"{field('Hypervisor vendor')} virtual machine, Linux {platform.release()}, "
            f"{compiler[0] if compiler else 'unknown compiler'}, {mpi[0] if mpi else 'no MPI'}")


def write_section(path, name, text):
    """Replaces the section `name` of the file, or adds it at the end."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    file = pathlib.Path(path)
    content = file.read_text(encoding="utf-8") if file.exists() else HEADER
    if begin in content:
        head, rest = content.split(begin, 1)
        tail = rest.split(end, 1)[1].lstrip("\n")
        content = head + section + ("\n" + tail if tail else "")
    else:
        content = content.rstrip("\n") + "\n\n" + section
    file.write_text(content, encoding="utf-8")
