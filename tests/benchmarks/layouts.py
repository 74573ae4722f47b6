"""Whether each benchmark's own code reads what is laid out for it, and we read what it writes.

`accepted(upstream)` takes a folder of checkouts, each named as its repository: geneval, ELLA, WISE, OneIG-Benchmark,
ImgEdit, Step1X-Edit, clean-fid. Every prompt of theirs is laid out, with small pictures in place of drawn ones, and the
reading code of the checkout runs over it, as it is; what would judge a picture opens it and answers by its bytes.
A layout is accepted if every file was opened, and the official score is the one that we read back. Prompts that no
checkout has stand in, in their form: the data sets GEdit-Bench and MJHQ-30K, and the questions of DPG-Bench where a
checkout has them empty.
"""

import ast
import csv
import glob
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.choose import benchmark_named
from mos.benchmarks.config import BenchmarkName, JudgeConfig
from mos.benchmarks.gedit import TASKS
from mos.benchmarks.item import Item
from mos.benchmarks.score import Scores
from operators.write_grids import write_grids
from pipelines.draw.files import write_texts

SIDE = 8
MODEL = "ours"
ONEIG_COLUMNS = {
    "alignment": "alignment",
    "text": "text score",
    "reasoning": "reasoning",
    "style": "style",
    "diversity": "total average",
}
"""Dimension -> the column of its table that has the score."""
CHECKOUTS: Mapping[BenchmarkName, str] = {
    "geneval": "geneval", "dpg": "ELLA", "wise": "WISE", "oneig": "OneIG-Benchmark", "imgedit": "ImgEdit",
    "gedit": "Step1X-Edit", "mjhq": "clean-fid",
}  # fmt: skip


@dataclass
class Judge:
    """Opens the pictures that a reader hands it, and answers by their bytes."""

    opened: set[str] = field(default_factory=set)

    def figure(self, *paths: str) -> float:
        """In [0, 1), of files."""
        data = b""
        for path in paths:
            with Image.open(path) as image:
                data += image.convert("RGB").tobytes()
            self.opened.add(os.path.realpath(path))
        return sha256(data).digest()[0] / 256


def accepted(upstream: Path) -> dict[str, bool | None]:
    """Whether each layout is; None where there is no checkout."""
    found: dict[str, bool | None] = {}
    for name, checkout in CHECKOUTS.items():
        if not (upstream / checkout).is_dir():
            found[name] = None
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = CHECKS[name](upstream / checkout, Path(folder))
            except Exception as error:  # whatever their code raises, it does not read what is laid out
                print(f"{name}: {type(error).__name__}: {error}")
                found[name] = False
    return found


@dataclass(frozen=True)
class Laid:
    benchmark: Benchmark
    place: Place
    items: Sequence[Item]

    def files(self, *, grids: bool = False) -> set[str]:
        """The pictures, or grids, that a scorer is to open."""
        paths = [item.grid.path for item in self.items if item.grid] if grids else [
            path for item in self.items for path in item.pictures
        ]  # fmt: skip
        return {os.path.realpath(self.place.folder / path) for path in paths}

    def scores(self) -> Scores:
        scores = self.benchmark.scores(self.place)
        assert scores is not None
        return scores

    def overall(self) -> float:
        return self.scores().overall.value


def laid_out(name: BenchmarkName, folder: Path, prompts: Path, pictures: Path | None = None) -> Laid:
    """Every item of a benchmark in its layout, with pictures of noise."""
    benchmark = benchmark_named(name)
    num = benchmark.images_per_prompt
    place = Place(folder / "out", MODEL, prompts, pictures, num, SIDE, "en", JudgeConfig())
    items = benchmark.items(place)
    benchmark.prepare(place, items)
    write_texts(items, place.folder)
    generator = np.random.default_rng(0)
    for item in items:
        for path in item.pictures:
            save_noise(place.folder / path, generator)
    grids = [item for item in items if item.grid is not None]
    for start in range(0, len(grids), 64):
        rows = [
            {
                "path": str(place.folder / item.grid.path),
                "pictures": [str(place.folder / path) for path in item.pictures],
                "columns": item.grid.columns,
            }
            for item in grids[start : start + 64]
            if item.grid is not None
        ]
        write_grids(pa.Table.from_pylist(rows))
    place.results.mkdir()
    return Laid(benchmark, place, items)


