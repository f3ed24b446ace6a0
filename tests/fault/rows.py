"""The rows of the fault matrix, in the order of its table."""

from checkpoint_rows import DamagedCheckpoint, ErrorAtCall, KillAtCall, LyingDisk
from kill_rows import DoubleKill, Goodput, LauncherKills, RandomKill
from resume_rows import OtherRankCounts
from slow_rows import FalseAlarms, SlowRank, StoppedRank

ROWS = (RandomKill, DoubleKill, KillAtCall, ErrorAtCall, LyingDisk, DamagedCheckpoint, StoppedRank, FalseAlarms, SlowRank,
        OtherRankCounts, LauncherKills, Goodput)
