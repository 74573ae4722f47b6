"""The names of losses in filters."""

import pytest

from mos.losses.names import loss_column, stages_named, without_losses


def test_a_stage_is_found_by_the_name_of_its_column():
    assert stages_named(f"{loss_column('edit')} < 1 AND {loss_column('stage1')} IS NULL") == ("edit", "stage1")
    assert stages_named("sharpness > 1 AND caption = 'loss_stage1'") == ()


@pytest.mark.parametrize(
    ("sql", "rest"),
    [
        ("", ""),
        ("sharpness > 1 OR contrast > 2", "sharpness > 1 OR contrast > 2"),
        ("loss_stage1 < 0.8", ""),
        ("sharpness > 1 AND loss_stage1 < 0.8", "sharpness > 1"),
        ("loss_stage1 < 0.8 AND sharpness > 1 AND contrast > 2", "sharpness > 1 AND contrast > 2"),
        ("(loss_stage1 < 0.8 OR aesthetic > 5) AND contrast > 2", "contrast > 2"),
        ("sharpness > 1 OR loss_stage1 < 0.8", ""),
        ("loss_stage1 BETWEEN 0.2 AND 0.8 AND contrast > 2", ""),
    ],
)
def test_conditions_on_losses_are_left_out(sql: str, rest: str):
    assert without_losses(sql) == rest
