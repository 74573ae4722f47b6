"""The command line that every script shares: `[config.toml] [key=value ...]`, one-sentence errors, exit codes."""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.session import CLONE
from mos.errors import UserError
from pipelines.run_config import RunConfig, load_run
from pipelines.settings import describe_section

DEFAULT_CONFIG = CLONE / "pipelines" / "configs" / "demo.toml"
"""What a script runs when no config is named."""

OVERRIDE = re.compile(r"[\w.-]+=")
"""How a `key=value` begins."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

Main = Callable[[RunConfig, argparse.Namespace], None]


def entry(
    main: Main,
    doc: str | None,
    section: str | None = None,
    flags: Mapping[str, str] | None = None,
    words: str | None = None,
) -> None:
    """Parse the command line, load the config, run `main(config, args)` and exit with its status.

    `args.force` is always there; `flags` adds switches (`{"--dry-run": "help text"}` gives `args.dry_run`). An
    override whose first key is no section of the run belongs to `section`: `stage1.py steps=10` means
    `stage1.steps=10`. `words` is the setting that an argument which is neither config nor override stands for.
    `UserError` ends in one sentence on stderr and status 2.
    """
    # Ray starts its processes by fork and exec, which is safe; nothing here forks without exec.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    settings = describe_section(section) if section else None
    args = parse(doc, flags or {}, sys.argv[1:], settings, words)
    try:
        config = load_run(args.config, qualify(args.overrides, section), base_folder(CLONE))
        main(config, args)
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

    `named` says whether the config was. `settings` follows the arguments in the help text; see `entry` for `words`.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, epilog=settings, formatter_class=formatter)
    metavar = "[config.toml] [key=value ...]" + ("" if words is None else f" [{words}]")
    parser.add_argument("arguments", nargs="*", metavar=metavar,
                        help="a config (default: the demo) and overrides such as root=/data/run seed=1")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="run again although a finished run is on record")
    for flag, text in flags.items():
        parser.add_argument(flag, action="store_true", help=text)
    args = parser.parse_args(argv)
    overrides = [text for text in args.arguments if OVERRIDE.match(text)]
    others = [text for text in args.arguments if not OVERRIDE.match(text)]
    paths = [text for text in others if words is None or text.endswith(".toml")]
    spoken = [text for text in others if text not in paths]
    if len(paths) > 1 or len(spoken) > 1:
        parser.error(f"expected one {words if spoken else 'config'}, got {spoken or paths}: put it into quotes")
    args.named = bool(paths)
    args.config = Path(paths[0]) if paths else DEFAULT_CONFIG
    args.overrides = (*overrides, *(f"{words}={text}" for text in spoken))
    return args


def qualify(overrides: Sequence[str], section: str | None) -> tuple[str, ...]:
    """Put `section.` before the overrides that name no section of the run."""
    if section is None:
        return tuple(overrides)
    return tuple(
        text if text.partition("=")[0].split(".")[0] in RunConfig.model_fields else f"{section}.{text}"
        for text in overrides
    )


def base_folder(checkout: Path) -> Path:
    """Where a relative `root` stands: in the checkout, or in `~/.mos` where the checkout is a job's temporary copy."""
    if "runtime_resources" not in checkout.parts:
        return checkout
    home = Path.home() / ".mos"
    print(f"this checkout is temporary: a relative root stands in {home} on each node", flush=True)
    return home
