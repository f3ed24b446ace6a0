"""The rows of the fault matrix, in the order of its table."""

from checkpoint_rows import DamagedCheckpoint, ErrorAtCall, KillAtCall, LostFiles, LyingDisk
from collective_rows import MismatchedCall
from data_rows import DamagedData
from fuzz_rows import FuzzedParsers
from gradient_rows import WrongGradient
from kill_rows import DoubleKill, LauncherKills, RandomKill
from long_rows import Goodput, Soak
from memory_rows import FlippedBit
from mismatch_rows import OtherBeginnings, OtherRuntime
from network_rows import BrokenNetwork
from number_rows import BadNumbers
from resume_rows import OtherRankCounts
from slow_rows import FalseAlarms, SlowRank, StoppedRank, StoppedRankAndFiles

ROWS = (RandomKill, DoubleKill, KillAtCall, ErrorAtCall, LyingDisk, DamagedCheckpoint, LostFiles, StoppedRank,
        StoppedRankAndFiles, FalseAlarms, SlowRank, BadNumbers, OtherBeginnings, OtherRuntime, MismatchedCall, DamagedData,
        OtherRankCounts, BrokenNetwork, LauncherKills,
        FlippedBit, WrongGradient, FuzzedParsers, Goodput, Soak)
