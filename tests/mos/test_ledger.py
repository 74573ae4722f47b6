from pathlib import Path

import pytest

from mos.errors import UserError
from mos.ledger import StepLedger


def test_a_record_is_found_under_its_fingerprint_alone(tmp_path: Path):
    ledger = StepLedger(tmp_path)
    record = ledger.record("curate", "aa", {"kept": 7}, started_at=0.0, settings="s")
    assert ledger.find("curate", "aa") == record
    assert ledger.find("curate", "ab") is None
    assert ledger.find("encode", "aa") is None
    assert ledger.records("curate") == [record]


def test_what_has_no_record_is_named_with_its_remedy(tmp_path: Path):
    with pytest.raises(UserError, match=r"step 'curate' is not finished .* run `python x\.py` first"):
        StepLedger(tmp_path).require("curate", "aa", "python x.py")


def test_the_newest_record_is_the_one_finished_last_and_confirming_keeps_that(tmp_path: Path):
    ledger = StepLedger(tmp_path)
    first = ledger.record("curate", "aa", {}, 0.0, "s")
    second = ledger.record("curate", "bb", {}, 0.0, "s")
    assert ledger.latest("curate") == second
    confirmed = ledger.confirm(first, "t")
    assert ledger.latest("curate") == second
    assert confirmed.finished_at == first.finished_at
    assert confirmed.confirmed_at > second.confirmed_at
    assert ledger.find("curate", "aa") == confirmed