def save_noise(path: Path, generator: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(1, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)


def geneval(checkout: Path, folder: Path) -> bool:
    laid, judge = laid_out("geneval", folder, checkout / "prompts/evaluation_metadata.jsonl"), Judge()

    def judged(path: str, metadata: dict[str, Any]) -> dict[str, Any]:
        told = {"filename": path, "tag": metadata["tag"], "prompt": metadata["prompt"], "reason": "", "details": "{}"}
        return told | {"correct": judge.figure(path) < 0.6, "metadata": json.dumps(metadata)}

    reader = names_of(checkout / "evaluation/evaluate_images.py", evaluate_image=judged)
    results = laid.place.results / "results.jsonl"
    reader["main"](SimpleNamespace(imagedir=str(laid.place.images), outfile=str(results)))
    summary = run_script(checkout / "evaluation/summary_scores.py", [str(results)])
    official = float(summary.rpartition(":")[2])
    return judge.opened == laid.files() and abs(official - laid.overall()) < 1e-5


def dpg(checkout: Path, folder: Path) -> bool:
    prompts = folder / "dpg_bench" / "prompts"
    prompts.parent.mkdir()
    prompts.symlink_to(checkout / "dpg_bench/prompts")
    table = checkout / "dpg_bench/dpg_bench.csv"
    questions = prompts.parent / "dpg_bench.csv"
    if table.is_file() and table.stat().st_size:
        questions.symlink_to(table)
    else:
        write_questions(questions, sorted(prompts.glob("*.txt")))
    laid, judge = laid_out("dpg", folder, prompts), Judge()

    class Answering:
        def __init__(self, device: str) -> None:
            self.device = device

        def vqa(self, image: Image.Image, question: str) -> str:
            assert image.size == (SIDE, SIDE)
            assert np.asarray(image).min() > 0  # a crop beyond the grid is black
            return "yes" if sha256(image.tobytes() + question.encode()).digest()[0] < 200 else "no"

    class Alone:
        is_main_process, device, num_processes, process_index = True, "cpu", 1, 0

        def prepare(self, model: object) -> object:
            return model

        def wait_for_everyone(self) -> None:
            return

    reader = names_of(
        checkout / "dpg_bench/compute_dpg_bench.py", MPLUG=Answering, Accelerator=Alone, gather_object=list,
        time=SimpleNamespace(time=lambda: 0, sleep=lambda s: None, localtime=lambda s: None, strftime=lambda *a: ""),
        Image=SimpleNamespace(open=lambda path: (judge.figure(path), Image.open(path))[1]),
    )  # fmt: skip
    said = run_main(reader["main"], shell_words(laid.benchmark.commands(laid.place)[0], "compute_dpg_bench.py"))
    official = float(said.rpartition("DPG-Bench score:")[2].split()[0])
    categories = {name.strip(): float(value) for name, value in _pairs(said, "L1 category scores:", "L2")}
    ours = laid.scores()
    alike = all(abs(value - ours.categories[name].value) < 1e-6 for name, value in categories.items())
    intervals = all(score.margin is not None for score in ours.categories.values())
    return judge.opened == laid.files(grids=True) and abs(official - ours.overall.value) < 1e-6 and alike and intervals


def wise(checkout: Path, folder: Path) -> bool:
    return all(
        _wise(checkout, folder / name, checkout / data, checkout / script, checkout / sums)
        for name, data, script, sums in (
            ("first", "WISE_legacy/data", "WISE_legacy/gpt_eval.py", "WISE_legacy/Calculate.py"),
            ("verified", "data_verified", "vllm_eval.py", "calculate_verified.py"),
        )
    )


def _wise(checkout: Path, folder: Path, prompts: Path, script: Path, sums: Path) -> bool:
    laid, judge = laid_out("wise", folder, prompts), Judge()

    def judged(number: int, prompt: dict[str, Any], path: str, config: dict[str, Any]) -> dict[str, Any]:
        figure = judge.figure(path)
        three = dict.fromkeys(("consistency", "realism", "aesthetic_quality"), round(2 * figure))
        told = {"prompt_id": number, "Subcategory": prompt["Subcategory"], "score": round(figure)} | three
        return {"status": "ok", "full": {"prompt_id": number}, "score": told if "vllm" in script.name else {
            key: value for key, value in told.items() if key != "score"
        }}  # fmt: skip

    reader = names_of(script, evaluate_image=judged, openai=SimpleNamespace())
    for command in laid.benchmark.commands(laid.place):
        run_main(reader["main"], shell_words(command, script.name))
    assert not laid.benchmark.commands(laid.place)
    results = sorted(str(path) for path in laid.place.results.glob("*_scores_results.jsonl"))
    said = run_script(sums, [*results, "--category", "all"])
    return judge.opened == laid.files() and f"Overall WiScore: {laid.overall():.2f}" in said


def oneig(checkout: Path, folder: Path) -> bool:
    (folder / "scripts").symlink_to(checkout / "scripts")
    laid, judge = laid_out("oneig", folder, checkout / "OneIG-Bench.csv"), Judge()

    class Answering:
        def __init__(self, *args: object, **options: object) -> None:
            return

        def infer_semantic(self, paths: Sequence[str], question: str) -> list[str]:
            return ["Yes" if judge.figure(path) < 0.8 else "No" for path in paths]

        def infer_ocr(self, paths: Sequence[str], length: int) -> list[str]:
            return [f"word {judge.figure(path):.2f}" for path in paths]

        def text_img_similarity_score(self, paths: Sequence[str], answer: str) -> list[float]:
            return [judge.figure(path) for path in paths]

        def get_style_embedding(self, path: str) -> np.ndarray:
            return np.array([judge.figure(path)])

    class References(dict):
        def __missing__(self, style: str) -> np.ndarray:
            return np.array([[1.0]])

    opened: set[str] = set()

    def reading(path: str, mode: str) -> Any:
        opened.add(os.path.realpath(path))
        return open(path, mode)

    files = SimpleNamespace(smart_open=reading, smart_glob=glob.glob)
    cut = names_of(checkout / "scripts/utils/utils.py", megfile=files)
    words = names_of(checkout / "scripts/text/text_utils.py")
    model = Answering()
    models = ("Qwen2_5VLBatchInferencer", "LLM2CLIP", "CSDStyleEmbedding", "SEStyleEmbedding")
    judges: dict[str, Any] = dict.fromkeys(models, Answering)
    given = {name: cut[name] for name in ("parse_args", "split_mxn_grid", "save2csv", "on_rm_error")} | judges | {
        "megfile": files, "inferencer": model, "formatted_time": "2026-01-01_00-00-00",
        "torch": SimpleNamespace(load=lambda path, **options: References(), max=lambda array: array.max()),
        "img_similar_score": lambda one, other: judge.figure(one, other), "tqdm": lambda items, **options: items,
    }  # fmt: skip
    given |= {name: value for name, value in words.items() if callable(value)}
    *commands, fetched = laid.benchmark.commands(laid.place)
    with chdir(folder):
        for command in commands:
            module = command.split()[2]
            reader = names_of(Path(*module.split(".")).with_suffix(".py"), **given)
            run_main(reader["main"], command.split()[3:])
        subprocess.run(fetched, shell=True, check=True)
    official = {path.name.split("_")[0]: path for path in laid.place.results.glob("*[a-z]_score_EN*.csv")
                if "prompt" not in path.name and "style_style" not in path.name}  # fmt: skip
    values = {name: float(next(csv.DictReader(path.open()))[ONEIG_COLUMNS[name]]) for name, path in official.items()}
    ours = laid.scores()
    alike = all(abs(values[name] - ours.categories[name].value) < 1e-6 for name in ours.categories)
    return opened == laid.files(grids=True) and alike and len(values) == 5


def imgedit(checkout: Path, folder: Path) -> bool:
    basic = checkout / "Benchmark/Basic"
    generator = np.random.default_rng(1)
    for edit in json.loads((basic / "basic_edit.json").read_text()).values():
        if not (folder / "pictures" / edit["id"]).is_file():
            save_noise(folder / "pictures" / edit["id"], generator)
    laid, judge = laid_out("imgedit", folder, basic / "basic_edit.json", folder / "pictures"), Judge()

    def judged(original: str, result: str, prompt: str, kind: str, prompts: dict[str, str]) -> Any:
        assert kind in prompts
        mark = 1 + int(4 * judge.figure(original, result))
        told = f"Brief reasoning: none.\nPrompt Compliance: {mark}\nVisual Seamlessness: 3"
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=told))])

    reader = names_of(basic / "basic_bench.py", call_gpt=judged, tqdm=lambda items, **options: items)
    judging, averaging = laid.benchmark.commands(laid.place)
    with chdir(checkout):
        run_main(reader["main"], shell_words(judging.partition("    #")[0], "basic_bench.py"))
    run_script(basic / "step1_get_avgscore.py", shell_words(averaging, "step1_get_avgscore.py"))
    types = folder / "types.json"
    averages = laid.place.results / "average_score.json"
    run_script(
        basic / "step2_typescore.py",
        ["--average_score_json", str(averages), "--basic_edit", str(basic / "basic_edit.json"),
         "--typescore_json", str(types)],
    )  # fmt: skip
    official, ours = json.loads(types.read_text()), laid.scores()
    alike = all(abs(value - ours.categories[name].value) <= 0.005001 for name, value in official.items())
    return judge.opened >= laid.files() and alike and official.keys() == ours.categories.keys()


