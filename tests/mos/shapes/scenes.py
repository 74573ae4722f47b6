"""Scenes read back from the sidecars that describe them."""

from typing import Any

from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape


def scene_from_dict(data: dict[str, Any]) -> Scene:
    """The scene that `Scene.as_dict` described.

    Raises:
        KeyError: a field is missing.
        ValueError: a shape, colour, background or category is not one of ours.
    """
    objects = tuple(
        SceneObject(Shape(item["shape"]), Colour(item["colour"]), item["x"], item["y"], item["size"])
        for item in data["objects"]
    )
    return Scene(Category(data["category"]), Background(data["background"]), objects)
