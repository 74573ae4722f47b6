import pickle

import pytest

from mos.images.reasons import Notice, Reason, Rejected, ShardBrokenError

WRITTEN = """
    shard_unreadable shard_truncated shard_trailing_data shard_too_large member_not_regular member_unsafe_name
    member_name_too_long member_too_large member_type_refused key_duplicate key_not_adjacent image_missing
    image_ambiguous reference_missing caption_missing file_unreadable permission image_empty image_unrecognised
    image_format_refused image_animated image_truncated image_corrupt image_mode_refused image_metadata_bomb
    image_too_many_pixels image_too_small image_too_elongated image_transparent bucket_none caption_not_utf8
    caption_not_unicode caption_not_text caption_control caption_empty caption_too_short caption_too_long
    caption_without_words json_invalid json_not_object json_not_finite json_too_deep json_too_large latent_not_finite
    states_not_finite edit_unchanged score_not_finite duplicate_exact duplicate_near
"""
"""Codes that tables out there may hold."""


@pytest.mark.parametrize("code", WRITTEN.split())
def test_a_code_that_tables_hold_is_never_renamed(code: str) -> None:
    assert str(Reason(code)) == code
    assert Reason(code) is Reason[code.upper()]


def test_what_is_counted_apart_is_no_reason() -> None:
    assert not {str(notice) for notice in Notice} & {str(reason) for reason in Reason}


def test_a_rejection_says_its_code_and_what_was_refused() -> None:
    refusal = Rejected(Reason.IMAGE_TOO_SMALL, "8x8 px, sides at least 16")
    assert str(refusal) == "image_too_small: 8x8 px, sides at least 16"
    assert (refusal.reason, refusal.detail) == (Reason.IMAGE_TOO_SMALL, "8x8 px, sides at least 16")


def test_a_broken_shard_is_a_rejection_that_is_certain_unless_said_otherwise() -> None:
    with pytest.raises(Rejected) as caught:
        raise ShardBrokenError(Reason.SHARD_TRUNCATED, "ends inside a.jpg", "a.jpg")
    broken = caught.value
    assert (broken.member, broken.is_zero_filled, broken.is_certain) == ("a.jpg", False, True)
    assert str(broken) == "shard_truncated: ends inside a.jpg"
    padded = ShardBrokenError(Reason.SHARD_TRUNCATED, "zeros", is_zero_filled=True, is_certain=False)
    assert (padded.member, padded.is_zero_filled, padded.is_certain) == (None, True, False)


@pytest.mark.parametrize(
    "error",
    [
        Rejected(Reason.IMAGE_EMPTY, "0 bytes"),
        ShardBrokenError(Reason.SHARD_TRUNCATED, "end", "a.jpg", is_certain=False),
    ],
)
def test_a_rejection_passes_from_process_to_process(error: Rejected) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))
