import re
from dataclasses import replace

import numpy as np
import pytest

from mos.shapes.edits import SIDES, Edit, EditKind, check_edit, evaluation_edits, training_edit
from mos.shapes.layout import MARGIN, is_held_out
from mos.shapes.render import render
from mos.shapes.scene import Colour, Shape

EDITS = evaluation_edits(100, seed=0)
SHAPES, COLOURS, PLACES = "|".join(Shape), "|".join(Colour), "|".join(SIDES)
INSTRUCTIONS = {
    EditKind.RECOLOUR: f"make the ({SHAPES}) ({COLOURS})",
    EditKind.MOVE: f"move the ({SHAPES}) to the ({PLACES})",
    EditKind.ADD: f"add an? ({COLOURS}) ({SHAPES}) (on|at) the ({PLACES})",
    EditKind.REMOVE: f"remove the ({SHAPES})",
}


def test_edits_depend_on_seed_and_index_alone() -> None:
    assert training_edit(1, 5) == training_edit(1, 5)
    assert training_edit(1, 5) != training_edit(2, 5)
    edits = [training_edit(0, index) for index in range(600)]
    assert not any(is_held_out(edit.source) or is_held_out(edit.target) for edit in edits)
    assert evaluation_edits(8, 3) == evaluation_edits(20, 3)[:8]
    assert {edit.kind for edit in evaluation_edits(4, 0)} == set(EditKind)


@pytest.mark.parametrize("edit", EDITS[:40], ids=lambda edit: edit.instruction)
def test_an_instruction_names_one_thing_and_changes_it(edit: Edit) -> None:
    assert re.fullmatch(INSTRUCTIONS[edit.kind], edit.instruction)
    before, after = set(edit.source.objects), set(edit.target.objects)
    gone, new = before - after, after - before
    assert (len(gone), len(new)) == {
        EditKind.RECOLOUR: (1, 1),
        EditKind.MOVE: (1, 1),
        EditKind.ADD: (0, 1),
        EditKind.REMOVE: (1, 0),
    }[edit.kind]
    assert len({item.shape for item in edit.source.objects}) == len(edit.source.objects)
    assert edit.source.background == edit.target.background


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (40, 24)])
def test_targets_pass_and_untouched_sources_do_not(size: tuple[int, int]) -> None:
    for edit in EDITS:
        assert check_edit(render(edit.target, *size), edit).correct
        untouched = check_edit(render(edit.source, *size), edit)
        assert untouched.preserved
        assert not untouched.applied


def test_objects_keep_clear_of_the_border() -> None:
    for edit in EDITS:
        for item in (*edit.source.objects, *edit.target.objects):
            assert item.size / 2 + MARGIN - 0.015 <= min(item.x, item.y, 1 - item.x, 1 - item.y)


def test_an_edit_that_loses_the_rest_is_not_preserved() -> None:
    for edit in EDITS:
        if edit.kind is EditKind.ADD:
            added = edit.target.objects[-1:]
            alone = render(replace(edit.target, objects=added), 32, 32)
            assert not check_edit(alone, edit).preserved


def test_an_empty_picture_is_no_edit() -> None:
    blank = np.full((32, 32, 3), 250, dtype=np.uint8)
    assert not any(check_edit(blank, edit).correct for edit in EDITS)
