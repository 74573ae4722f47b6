"""Figures of runs that change, wait and go on: part of `tests.benchmarks.full_size`."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train.job import stage_folder
from pipelines.train.samples import StageSamples
from pipelines.train.worker import train_worker
from tests.benchmarks.harness import CLONE, Row
from tests.mos.training.gloo import run_ranks
from tests.pipelines.growing_run import STEPS, begun, curate_more
from tests.pipelines.run.test_steps import OTHER_WAYS, other_way
from tests.pipelines.train.test_refresh import CPU, ids, kill_at, moved, newer_of, to_step, train_alone
from tests.pipelines.train.test_stopping import TINY, start, wait_for
from tests.pipelines.trained_run import encoded_run
from tests.whole.test_autoscaler import CONFIGS, cluster, groups

TOLD_MARK_S, ENDED_MARK_S = 30.0, 10.0
SMALL = CLONE / "tests" / "small_run.toml"


def identity_row() -> Row:
    """Stages that begin anew because a setting was changed that says how or how far to train; a test has them all."""
    with tempfile.TemporaryDirectory() as folder:
        config = encoded_run(_small(folder), *TINY)
        known = Run(config).step("stage1").fingerprint
        anew = 0
        for setting in OTHER_WAYS:
            if setting != "states":  # encode writes other rows then, under a record of its own
                anew += Run(other_way(config, setting)).step("stage1").fingerprint != known
    return Row("identity.kinds", anew, f"stages begun anew by {len(OTHER_WAYS) - 1} changed settings", "mark", 0)


def cluster_row() -> Row:
    """Configs that ship, times clusters that ship, in which every worker finds its nodes."""
    cases = [(path, name) for path in CONFIGS for name in ("kuberay", "vm")]
    fit = sum(all(groups(load_run(path), cluster(name)).values()) for path, name in cases)
    return Row("fit.clusters", fit, "configs x clusters", "all", len(cases), fit / len(cases))


def wait_rows() -> Iterator[Row]:
    """Seconds until a gang that has no place is told so, and until Ctrl-C has ended a stage that trains."""
    with tempfile.TemporaryDirectory() as folder:
        config = encoded_run(_small(folder), *TINY)
        started = time.perf_counter()
        run = start(CLONE, config.root, "cluster.train.num=5", "stage1.batch_size=10")
        _, errors = run.communicate()
        told = time.perf_counter() - started
        assert run.returncode == 2, errors
        assert "do not fit the cluster" in errors, errors
        yield Row("wait.told", told, "s", "mark", TOLD_MARK_S, TOLD_MARK_S / told)
        run = start(CLONE, config.root)
        wait_for(20, stage_folder(Run(config).step("stage1"), config), run)
        started = time.perf_counter()
        os.killpg(run.pid, signal.SIGINT)
        run.communicate()
        ended = time.perf_counter() - started
        assert run.returncode == 130
        yield Row("wait.ended", ended, "s", "mark", ENDED_MARK_S, ENDED_MARK_S / ended)


def refresh_row() -> Row:
    """Steps that read the same samples in an unbroken stage and in one that was killed after it took newer ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, job = begun(folder / "run")
        newer = newer_of(config, job)
        train_alone(to_step(job, 8), folder / "first")
        curate_more(config)
        newer.look()
        unbroken, broken = moved(job, folder / "unbroken"), moved(job, folder / "broken")
        train_alone(unbroken, folder / "second")
        kill_at(broken, 18)
        run_ranks(train_worker, 2, broken, CPU)
        assert [*StageSamples(broken).taken()]
        equal = sum(one == other for one, other in zip(ids(unbroken), ids(broken), strict=True))
    return Row("refresh.exact", equal, "steps of the same samples", "steps", STEPS, equal / STEPS)


def _small(folder: str) -> Callable[..., RunConfig]:
    return lambda *overrides: load_run(SMALL, (f"root={folder}/run", *overrides))
