"""The benchmark of a name."""

from typing import assert_never

from mos.benchmarks.benchmark import Benchmark
from mos.benchmarks.config import BenchmarkName
from mos.benchmarks.dpg import Dpg
from mos.benchmarks.gedit import GEdit
from mos.benchmarks.geneval import GenEval
from mos.benchmarks.imgedit import ImgEdit
from mos.benchmarks.mjhq import Mjhq
from mos.benchmarks.oneig import OneIg
from mos.benchmarks.wise import Wise


def benchmark_named(name: BenchmarkName) -> Benchmark:
    """What a config's name means."""
    match name:
        case "geneval":
            return GenEval()
        case "dpg":
            return Dpg()
        case "wise":
            return Wise()
        case "oneig":
            return OneIg()
        case "imgedit":
            return ImgEdit()
        case "gedit":
            return GEdit()
        case "mjhq":
            return Mjhq()
    assert_never(name)
