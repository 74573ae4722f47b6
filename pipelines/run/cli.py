"""The command line that every script shares: `[config.toml] [key=value ...]`, one-sentence errors, exit codes."""

import argparse
import gc
import json
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mos.checkout import CLONE
from mos.errors import UserError
from pipelines.run.help import describe_section, sections
from pipelines.run.interpreter import use_project_python

if TYPE_CHECKING:
    from pipelines.run.steps import Run

DEFAULT_CONFIG = CLONE / "pipelines" / "configs" / "demo.toml"
"""What a script runs when no config is named."""

OVERRIDE = re.compile(r"[\w.-]+=")
"""How a `key=value` begins."""

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""What a script allocates before Python looks for garbage; its default of 700 walks the million objects that imports
leave behind some thousand times, an eighth of the time until a picture is drawn."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

Main = Callable[["Run", argparse.Namespace], None]


class Command:
    """A script's command line.

    Each script makes one before it imports what its work needs, which takes seconds: `--help` and mistakes in the
    arguments are answered at once.
    """

    def __init__(
        self,
        module: str,
        doc: str | None,
        section: str | None = None,
        flags: Mapping[str, str] | None = None,
        words: str | None = None,
    ) -> None:
        """Parse the command line, if the module is the script that runs.

        Args:
            module: the script's `__name__`.
            doc: the script's docstring.
            section: where an override belongs whose first key is no section of the run: `stage1.py steps=10` means
                `stage1.steps=10`.
            flags: switches besides `--force`; `{"--dry-run": "help text"}` gives `args.dry_run`.
            words: the setting that an argument which is neither config nor override stands for.
        """
        self._section = section
        if module == "__main__":
            use_project_python(CLONE)
            gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 10, 10)
            settings = describe_section(section) if section else None
            self._args = parse(doc, flags or {}, sys.argv[1:], settings, words)

    def run(self, main: Main) -> None:
        """Load the config, call `main(run, args)` and exit with its status.

        `UserError` ends in one sentence on stderr and status 2.
        """
        # Ray starts its processes by fork and exec, which is safe; nothing here forks without exec.
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        try:
            from pipelines.run.config import load_run
            from pipelines.run.steps import Run

            args = self._args
            main(Run(load_run(args.config, qualify(args.overrides, self._section), base_folder(CLONE))), args)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.exit(EXIT_INTERRUPTED)


def parse(
    doc: str | None,
    flags: Mapping[str, str],
    argv: Sequence[str],
    settings: str | None = None,
    words: str | None = None,
) -> argparse.Namespace:
    """Namespace with `config` (Path), `named` (bool), `overrides` (tuple of `key=value`), `force` and the flags.

    `named` says whether the config was. `settings` follows the arguments in the help text; see `Command` for `words`.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, epilog=settings, formatter_class=formatter)
    metavar = "[config.toml] [key=value ...]" + ("" if words is None else f" [{words}]")
    parser.add_argument("arguments", nargs="*", metavar=metavar,
                        help="a config (default: the demo) and overrides such as root=/data/run seed=1")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="run again although a finished run is on record")
    for flag, text in flags.items():
        parser.add_argument(flag, action="store_true", help=text)
    args = parser.parse_intermixed_args(argv)
    overrides = [text for text in args.arguments if OVERRIDE.match(text)]
    others = [text for text in args.arguments if not OVERRIDE.match(text)]
    paths = [text for text in others if words is None or text.endswith(".toml")]
    spoken = [text for text in others if text not in paths]
    if len(paths) > 1 or len(spoken) > 1:
        parser.error(f"expected one {words if spoken else 'config'}, got {spoken or paths}: put it into quotes")
    args.named = bool(paths)
    args.config = Path(paths[0]) if paths else DEFAULT_CONFIG
    args.overrides = (*overrides, *(f"{words}={quoted(text)}" for text in spoken))
    return args


def quoted(text: str) -> str:
    """A text as a TOML string: one that reads like a number stays a text, and quotes in it stay too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def qualify(overrides: Sequence[str], section: str | None) -> tuple[str, ...]:
    """Put `section.` before the overrides that name no section of the run."""
    if section is None:
        return tuple(overrides)
    known = sections()
    return tuple(text if text.partition("=")[0].split(".")[0] in known else f"{section}.{text}" for text in overrides)


def base_folder(checkout: Path) -> Path:
    """Folder of a relative `root`: the checkout, or `~/.mos` where the checkout is a job's temporary copy."""
    if "runtime_resources" not in checkout.parts:
        return checkout
    home = Path.home() / ".mos"
    print(f"this checkout is temporary: a relative root stands in {home} on each node", flush=True)
    return home