def gedit(checkout: Path, folder: Path) -> bool:
    rows = write_gedit(folder / "dataset")
    laid, judge = laid_out("gedit", folder, folder / "dataset"), Judge()

    class VIEScore:
        def __init__(self, **options: object) -> None:
            return

        def evaluate(self, pictures: Sequence[Image.Image], instruction: str) -> list[float]:
            one, other = (sha256(picture.convert("RGB").tobytes()).digest()[0] / 25.6 for picture in pictures)
            return [one, other, (one * other) ** 0.5]

    def opening(path: str, mode: str = "r", **options: object) -> Any:
        if mode == "w":
            os.makedirs(os.path.dirname(path), exist_ok=True)
        elif path.endswith(".png"):
            judge.figure(path)
        return open(path, mode, **options)  # type: ignore[call-overload]

    stubs = {
        "viescore": {"VIEScore": VIEScore}, "megfile": {"smart_open": opening, "smart_exists": os.path.exists},
        "datasets": {"load_dataset": lambda name: rows, "load_from_disk": None},
    }  # fmt: skip
    command = laid.benchmark.commands(laid.place)[0].partition("    #")[0]
    with modules(stubs):
        run_script(checkout / "GEdit-Bench/test_gedit_score.py", shell_words(command, "test_gedit_score.py"))
        told = ["--model_name", MODEL, "--save_path", str(laid.place.images)]
        said = run_script(checkout / "GEdit-Bench/calculate_statistics.py", told)
    averages = next(line for line in said.splitlines() if line.startswith("Average:"))
    official = [float(value) for value in averages.partition(":")[2].split(",")]
    scores = laid.scores()
    ours = [scores.categories["semantics"].value, scores.categories["quality"].value, scores.overall.value]
    return judge.opened >= laid.files() and bool(np.allclose(official, ours, atol=5.001e-4))


