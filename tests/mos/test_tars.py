import tarfile

import pytest

from mos.tars import tar_written_whole

SAMPLES = [{"__key__": f"{number:064x}", "txt": b"words", "source.png": b"a", "json": b"{}"} for number in range(3)]


def test_equal_samples_give_equal_files_without_a_trace_of_the_machine(tmp_path):
    for name in ("one.tar", "two.tar"):
        with tar_written_whole(tmp_path / name) as writer:
            for sample in SAMPLES:
                writer.write(sample)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = tar.getmembers()
    assert [member.name.partition(".")[2] for member in members] == ["json", "source.png", "txt"] * 3
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }


def test_a_tar_that_fails_half_way_leaves_nothing(tmp_path):
    def write_half() -> None:
        with tar_written_whole(tmp_path / "one.tar") as writer:
            writer.write(SAMPLES[0])
            writer.write({"__key__": "b", "txt": 3})

    with pytest.raises(ValueError, match="txt"):
        write_half()
    assert list(tmp_path.iterdir()) == []
