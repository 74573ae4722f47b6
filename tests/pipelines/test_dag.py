import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from cluster.config import ClusterConfig
from cluster.head import LocalHead
from mos.checkout import CLONE
from mos.ledger import StepRecord
from pipelines.dag import CURATION_CRON, build_definitions, defs
from pipelines.run.dagster_metadata import asset_metadata
from pipelines.run.steps import STEPS
from tests.pipelines.run.test_interpreter import bare_path

STEPS_OF_THE_DEMO = [name for name in STEPS if name != "codec"]


def keys(definitions: dg.Definitions) -> list[str]:
    graph = definitions.resolve_asset_graph()
    return [key.to_user_string() for level in graph.toposorted_asset_keys_by_level for key in level]


def test_assets_follow_the_steps_of_the_config(clone: Path):
    assert keys(defs) == STEPS_OF_THE_DEMO
    photos = build_definitions(clone / "pipelines/configs/photos.toml")
    assert keys(photos) == ["curate", "encode", "stage1", "stage2", "edit", "sample", "evaluate"]


def test_lineage_runs_from_raw_data_to_the_report():
    graph = defs.resolve_asset_graph()
    parents = {
        name: {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys} for name in STEPS_OF_THE_DEMO
    }
    assert parents["shapes"] == set()
    assert parents["encode"] == {"curate"}
    assert parents["stage3"] == {"encode", "stage2"}
    assert parents["edit"] == {"encode", "stage4"}
    assert parents["evaluate"] >= {"curate", "edit", "sample"}


def test_curation_is_scheduled_and_every_step_retried():
    schedule = defs.resolve_schedule_def("nightly_curation")
    assert schedule.cron_schedule == CURATION_CRON
    selected = defs.resolve_job_def(schedule.job_name).asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == {"shapes", "curate", "encode"}
    codec = build_definitions(CLONE / "pipelines/configs/codec.toml")
    job = codec.resolve_job_def(codec.resolve_schedule_def("nightly_curation").job_name)
    assert {key.to_user_string() for key in job.asset_layer.selected_asset_keys} == {"shapes", "curate"}
    for node in defs.resolve_implicit_global_asset_job_def().all_node_defs:
        assert node.retry_policy.max_retries > 0


def test_metadata_shows_numbers_and_pictures(tmp_path: Path):
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"\x89PNG")
    outputs = {"kept": 7, "loss": 0.5, "samples": {"uri": str(tmp_path)}, "grid": str(picture), "none": None}
    entries = asset_metadata(StepRecord("curate", "f", outputs, seconds=1.0, finished_at=0.0))
    assert entries["kept"] == dg.MetadataValue.int(7)
    assert entries["samples/uri"] == dg.MetadataValue.path(str(tmp_path))
    assert entries["grid"].value.startswith("![grid.png](data:image/png;base64,")
    assert entries.keys() == {"seconds", "kept", "loss", "samples/uri", "grid"}


def materialize(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Materialize shapes and curate, as the DAG's own entry does with all steps."""
    code = (
        "import sys; from pathlib import Path; import dagster as dg\n"
        "from mos.errors import UserError; from pipelines.dag import *\n"
        "definitions = build_definitions(DEFAULT_CONFIG, tuple(sys.argv[1:]))\n"
        "assets = [asset for asset in definitions.assets if asset.key.to_user_string() in ('shapes', 'curate')]\n"
        "try:\n    run_job_quietly(dg.Definitions(assets=assets, resources=definitions.resources,"
        " executor=definitions.executor))\n"
        "except UserError as error:\n    sys.exit(f'error: {error}')"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=clone, env=os.environ | environment, capture_output=True, text=True, timeout=280, check=False
    )


SMALL = ("shapes.num_scenes=12", "shapes.num_edits=2", "shapes.broken_share=0.0", "cluster.num_cpus=2")


@pytest.mark.slow
def test_steps_run_as_jobs_and_are_skipped_once_finished(clone: Path, tmp_path: Path):
    first = materialize(clone, f"root={tmp_path}", *SMALL)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "=== shapes ===" in first.stdout
    assert "14 read" in first.stdout
    assert "dagster" not in first.stdout + first.stderr
    again = materialize(clone, f"root={tmp_path}", *SMALL)
    assert again.stdout.count("already finished") == 2
    assert "rows/s" not in again.stdout


@pytest.mark.slow
def test_a_failed_step_ends_the_run_with_its_sentence(clone: Path, tmp_path: Path):
    result = materialize(clone, f"root={tmp_path}", *SMALL, 'curate.sources=[{name="n",type="folder",path="/nowhere"}]')
    assert result.returncode == 1
    assert result.stderr.startswith("error: curate: source 'n': ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_ends_the_run_its_job_and_its_head(clone: Path, tmp_path: Path):
    command = [sys.executable, str(clone / "pipelines/dag.py"), f"root={tmp_path}", "shapes.num_scenes=20000"]
    # A test run in the background ignores SIGINT, and its children would inherit that.
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **default)
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("shapes: drawing"):
            break
    children = subprocess.run(["ps", "--ppid", str(run.pid), "-o", "pid="], capture_output=True, text=True, check=True)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=60)
    assert (run.returncode, stderr) == (130, "interrupted\n")
    assert "=== curate" not in stdout
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.stdout.split())
    assert not list((tmp_path / "steps").rglob("*.json"))


@pytest.mark.slow
def test_the_three_ways_to_run_share_their_results(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plain script's work is found by jobs from an unpacked, uninstalled checkout, and by the DAG.

    Ray stands on no PATH, so a job that names no Python starts with one that lacks the project's packages.
    """
    arguments = [f"root={tmp_path}", *SMALL]
    plain = [sys.executable, str(clone / "pipelines/shapes.py"), *arguments]
    subprocess.run(plain, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    monkeypatch.setenv("PATH", bare_path())
    head = LocalHead(ClusterConfig(num_cpus=2, object_store_mb=100))
    try:
        client = head.connect()
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(clone), "--"]
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.headers["Authorization"].removeprefix("Bearer ")}
        environment = {**os.environ, **token, "RAY_API_SERVER_ADDRESS": client.get_address()}
        environment.pop("PYTHONPATH")
        job, again = (
            subprocess.run(
                [*command, *script, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            for script in (["pipelines/curate.py"], ["python3", "pipelines/curate.py"])
        )
    finally:
        head.stop()
    assert job.returncode == 0, job.stdout + job.stderr
    assert "14 read" in job.stdout
    assert "curate: already finished" in again.stdout
    dag = materialize(clone, *arguments)
    assert dag.stdout.count("already finished") == 2