def mjhq(checkout: Path, folder: Path) -> bool:
    generator = np.random.default_rng(2)
    prompts = {}
    for number, category in enumerate(("animals", "art", "logo")):
        for picture in range(6):
            name = sha256(f"{number} {picture}".encode()).hexdigest()[:40]
            prompts[name] = {"category": category, "prompt": f"{category} {picture}"}
            save_noise(folder / "real" / category / f"{name}.jpg", generator)
    (folder / "meta_data.json").write_text(json.dumps(prompts))
    laid, judge = laid_out("mjhq", folder, folder / "meta_data.json", folder / "real"), Judge()

    def features(files: Sequence[str], model: object, **options: object) -> np.ndarray:
        return np.array([[judge.figure(path), judge.figure(path, path)] for path in files])

    constants = names_of(checkout / "cleanfid/utils.py")
    fid = names_of(checkout / "cleanfid/fid.py", get_files_features=features, EXTENSIONS=constants["EXTENSIONS"],
                   linalg=SimpleNamespace(sqrtm=_root))  # fmt: skip
    together = SimpleNamespace(compute_fid=lambda one, other: fid["compare_folders"](one, other, None, "clean"))
    program, *told = shell_words(laid.benchmark.commands(laid.place)[0].partition("    #")[0], "-c")
    with modules({"cleanfid": {"fid": together}}):
        run_main(lambda: exec(program, {}), told)
    official, scores = together.compute_fid(str(folder / "real"), str(laid.place.images)), laid.scores()
    return judge.opened >= laid.files() and scores.overall.value == official and len(scores.categories) == 3


