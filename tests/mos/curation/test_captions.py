import pytest

from mos.curation.captions import CaptionLimits, clean_caption, decode_text, parse_object, take_caption
from mos.images.reasons import Reason, Rejected

LIMITS = CaptionLimits(min_chars=2, max_chars=100, max_json_bytes=100_000)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a red\t circle\r\n", "a red circle"),
        ("\ufeffa red circle", "a red circle"),
        ("a\u200b red\u00ad cir\u2060cle", "a red circle"),
        ("\u202eelcric der a", "elcric der a"),
        ("cafe\u0301", "café"),
        ("عين حمراء", "عين حمراء"),
        ("family 👨\u200d👩\u200d👧 photo", "family 👨\u200d👩\u200d👧 photo"),
        ("一個紅色的圓", "一個紅色的圓"),
    ],
)
def test_captions_are_cleaned(raw, clean):
    assert clean_caption(raw, LIMITS) == clean
    assert clean_caption(clean, LIMITS) == clean


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", Reason.CAPTION_EMPTY),
        (" \t\n\u3000\u200b\ufeff", Reason.CAPTION_EMPTY),
        ("x", Reason.CAPTION_TOO_SHORT),
        ("x " * 60, Reason.CAPTION_TOO_LONG),
        ("x" * 1_000_000, Reason.CAPTION_TOO_LONG),
        ("🔴🟦⭐", Reason.CAPTION_WITHOUT_WORDS),
        ("?!...", Reason.CAPTION_WITHOUT_WORDS),
        ("a\0b", Reason.CAPTION_CONTROL),
        ("a\x1b[31mb", Reason.CAPTION_CONTROL),
        ("a\ud800b", Reason.CAPTION_NOT_UNICODE),
    ],
)
def test_captions_are_refused(raw, reason):
    with pytest.raises(Rejected) as caught:
        clean_caption(raw, LIMITS)
    assert caught.value.reason == reason


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["", "-le", "-be"])
def test_a_byte_order_mark_names_the_encoding(encoding, order):
    if encoding != "utf-8-sig" and order:
        encoding, mark = encoding + order, "\ufeff"
    else:
        mark = ""
    assert decode_text(f"{mark}un café".encode(encoding), LIMITS) == "un café"
    data = f'{mark}{{"caption": "un café"}}\r\n'.encode(encoding)
    assert parse_object(data, LIMITS) == {"caption": "un café"}


@pytest.mark.parametrize(
    "data", ["café".encode("latin-1"), b"\xff\xfea", b"\xfe\xff\xd8\0", b"\xef\xbb\xbf\xe9", b"\x80abc"]
)
def test_text_must_be_utf8_or_what_its_mark_says(data):
    with pytest.raises(Rejected) as caught:
        decode_text(data, LIMITS)
    assert caught.value.reason == Reason.CAPTION_NOT_UTF8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", Reason.JSON_INVALID),
        (b"", Reason.JSON_INVALID),
        (b"[1]", Reason.JSON_NOT_OBJECT),
        (b'"text"', Reason.JSON_NOT_OBJECT),
        (b'{"a": NaN}', Reason.JSON_NOT_FINITE),
        (b'{"a": -Infinity}', Reason.JSON_NOT_FINITE),
        (b'{"a":' * 15_000 + b"1" + b"}" * 15_000, Reason.JSON_TOO_DEEP),
        (b'{"a": "' + b"x" * 100_000 + b'"}', Reason.JSON_TOO_LARGE),
        (b'{"a": ' + b"9" * 5000 + b"}", Reason.JSON_INVALID),
        ('{"a": "é"}'.encode("latin-1"), Reason.CAPTION_NOT_UTF8),
    ],
)
def test_json_is_refused(data, reason):
    with pytest.raises(Rejected) as caught:
        parse_object(data, LIMITS)
    assert caught.value.reason == reason


def test_the_first_present_key_is_the_caption():
    record = {"caption": "short", "caption_long": "long", "id": 7}
    assert take_caption(record, ("caption_long", "caption")) == ("long", {"caption": "short", "id": 7})
    assert take_caption(record, ("alt", "caption")) == ("short", {"caption_long": "long", "id": 7})


@pytest.mark.parametrize("nothing", [None, "", " \t\n", "\u200b\ufeff", 17, ["a list"], {}])
def test_the_next_key_that_has_text_is_the_caption(nothing):
    record = {"long": nothing, "middle": nothing, "short": "a cat"}
    text, rest = take_caption(record, ("long", "middle", "short"))
    assert text == "a cat"
    assert rest == {"long": nothing, "middle": nothing}


def test_without_text_under_any_key_the_verdict_is_on_the_first():
    assert take_caption({"long": None, "short": " "}, ("long", "short"))[0] == " "


@pytest.mark.parametrize(
    ("record", "reason"), [({"id": 7}, Reason.CAPTION_MISSING), ({"caption": None}, Reason.CAPTION_NOT_TEXT)]
)
def test_a_caption_must_be_there_and_be_text(record, reason):
    with pytest.raises(Rejected) as caught:
        take_caption(record, ("caption",))
    assert caught.value.reason == reason
