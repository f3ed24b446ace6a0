#!/usr/bin/env python3
"""Takes the safeguards away one by one and sees that tests notice.

    scripts/mutation_check.py                    all that were not judged yet; prints the table
    scripts/mutation_check.py --only NAME...     these, again
    scripts/mutation_check.py --list             names and what is taken away
    scripts/mutation_check.py --table            the table of what was judged, nothing else
    scripts/mutation_check.py --prepare          the copy of the tree and its build, nothing else
    scripts/mutation_check.py --seconds 240      begins nothing new after this time

The tree (what git has, as it is now) is copied to build/mutation/tree, built there, and rebuilt for each mutation: a
text that occurs once in a file is replaced by another. A mutation is caught when a named test fails; one that does not
compile, or whose text is not there, proves nothing and counts as a failure. Results are kept in
tests/fault/mutations.json, and hold until the mutation or its file changes. Processes that the tests leave behind are
ended.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
WORK = SOURCE / "build/mutation"
RESULTS = SOURCE / "tests/fault/mutations.json"
TREE = WORK / "tree"
BUILD = TREE / "build/release"
MARK = "SUPERSTEP_MUTATION"


class Mutation:
    def __init__(self, name, file, old, new, tests, targets):
        self.name = name
        self.file = file
        self.old = old
        self.new = new
        self.tests = tests        # ctest -R
        self.targets = targets    # what these tests run

    def content(self, root):
        """Of its file in that tree; a file that is not there has no text to replace."""
        path = root / self.file
        return path.read_text() if path.is_file() else ""

    def judged(self, content):
        """A hash of what a verdict is about."""
        words = [self.old, self.new, self.tests, content]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()


BSP = ("bsp_fault_program",)
BSP_WORLD = ("bsp_world_tests",)
PARAMSERVER = ("paramserver_tests",)
PARAMSERVER_WORLD = ("paramserver_world_tests",)
CLUSTER = ("cluster_tests",)
PROGRAM = ("superstep",)
SIMULATION = ("simulation_tests",)
WORKER_WORLD = ("worker_world_tests",)

MUTATIONS = (
    # --- checkpoints ---
    Mutation("files of a checkpoint are synced", "paramserver/checkpoint_files.cpp",
             'if (::fsync(file.get()) != 0) {\n    internal::throw_write_error(kWriteWhere, path, "sync", errno);',
             'if (!file.is_open()) {\n    internal::throw_write_error(kWriteWhere, path, "sync", errno);',
             "^fault.write_order$", PROGRAM),
    Mutation("the directory is synced before it gets its name", "base/file.cpp",
             "  fsync_directory(from);\n  if (::rename(from.c_str(), to.c_str()) != 0) {",
             "  if (::rename(from.c_str(), to.c_str()) != 0) {", "^fault.write_order$", PROGRAM),
    Mutation("the directory above is synced after it", "base/file.cpp",
             "  fsync_directory(parent_of(to));\n  if (parent_of(from) != parent_of(to)) {",
             "  if (parent_of(from) != parent_of(to)) {", "^fault.write_order$", PROGRAM),
    Mutation("a checkpoint is written under another name", "paramserver/checkpoint_writer.cpp",
             '  temporary_ += ".tmp";\n', '  temporary_ += "";\n', "^paramserver.world.(lanes1|lanes2)$", PARAMSERVER_WORLD),
    Mutation("the hash of a manifest is compared", "paramserver/checkpoint_serialize.cpp",
             "actual = frame_hash(header, payload); actual != stored) {",
             "actual = frame_hash(header, payload); actual != stored && payload.empty()) {", "^paramserver.unit$",
             PARAMSERVER),
    Mutation("the hash of a block is compared", "paramserver/checkpoint.cpp",
             "      if (actual != expected) {\n", "      if (actual != expected && part.empty()) {\n", "^paramserver.unit$",
             PARAMSERVER),
    Mutation("what was written is read again", "paramserver/checkpoint_protocol.cpp",
             "written.size_bytes()) != 0) {", "written.size_bytes()) != 0 && written.empty()) {", "^fault.matrix.quick$",
             PROGRAM),
    Mutation("a damaged checkpoint is passed over for the one before", "paramserver/checkpoint_list.cpp",
             "    if (problem.empty()) {\n      sync_names(root);",
             "    if (problem.empty() || problems == nullptr || !problem.empty()) {\n      sync_names(root);",
             "^paramserver.unit$", PARAMSERVER),
    Mutation("the name of a checkpoint is durable before a run goes on from it", "paramserver/checkpoint_list.cpp",
             "      sync_names(root);\n", "", "^simulation.jobs$", SIMULATION),
    Mutation("a block of a partner's piece is verified", "paramserver/partner_blocks.cpp",
             "  return hash_span<float>(values) == array.blocks[static_cast<std::size_t>(block)];\n",
             "  return !values.empty();\n", "^paramserver.world.(lanes1|lanes2)$", PARAMSERVER_WORLD),
    Mutation("a checkpoint of another state is not overwritten", "paramserver/checkpoint_protocol.cpp",
             "  if (existing == manifest.state_hash) {\n",
             "  if (existing == manifest.state_hash || !target.empty()) {\n", "^paramserver.world.lanes1$",
             PARAMSERVER_WORLD),
    Mutation("one rank's write error is every rank's", "paramserver/checkpoint_notes.cpp",
             "  if (first == problems.end()) {\n    return",
             "  if (first == problems.end() || mine.problem.empty()) {\n    return",
             "^paramserver.world.(lanes2|mpi.np2)$", PARAMSERVER_WORLD),
    # --- agreement of ranks ---
    Mutation("ranks are compared before they train", "bsp/agreement.cpp", "  if (all_equal(low) && all_equal(high)) {\n",
             "  if (all_equal(low) || all_equal(high) || !low.empty()) {\n", "^bsp.world.lanes2$", BSP_WORLD),
    Mutation("the deadline of a sync", "bsp/patience.cpp", "waited > deadline_) {", "waited > 30 * deadline_) {",
             "^bsp.fault.missing$", BSP),
    Mutation("the fingerprint of collective calls", "bsp/team.cpp",
             "  if (words[kHash] != ~words[kHashComplement]) {\n",
             "  if (words[kHash] != ~words[kHashComplement] && words[kHash] == 0) {\n", "^bsp.fault.mismatch$", BSP),
    Mutation("a remedy that is not found holds nobody up", "bsp/job.cpp", "  if (remedy.wait_for(kRemedyLimit) ==",
             "  if (remedy.wait_for(100 * kRemedyLimit) ==", "^bsp.fault.error$", BSP),
    Mutation("calls of lanes are compared before each", "bsp/team.cpp", "  if (std::none_of(slots_.begin(), slots_.end(), "
             "differs)) {\n", "  if (std::none_of(slots_.begin(), slots_.end(), differs) || !slots_.empty()) {\n",
             "^bsp.fault.mismatch$", BSP),
    Mutation("a stop is agreed on", "worker/trainer.cpp", "  if ((server.flags() & kSignalFlag) != 0) {\n",
             "  if (stop_requested()) {\n", "^worker.world.mpi.np2$", WORKER_WORLD),
    # --- numbers and memory ---
    Mutation("bad numbers are told to all ranks", "worker/trainer_slots.cpp",
             "    server.raise_flags(kBadNumbersFlag);\n", "", "^worker.world.lanes2$", WORKER_WORLD),
    Mutation("gradients are looked at", "worker/number_check.cpp", "  if (largest_magnitude(gradient) <= limit) {\n",
             "  if (largest_magnitude(gradient) <= limit || !gradient.empty()) {\n", "^worker.world.lanes2$", WORKER_WORLD),
    Mutation("gradients are compared", "worker/gradient_recheck.cpp", "    if (again_hash_ != claim.hash) {\n",
             "    if (again_hash_ != claim.hash && claim.owner < 0) {\n", "^worker.world.lanes2$", WORKER_WORLD),
    Mutation("a gradient is computed again by another rank", "worker/gradient_recheck.cpp",
             "  return (owner + shift_) % world_.size();\n", "  return owner + 0 * shift_;\n", "^worker.world.lanes2$",
             WORKER_WORLD),
    Mutation("a superstep with bad numbers is left out", "paramserver/collocated_server.cpp",
             "  if ((state.board.flags() & options.skip_on) != 0) {\n",
             "  if ((state.board.flags() & options.skip_on) != 0 && state.step < 0) {\n", "^worker.world.lanes2$",
             WORKER_WORLD),
    Mutation("bits that flip in memory are found", "paramserver/shard_guard.cpp",
             "  if (hash != written) {\n    fail(array,", "  if (hash != written && block.empty()) {\n    fail(array,",
             "^paramserver.world.lanes2$", PARAMSERVER_WORLD),
    Mutation("a block is verified before it is updated", "paramserver/collocated_server.cpp",
             "    guard.verify_block(begin, parameters.span(), states);\n", "", "^paramserver.world.lanes2$",
             PARAMSERVER_WORLD),
    Mutation("memory is verified before it becomes a checkpoint", "paramserver/collocated_server.cpp",
             "    state.guard.verify(state.parameters.span(), state.optimizer_state());\n", "",
             "^paramserver.world.lanes2$", PARAMSERVER_WORLD),
    Mutation("the copy that becomes a checkpoint is verified", "paramserver/checkpoint_writer.cpp",
             "    if (part.check_hashes) {\n", "    if (part.check_hashes && part.name.empty()) {\n",
             "^paramserver.world.lanes2$", PARAMSERVER_WORLD),
    # --- the launcher ---
    Mutation("0 of mpirun is believed only with the records of the ranks", "cluster/launch_policy.cpp",
             "  if (result.exit_code == 0 && result.ranks == RankVerdict::kFinished) {\n",
             "  if (result.exit_code == 0) {\n", "^cluster.unit$", CLUSTER),
    Mutation("the record of every rank is asked for", "cluster/launch_record.cpp",
             "  if (joint.num_recorded != num_ranks) {\n", "  if (joint.num_recorded > num_ranks) {\n", "^cluster.unit$",
             CLUSTER),
    Mutation("ranks must record the same hash", "cluster/launch_record.cpp",
             "a.parameters_hash == b.parameters_hash && a.state_hash == b.state_hash;",
             "a.state_hash == b.state_hash;", "^cluster.unit$", CLUSTER),
    Mutation("restarts without progress end", "cluster/launch_policy.cpp",
             "  if (restarts_without_progress_ >= kMostRestartsWithoutProgress) {\n",
             "  if (restarts_without_progress_ > 100 * kMostRestartsWithoutProgress) {\n", "^cluster.unit$", CLUSTER),
    Mutation("a host that ssh does not reach is named", "cluster/launch_diagnosis.cpp",
             "    look_for_unreachable_node(line);\n", "", "^cluster.unit$", CLUSTER),
    Mutation("ranks that are late name their host", "cluster/launch_diagnosis.cpp",
             "    look_for_late_ranks(line);\n", "", "^cluster.unit$", CLUSTER),
    Mutation("memory that changed names its host", "cluster/launch_diagnosis.cpp",
             "    look_for_changed_memory(line);\n", "", "^cluster.unit$", CLUSTER),
    Mutation("a host that is named twice is left out", "cluster/launch_hosts.cpp",
             "  if (++blamed_[host] < kMostBlame) {\n", "  if (++blamed_[host] < 100 * kMostBlame) {\n", "^cluster.unit$",
             CLUSTER),
    Mutation("recovery by mpirun is refused", "cluster/launch_hosts.cpp", "  if (recovery) {\n",
             "  if (recovery && option.empty()) {\n", "^cluster.unit$", CLUSTER),
    Mutation("a job that does not move is ended", "cluster/launch_watch.cpp",
             "  if (since_move_.elapsed() < patience_) {\n",
             "  if (since_move_.elapsed() < patience_ || !ranks.empty()) {\n", "^cluster.unit$", CLUSTER),
    Mutation("a failure before a stop is passed on", "cluster/launch_policy.cpp",
             "  if (would_come_back(result.exit_code) || result.exit_code == code(ExitCode::kCorruption)) {\n",
             "  if (would_come_back(result.exit_code) && result.exit_code == code(ExitCode::kCorruption)) {\n",
             "^cluster.unit$", CLUSTER),
    Mutation("what could be read once is tried again", "cluster/launch_policy.cpp",
             "has_worked = !first || result.checkpoint_superstep > newest_checkpoint_;",
             "has_worked = !first && result.checkpoint_superstep < 0;", "^cluster.unit$", CLUSTER),
    Mutation("keepalive finds a lost node", "cluster/launch_command.cpp", '"oob_tcp_keepalive_time", "5"',
             '"oob_tcp_keepalive_time", "500"', "^cluster.launch.Policies$", PROGRAM),
    Mutation("a stop is passed on", "cluster/launch_process.cpp", "    ::kill(end_.pid, SIGUSR1);\n", "",
             "^cluster.launch.Policies$", PROGRAM),
    Mutation("a stop is passed on again", "cluster/launch_process.cpp", "    ask_again();\n", "",
             "^cluster.launch.Policies$", PROGRAM),
    Mutation("an mpirun that does not end is killed", "cluster/launch_process.cpp",
             "      ::kill(end_.pid, SIGKILL);\n", "", "^cluster.launch.Policies$", PROGRAM),
    Mutation("the launcher survives a reader that has gone", "cluster/program.cpp",
             "  if (std::holds_alternative<LaunchArguments>(command)) {\n",
             "  if (std::holds_alternative<LaunchArguments>(command) && command.valueless_by_exception()) {\n",
             "^cluster.launch.Policies$", PROGRAM),
    Mutation("signals that were ignored stay ignored", "cluster/signal_inbox.cpp",
             "    if (!is_inherited_as_ignored(signal)) {\n", "    if (!is_inherited_as_ignored(signal) || signal > 0) {\n",
             "^cluster.launch.Policies$", PROGRAM),
    Mutation("a run that was there is not continued unasked", "cluster/launch_command.cpp", "    require_own_run();\n", "",
             "^cluster.launch.Policies$", PROGRAM),
    Mutation("processes that srun started alone are refused", "cluster/launcher_check.cpp", "    if (count > 1) {\n",
             "    if (count > 1 && launcher.name == nullptr) {\n", "^cluster.program.BadInput$", PROGRAM),
    Mutation("two programs do not train one run", "cluster/run_directory.cpp",
             "  if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {\n",
             "  if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == 0) {\n", "^cluster.unit$", CLUSTER),
    Mutation("leftovers are removed", "cluster/launch_command.cpp",
             "removed = remove_leftovers(end.diagnosis.daemon_job(), end.pid);",
             "removed = remove_leftovers(std::nullopt, 0);", "^fault.matrix.quick$", PROGRAM),
    Mutation("orphans are ended", "cluster/launch_process.cpp", "      if (watch.elapsed() > kOrphanLimit) {\n",
             "      if (!left.empty()) {\n", "^cluster.launch.Policies$", PROGRAM),
    Mutation("what a killed launcher leaves is removed", "cluster/launch_caretaker.cpp",
             "  if (watched.mpirun > 0) {\n", "  if (watched.mpirun < 0) {\n", "^cluster.launch.Supervision$", PROGRAM),
    Mutation("metrics after the checkpoint are cut off", "cluster/run_opening.cpp",
             "    truncate_metrics(file, std::max<std::int64_t>(resume_superstep_, 0));\n",
             "    static_cast<void>(file);\n", "^fault.matrix.quick$", PROGRAM),
    # --- data ---
    Mutation("labels are compared with the number of classes", "worker/data/idx.cpp",
             "    if (labels.values[i] >= num_classes) {\n",
             "    if (labels.values[i] >= num_classes && num_classes < 0) {\n", "^cluster.program.BadInput$", PROGRAM),
)


class Results:
    def __init__(self):
        self.path = RESULTS
        self.rows = json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, mutation):
        """What was found of the mutation and its file as they are now; None: nothing."""
        row = self.rows.get(mutation.name)
        return row if row and row.get("judged") == mutation.judged(mutation.content(SOURCE)) else None

    def put(self, name, row):
        self.rows[name] = row
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.rows, indent=1, sort_keys=True) + "\n")
        temporary.replace(self.path)


def copy_tree():
    """Writes only what changed, so that a build goes on where it was."""
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=SOURCE,
                             capture_output=True, check=True).stdout.decode()
    wanted = {name for name in listing.split("\0") if name and (SOURCE / name).is_file()}
    for name in sorted(wanted):
        target = TREE / name
        content = (SOURCE / name).read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copymode(SOURCE / name, target)
    for path in [path for path in TREE.rglob("*") if path.is_file() and BUILD not in path.parents]:
        if str(path.relative_to(TREE)) not in wanted:
            path.unlink()


def run(*words):
    """(exit code, output). What the command leaves running is ended."""
    environment = {**os.environ, MARK: str(os.getpid())}
    done = subprocess.run([str(word) for word in words], cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", env=environment, check=False)
    end_marked()
    return done.returncode, done.stdout


def end_marked():
    mark = f"{MARK}={os.getpid()}".encode()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            pass


def configure():
    if (BUILD / "build.ninja").exists():
        return
    words = ["cmake", "-S", ".", "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
    if shutil.which("ccache"):
        words += ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON"]
    code, text = run(*words)
    if code != 0:
        sys.exit(text)


def build(targets, jobs):
    return run("cmake", "--build", BUILD, "--parallel", jobs, "--target", *targets)


def test(tests):
    """(ctest's exit code, names of tests that failed, whichever way, and its output)."""
    code, text = run("ctest", "--test-dir", BUILD, "-R", tests, "--no-tests=error")
    failed = re.findall(r"^\s*\d+ - (\S+) \((?!Not Run|Disabled|Skipped)", text, re.M)
    return code, failed, text


def judge(mutation, jobs):
    begin = time.monotonic()
    path = TREE / mutation.file
    usual = mutation.content(TREE)
    judged = mutation.judged(usual)
    if usual.count(mutation.old) != 1:
        return {"verdict": "not there", "what": f"the text occurs {usual.count(mutation.old)} times in {mutation.file}",
                "judged": judged}
    try:
        path.write_text(usual.replace(mutation.old, mutation.new))
        code, text = build(mutation.targets, jobs)
        if code != 0:
            return {"verdict": "does not compile", "what": text[-2000:], "judged": judged}
        code, failed, text = test(mutation.tests)
    finally:
        path.write_text(usual)
    row = {"verdict": "caught" if failed else "SURVIVED", "what": ", ".join(failed) or text[-2000:],
           "seconds": round(time.monotonic() - begin), "date": time.strftime("%Y-%m-%d", time.gmtime()),
           "judged": judged}
    return row


def prepare(mutations, jobs):
    WORK.mkdir(parents=True, exist_ok=True)
    TREE.mkdir(exist_ok=True)
    copy_tree()
    configure()
    code, text = build(sorted({target for mutation in mutations for target in mutation.targets}), jobs)
    if code != 0:
        sys.exit("the tree does not build:\n" + text[-4000:])


def expect_health(mutation, jobs):
    """Without the mutation its tests must pass, or their failure proves nothing."""
    code, text = build(mutation.targets, jobs)
    code, failed, text = test(mutation.tests) if code == 0 else (code, ["the build"], text)
    if code != 0:
        sys.exit(f"{mutation.tests} fails without a mutation: {', '.join(failed)}\n{text[-4000:]}")


def table(results):
    width = max(len(mutation.name) for mutation in MUTATIONS)
    num_caught = 0
    for mutation in MUTATIONS:
        row = results.of(mutation)
        if row is None:
            print(f"{mutation.name:{width}}  not judged")
            continue
        what = row["what"] if row["verdict"] == "caught" else row["what"].strip().splitlines()[-1:]
        print(f"{mutation.name:{width}}  {row['verdict']:16}  {what}")
        num_caught += row["verdict"] == "caught"
    print(f"{num_caught} of {len(MUTATIONS)} caught")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{mutation.name}: {mutation.file}, {mutation.tests}" for mutation in MUTATIONS))
        return 0
    results = Results()
    if arguments.table:
        table(results)
        return 0
    chosen = [mutation for mutation in MUTATIONS if mutation.name in (arguments.only or names) and
              (arguments.only or results.of(mutation) is None)]
    begin = time.monotonic()
    if chosen or arguments.prepare:
        prepare(MUTATIONS if arguments.prepare else chosen, arguments.jobs)
    if arguments.prepare:
        return 0
    healthy = set()
    for mutation in chosen:
        if time.monotonic() - begin > arguments.seconds:
            break
        if mutation.tests not in healthy:
            expect_health(mutation, arguments.jobs)
            healthy.add(mutation.tests)
        row = judge(mutation, arguments.jobs)
        results.put(mutation.name, row)
        print(f"{mutation.name}: {row['verdict']}", flush=True)
    table(results)
    rows = [results.of(mutation) for mutation in MUTATIONS]
    bad = [row for row in rows if row is not None and row["verdict"] != "caught"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
