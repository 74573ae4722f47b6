import pytest

from mos.images.buckets import Bucket, aspect_buckets, assign


@pytest.mark.parametrize(("resolution", "token_px"), [(32, 4), (48, 4), (64, 8), (512, 32), (1024, 32), (2048, 32)])
def test_buckets_have_equal_area_and_whole_tokens(resolution, token_px):
    buckets = aspect_buckets(resolution, token_px)
    assert Bucket(resolution, resolution) in buckets
    assert len(set(buckets)) == len(buckets)
    for bucket in buckets:
        assert bucket.height % token_px == bucket.width % token_px == 0
        assert 0.5 <= bucket.aspect <= 2
        assert Bucket(bucket.width, bucket.height) in buckets
        # at most half a row or column of tokens away from the square's area
        off = abs(bucket.height * bucket.width - resolution**2)
        assert off <= max(bucket.height, bucket.width) * token_px / 2


def test_wide_limits_give_more_buckets():
    assert set(aspect_buckets(512, 32, 1.0)) == {Bucket(512, 512)}
    assert set(aspect_buckets(512, 32, 2.0)) < set(aspect_buckets(512, 32, 4.0))


@pytest.mark.parametrize(("resolution", "token_px", "aspect"), [(30, 4, 2.0), (2, 4, 2.0), (32, 4, 0.5)])
def test_impossible_buckets_are_refused(resolution, token_px, aspect):
    with pytest.raises(ValueError, match=r"multiple|below 1"):
        aspect_buckets(resolution, token_px, aspect)


def test_every_bucket_takes_an_image_of_its_own_size():
    buckets = aspect_buckets(512, 32)
    for bucket in buckets:
        assert assign(bucket.width, bucket.height, buckets) == bucket
        assert assign(bucket.width - 1, bucket.height - 1, buckets) is None
        assert assign(bucket.width - 1, bucket.height - 1, buckets, max_upscale=1.01) == bucket


def test_extreme_images_go_to_the_extreme_bucket():
    buckets = aspect_buckets(64, 8)
    widest = max(buckets, key=lambda bucket: bucket.aspect)
    assert assign(4000, 200, buckets) == widest
    assert assign(200, 4000, buckets) == Bucket(widest.width, widest.height)


def test_bucket_text_round_trips():
    assert Bucket.parse(str(Bucket(40, 56))) == Bucket(40, 56)
    assert str(Bucket(height=40, width=56)) == "40x56"
