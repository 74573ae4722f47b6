"""Editing triples: a scene, an instruction and the scene it asks for; and the check of an edited picture."""

import random
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from jaxtyping import UInt8

from mos.shapes.captions import noun
from mos.shapes.detect import DetectedObject, detect
from mos.shapes.layout import FAR, MIDDLE, NEAR, Point, different_pair, is_held_out, small_object, stream
from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape

NEARBY = 0.15
"""Share of the side by which a centre may miss the place it should have."""


class EditKind(StrEnum):
    """Kinds of change that an instruction asks for."""

    RECOLOUR = "recolour"
    MOVE = "move"
    ADD = "add"
    REMOVE = "remove"


SIDES: dict[str, Point] = {
    "left": (NEAR, MIDDLE),
    "right": (FAR, MIDDLE),
    "top": (MIDDLE, NEAR),
    "bottom": (MIDDLE, FAR),
}
"""Where each side of a picture is."""
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Edit:
    """Source scene + instruction -> target scene. Objects that are not named stay as they are."""

    kind: EditKind
    instruction: str
    source: Scene
    target: Scene


@dataclass(frozen=True)
class EditResult:
    """Objects of an edited picture."""

    kind: EditKind
    applied: bool
    """The objects that the instruction changes look and stand as it asks, and none is left that should be gone."""
    preserved: bool
    """The objects that it does not name look and stand as before."""

    @property
    def correct(self) -> bool:
        """The edit happened and nothing else did."""
        return self.applied and self.preserved


def training_edit(seed: int, index: int) -> Edit:
    """Edit `index` of the training stream of a seed; neither of its scenes is held out."""
    rng = stream(seed, "edit/train", index)
    kind = rng.choice(list(EditKind))
    edit = sample_edit(kind, rng)
    while is_held_out(edit.source) or is_held_out(edit.target):
        edit = sample_edit(kind, rng)
    return edit


def evaluation_edits(num: int, seed: int) -> list[Edit]:
    """Held-out edits, the four kinds in turn, from a stream that training never draws from."""
    kinds = list(EditKind)
    return [sample_edit(kinds[index % len(kinds)], stream(seed, "edit/evaluate", index)) for index in range(num)]


def sample_edit(kind: EditKind, rng: random.Random) -> Edit:
    """A random edit of one kind."""
    background = rng.choice(list(Background))
    match kind:
        case EditKind.RECOLOUR:
            before, after, instruction = _recolour(rng)
        case EditKind.MOVE:
            before, after, instruction = _move(rng)
        case EditKind.ADD:
            before, after, instruction = _add(rng)
        case EditKind.REMOVE:
            before, after, instruction = _remove(rng)
    return Edit(kind, instruction, _scene(background, before), _scene(background, after))


def check_edit(image: UInt8[np.ndarray, "height width 3"], edit: Edit) -> EditResult:
    """Compare an edited picture with the target scene, object by object, each at its place.

    Args:
        image: RGB, 0..255, of any size: the result of the edit, not its source.
        edit: What was asked for.
    """
    seen = detect(image).objects
    kept = set(edit.source.objects) & set(edit.target.objects)
    changed = set(edit.target.objects) - kept
    return EditResult(
        kind=edit.kind,
        applied=all(_shown(item, seen) for item in changed) and len(seen) == len(edit.target.objects),
        preserved=all(_shown(item, seen) for item in kept),
    )


def _shown(item: SceneObject, seen: tuple[DetectedObject, ...]) -> bool:
    """True if an object of this shape and colour is seen near its place."""
    return any(
        (other.shape, other.colour) == (item.shape, item.colour)
        and max(abs(other.x - item.x), abs(other.y - item.y)) < NEARBY
        for other in seen
    )


def _scene(background: Background, objects: list[SceneObject]) -> Scene:
    return Scene(Category.SINGLE_OBJECT if len(objects) == 1 else Category.COLOR_ATTR, background, tuple(objects))


def _recolour(rng: random.Random) -> tuple[list[SceneObject], list[SceneObject], str]:
    if rng.random() < 0.5:
        before = [_alone(rng.choice([*SIDES.values(), (MIDDLE, MIDDLE)]), rng)]
    else:
        before = _two_sides(rng)[1]
    item, *others = before
    colour = rng.choice([other for other in Colour if other not in {thing.colour for thing in before}])
    return before, [replace(item, colour=colour), *others], f"make the {item.shape} {colour}"


def _move(rng: random.Random) -> tuple[list[SceneObject], list[SceneObject], str]:
    side = rng.choice(list(SIDES))
    item = _alone(SIDES[OPPOSITE[side]], rng)
    moved = replace(item, x=_mirrored(item.x, side, "left right"), y=_mirrored(item.y, side, "top bottom"))
    return [item], [moved], f"move the {item.shape} to the {side}"


def _mirrored(place: float, side: str, axis: str) -> float:
    return round(1 - place, 3) if side in axis.split() else place


def _add(rng: random.Random) -> tuple[list[SceneObject], list[SceneObject], str]:
    sides, (new, old) = _two_sides(rng)
    preposition = "on" if sides[0] in ("left", "right") else "at"
    return [old], [old, new], f"add {noun(new)} {preposition} the {sides[0]}"


def _remove(rng: random.Random) -> tuple[list[SceneObject], list[SceneObject], str]:
    _, (gone, stays) = _two_sides(rng)
    return [stays, gone], [stays], f"remove the {gone.shape}"


def _alone(place: Point, rng: random.Random) -> SceneObject:
    return small_object(rng.choice(list(Shape)), rng.choice(list(Colour)), place, rng)


def _two_sides(rng: random.Random) -> tuple[tuple[str, str], list[SceneObject]]:
    """Two different objects on opposite sides, and which sides."""
    side = rng.choice(list(SIDES))
    return (side, OPPOSITE[side]), different_pair([SIDES[side], SIDES[OPPOSITE[side]]], rng)
