from tests.benchmarks.use import held


def test_every_convention_that_can_be_tried_holds() -> None:
    found = held()
    assert {name for name, outcome in found.items() if outcome is False} == set()
    assert {name for name, outcome in found.items() if outcome is None} <= {
        "enable_model_cpu_offload",
        "from_pretrained, a hub id at a revision",
    }
