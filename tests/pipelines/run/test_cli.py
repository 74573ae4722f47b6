import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run.cli import DEFAULT_CONFIG, base_folder, parse, qualify
from pipelines.run.config import load_run
from pipelines.run.steps import STEPS


def test_arguments_are_one_config_and_overrides():
    args = parse(None, {"--dry-run": "count only"}, ["my.toml", "seed=1", "sample.prompt=a=b", "--dry-run"])
    assert (args.config, args.overrides) == (Path("my.toml"), ("seed=1", "sample.prompt=a=b"))
    assert (args.force, args.dry_run) == (False, True)
    assert parse(None, {}, ["seed=1"]).config == DEFAULT_CONFIG
    assert args.named
    assert not parse(None, {}, ["seed=1"]).named


def test_flags_may_stand_anywhere():
    for argv in (["--force", "a.toml", "seed=1"], ["a.toml", "--force", "seed=1"], ["a.toml", "seed=1", "--force"]):
        args = parse(None, {}, argv)
        assert (args.config, args.overrides, args.force) == (Path("a.toml"), ("seed=1",), True)


def test_two_configs_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parse(None, {}, ["a.toml", "b.toml"])
    assert "expected one config" in capsys.readouterr().err


def test_words_stand_for_a_setting(capsys: pytest.CaptureFixture[str]):
    args = parse(None, {}, ["a red circle, r = 3", "seed=1"], words="prompt")
    assert (args.config, args.overrides) == (DEFAULT_CONFIG, ("seed=1", 'prompt="a red circle, r = 3"'))
    args = parse(None, {}, ["my.toml", "a star"], words="prompt")
    assert (args.config, args.overrides, args.named) == (Path("my.toml"), ('prompt="a star"',), True)
    with pytest.raises(SystemExit, match="2"):
        parse(None, {}, ["a", "red", "circle"], words="prompt")
    assert "put it into quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "prompt", ["1984", "true", "'quoted'", 'say "hi" \\', "two\nlines = 3", "[a]", "über \x7f\t😀", ""]
)
def test_words_are_taken_as_they_are(prompt: str, clone: Path, tmp_path: Path):
    args = parse(None, {}, [prompt], words="prompt")
    overrides = (*qualify(args.overrides, "sample"), f"root={tmp_path}")
    assert load_run(DEFAULT_CONFIG, overrides).sample.prompt == prompt


def test_short_overrides_belong_to_the_scripts_section():
    given = ["steps=3", "optimizer.lr=1", "stage2.steps=4", "seed=1", "root=/r"]
    expected = ("stage1.steps=3", "stage1.optimizer.lr=1", "stage2.steps=4", "seed=1", "root=/r")
    assert qualify(given, "stage1") == expected
    assert qualify(given, None) == tuple(given)


def test_a_relative_root_leaves_a_temporary_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    unpacked = Path("/tmp/ray/session_x/runtime_resources/working_dir_files/_ray_pkg_1")
    assert base_folder(unpacked) == tmp_path / ".mos"
    assert base_folder(Path("/home/me/mos")) == Path("/home/me/mos")


def run_here(script: Path, *arguments: str) -> int:
    """Exit status of a script, run as `__main__` in this process: its imports are paid for once."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as status:
        return int(status.code or 0)
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def test_help_and_mistakes_in_the_arguments_need_no_imports(clone: Path):
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], *sys.argv[2:]]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as status:\n    print(status.code, {'torch', 'ray', 'lance', 'numpy'} & set(sys.modules))"
    )
    for arguments, status in (["--help"], 0), (["a.toml", "b.toml"], 2), (["--nonsense"], 2):
        command = [sys.executable, "-c", code, str(clone / "pipelines/curate.py"), *arguments]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert shown.stdout.endswith(f"{status} set()\n")


@pytest.mark.parametrize("name", [*STEPS, "dag", "plan", "layers"])
def test_every_script_explains_itself(name: str, clone: Path, capsys: pytest.CaptureFixture[str]):
    assert run_here(clone / f"pipelines/{name}.py", "--help") == 0
    shown = capsys.readouterr()
    assert "[config.toml] [key=value ...]" in shown.out
    assert "Reads" in shown.out
    assert "Writes" in shown.out or "writes" in shown.out
    assert f"python pipelines/{name}.py" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("shapes", ["nowhere.toml"], "error: config nowhere.toml does not exist"),
        ("curate", ["tokenpx=4"], "unknown key 'curate.tokenpx'"),
        ("encode", [], "error: step 'shapes' is not finished"),
        ("stage2", [], "error: step 'shapes' is not finished"),
        ("dag", ["root=s3://bucket"], "error: root = 's3://bucket' is not a folder"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_status_2(
    script: str, arguments: list[str], sentence: str, clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if not any(argument.startswith("root=") or argument.endswith(".toml") for argument in arguments):
        arguments = [*arguments, f"root={tmp_path / 'run'}"]
    assert run_here(clone / f"pipelines/{script}.py", *arguments) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_script_runs_from_a_foreign_folder_without_an_installation(clone: Path, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(clone / "pipelines/shapes.py"), "num_scenes=2", "num_edits=1", f"root={tmp_path}"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "steps/shapes").glob("*.json"))