def _root(product: np.ndarray, disp: bool = True) -> Any:
    """The matrix root in the form that clean-fid asks of SciPy, which has lost `disp` since."""
    from scipy.linalg import sqrtm

    return sqrtm(product) if disp else (sqrtm(product), 0.0)


CHECKS: Mapping[BenchmarkName, Callable[[Path, Path], bool]] = {
    "geneval": geneval, "dpg": dpg, "wise": wise, "oneig": oneig, "imgedit": imgedit, "gedit": gedit, "mjhq": mjhq,
}  # fmt: skip


def names_of(path: Path, **given: Any) -> dict[str, Any]:
    """What a script defines, without what it does and what it imports that is not here; `given` replaces names."""
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)} | given
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Import() | ast.ImportFrom():
                heavy = {"torch", "mmdet", "open_clip", "torchvision", "dreamsim"}
                modules = {node.module} if isinstance(node, ast.ImportFrom) else {name.name for name in node.names}
                if {str(name).split(".")[0] for name in modules} & heavy:
                    names.setdefault("torch", sys.modules.get("torch"))
                    continue
            case ast.FunctionDef() | ast.ClassDef() | ast.Assign():
                pass
            case _:
                continue
        if isinstance(node, ast.Assign) and not _literal(node.value):
            continue
        try:
            exec(compile(ast.Module([node], []), str(path), "exec"), names)
        except (ImportError, NameError, AttributeError):
            continue  # of a judge, which is given
    names.update(given)  # the globals of its functions
    return names


def _literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def run_script(path: Path, arguments: Sequence[str]) -> str:
    """What a whole script prints."""
    return run_main(lambda: runpy.run_path(str(path), run_name="__main__"), arguments)


def run_main(main: Callable[[], object], arguments: Sequence[str]) -> str:
    """What a function prints that reads the command line."""
    before, said = sys.argv, io.StringIO()
    sys.argv = ["script", *arguments]
    try:
        with redirect_stdout(said), redirect_stderr(io.StringIO()):
            main()
    finally:
        sys.argv = before
    return said.getvalue()


def shell_words(command: str, after: str) -> list[str]:
    """Arguments of a command behind its script, as a shell takes them apart."""
    words = shlex.split(command)
    place = next(place for place, word in enumerate(words) if word.endswith(after))
    return words[place + 1 :]


@contextmanager
def modules(stubs: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Modules of judges that are not here."""
    made = {name: ModuleType(name) for name in stubs}
    for name, content in stubs.items():
        made[name].__dict__.update(content)
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pairs(said: str, begin: str, end: str) -> list[tuple[str, str]]:
    lines = said.partition(begin)[2].partition(end)[0].splitlines()
    return [(name, value) for name, sign, value in (line.partition(":") for line in lines) if sign]


def write_questions(path: Path, prompts: Sequence[Path]) -> None:
    """Questions in the form of `dpg_bench.csv`; its reader passes over the first row."""
    columns = ["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed",
               "tuple", "question_natural_language"]  # fmt: skip
    kinds = ("entity - whole", "attribute - color", "relation - spatial", "global - style", "other - count")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for prompt in (prompts[0], *prompts):
            for number, kind in enumerate(kinds, 1):
                told = {
                    "item_id": prompt.stem,
                    "proposition_id": number,
                    "dependency": ("0", "1", "1,2")[min(number, 3) - 1],
                }
                question = f"Is it there, and is it so ({number})?"
                writer.writerow(told | {"tuple": f"{kind} (thing, {number})", "question_natural_language": question})


def write_gedit(folder: Path, each: int = 3) -> list[dict[str, Any]]:
    """Rows in the form of the data set GEdit-Bench, in Arrow's stream format."""
    generator, rows = np.random.default_rng(3), []
    for task in TASKS:
        for language in ("en", "cn"):
            for number in range(each):
                told = {"task_type": task, "key": f"{number:04d}{language}", "instruction": f"{task} {number}"}
                pictures = {name: _encoded(generator) for name in ("input_image", "input_image_raw")}
                exists = {"instruction_language": language, "Intersection_exist": number > 0}
                rows.append(told | exists | pictures)
    folder.mkdir()
    table = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as to,
    ):
        to.write_table(table)
    return rows


def _encoded(generator: np.random.Generator) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(1, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(buffer, format="JPEG")
    return {"bytes": buffer.getvalue(), "path": "a.jpg"}
