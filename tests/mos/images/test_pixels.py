import io

import numpy as np
import pytest
import torch
from PIL import Image

from mos.images.buckets import Bucket
from mos.images.decode import ImageLimits
from mos.images.pixels import fit_to_bucket, prepare_image
from mos.images.reasons import Rejected


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (32, 32), (200, 33), (33, 200), (20, 20)])
@pytest.mark.parametrize("bucket", ["32x32", "24x40", "40x24"])
def test_every_size_fills_its_bucket(size: tuple[int, int], bucket: str) -> None:
    fitted = fit_to_bucket(Image.new("RGB", size, "red"), Bucket.parse(bucket))
    height, width = map(int, bucket.split("x"))
    assert fitted.shape == (3, height, width)
    assert fitted.dtype == torch.uint8
    assert (fitted[0] == 255).all()
    assert (fitted[1:] == 0).all()


def test_the_centre_is_kept_and_the_aspect_too() -> None:
    values = np.zeros((40, 120, 3), np.uint8)
    values[:, 40:80] = 255  # the middle third of a 3:1 image is exactly its centre square
    assert (fit_to_bucket(Image.fromarray(values), Bucket(40, 40)) == 255).all()


def test_an_image_of_the_buckets_size_is_not_resampled() -> None:
    values = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    assert np.array_equal(fit_to_bucket(Image.fromarray(values), Bucket(24, 40)).permute(1, 2, 0).numpy(), values)


def test_bytes_that_are_no_image_are_rejected() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 0, 255, 128)).save(buffer, "PNG")
    pixels = prepare_image(buffer.getvalue(), "32x32", ImageLimits())
    assert pixels[:, 0, 0].tolist() == pytest.approx([127, 127, 255], abs=1)
    with pytest.raises(Rejected):
        prepare_image(buffer.getvalue()[:40], "32x32", ImageLimits())
