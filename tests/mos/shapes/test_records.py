import tarfile
from pathlib import Path

from mos.shapes.records import Member, Record, write_shard

RECORDS = [
    Record("a", (Member("png", b"picture"), Member("json", b"{}"))),
    Record("b", (Member("jpg", link_to="/etc/hostname"), Member("txt", b"words"))),
]


def test_a_shard_holds_its_records_by_suffix_and_nothing_of_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    write_shard(path, RECORDS)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["a.json", "a.png", "b.txt", "b.jpg"]
    assert members[3].issym()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert list(tmp_path.iterdir()) == [path]
