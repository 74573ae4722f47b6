"""Which layers a router reads, from a finished run to a file of suggestions."""

import json
from argparse import Namespace

from pipelines.layers import main
from pipelines.run.steps import Run
from tests.pipelines.drawn_run import trained_run


def test_usage_of_a_finished_run(small_run, capsys):
    config = trained_run(small_run, "sample.num_images=2")
    main(Run(config), Namespace())
    tree = json.loads(config.folder("report", "layers.json").read_text(encoding="utf-8"))
    assert [round(sum(row), 5) for row in tree["by_step"]] == [1.0] * len(tree["timesteps"])
    assert tree["subsets"][0]["missed"] == 0
    assert config.folder("report", "layers.png").is_file()
    assert "encode.layers" in capsys.readouterr().out
