"""The disk model itself. Runs within the layer: test_layer.py starts it there."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.disk.layer import Disk, FilesOpen, Kept, Op, Where, seed_sqlite

CUTS = 200


@pytest.fixture
def root() -> Iterator[Path]:
    made = Path(mkdtemp(prefix="disk-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def disk(root: Path) -> Iterator[Disk]:
    (root / "old").write_bytes(b"o" * 1_500)
    made = Disk(root)
    yield made
    assert made.escaped() is None
    made.stop()


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(path: Path, content: bytes, *, synced: bool = False) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def seen(disk: Disk, act: Callable[[], None], *names: str) -> set[tuple[bytes | None, ...]]:
    """The contents that cuts of many seeds leave of these names, each from the same start."""
    found = set()
    start = {path.name: path.read_bytes() for path in disk.root.iterdir()}
    for seed in range(CUTS):
        act()
        disk.cut(seed)
        assert disk.pending == 0
        assert disk.escaped() is None
        found.add(tuple(
            (disk.root / name).read_bytes() if (disk.root / name).exists() else None
            for name in names
        ))  # fmt: skip
        for path in disk.root.iterdir():
            path.unlink()
        for name, content in start.items():
            put(disk.root / name, content)
        disk.cut(0, Kept.EVERYTHING)
    return found


# ------------------------------------------------------------------ what a cut may leave


def test_what_is_there_at_the_start_is_durable(disk: Disk, root: Path) -> None:
    disk.cut(1, Kept.NOTHING)
    assert (root / "old").read_bytes() == b"o" * 1_500
    assert disk.durable(root / "old") == b"o" * 1_500


def test_a_file_needs_its_own_sync_and_that_of_its_name(disk: Disk, root: Path) -> None:
    put(root / "new", b"content", synced=True)
    assert disk.durable(root / "new") is None
    sync(root)
    assert disk.durable(root / "new") == b"content"
    put(root / "empty", b"content")
    sync(root)
    disk.cut(0, Kept.NOTHING)
    assert (root / "new").read_bytes() == b"content"
    assert (root / "empty").read_bytes() == b""


def test_everything_kept_changes_nothing(disk: Disk, root: Path) -> None:
    put(root / "new", b"content")
    (root / "old").rename(root / "moved")
    (root / "folder").mkdir()
    put(root / "folder/deep", b"deep")
    disk.cut(0, Kept.EVERYTHING)
    assert sorted(path.name for path in root.iterdir()) == ["folder", "moved", "new"]
    disk.cut(1, Kept.NOTHING)  # all of it is durable now
    assert (root / "folder/deep").read_bytes() == b"deep"


def test_writes_are_kept_lost_and_torn_at_sectors(disk: Disk, root: Path) -> None:
    def act() -> None:
        with (root / "old").open("r+b") as file:
            file.write(b"n" * 1_500)

    found = {content for (content,) in seen(disk, act, "old")}
    sectors = {
        tuple(content[at : at + 512] for at in range(0, 1_500, 512))
        for content in found
        if content is not None
    }
    for parts in sectors:
        assert all(len(set(part)) == 1 for part in parts), "torn within a sector"
    whole = {bytes(part[0] for part in parts) for parts in sectors}
    assert {b"ooo", b"nnn", b"noo", b"onn", b"ono"} <= whole


def test_of_two_writes_in_one_sector_the_later_never_comes_alone(disk: Disk, root: Path) -> None:
    def act() -> None:
        with (root / "old").open("r+b", buffering=0) as file:
            file.write(b"1" * 10)
            file.write(b"2" * 10)

    heads = {(content or b"")[:20] for (content,) in seen(disk, act, "old")}
    assert heads == {b"o" * 20, b"1" * 10 + b"o" * 10, b"1" * 10 + b"2" * 10}


def test_growth_without_its_data_shows_zeros(disk: Disk, root: Path) -> None:
    def act() -> None:
        with (root / "old").open("ab", buffering=0) as file:
            file.write(b"n" * 2_000)
            file.write(b"n" * 2_000)

    found = {content for (content,) in seen(disk, act, "old") if content is not None}
    assert {len(content) for content in found} == {1_500, 3_500, 5_500}
    assert any(0 in content for content in found)
    assert all(content.startswith(b"o" * 1_024) for content in found)


def test_a_cut_off_file_has_its_old_or_new_size(disk: Disk, root: Path) -> None:
    found = seen(disk, lambda: os.truncate(root / "old", 100), "old")
    assert found == {(b"o" * 1_500,), (b"o" * 100,)}


def test_a_rename_is_there_or_not_and_never_half(disk: Disk, root: Path) -> None:
    """The way of `write_whole`: at any cut the old content or the new one."""

    def act() -> None:
        put(root / "part", b"new", synced=True)
        (root / "part").rename(root / "old")

    found = seen(disk, act, "old", "part")
    assert {content for content, _ in found} == {b"o" * 1_500, b"new"}
    act()
    sync(root)
    disk.cut(0, Kept.NOTHING)
    assert (root / "old").read_bytes() == b"new"


def test_names_come_and_go_each_for_itself(disk: Disk, root: Path) -> None:
    def act() -> None:
        (root / "old").unlink()
        put(root / "new", b"")

    old = b"o" * 1_500
    assert seen(disk, act, "old", "new") == {(old, None), (old, b""), (None, None), (None, b"")}


def test_what_stands_in_a_lost_directory_is_lost(disk: Disk, root: Path) -> None:
    (root / "folder").mkdir()
    put(root / "folder/file", b"synced", synced=True)
    sync(root / "folder")
    disk.cut(0, Kept.NOTHING)
    assert not (root / "folder").exists()


def test_links_share_their_content(disk: Disk, root: Path) -> None:
    put(root / "a", b"content", synced=True)
    os.link(root / "a", root / "b")
    sync(root)
    (root / "a").unlink()
    (root / "b").unlink()
    disk.cut(0, Kept.NOTHING)
    assert (root / "a").samefile(root / "b")
    assert (root / "b").read_bytes() == b"content"


def test_the_same_seed_does_the_same(disk: Disk, root: Path) -> None:
    (root / "old").unlink()
    disk.cut(0, Kept.EVERYTHING)

    def once(seed: int) -> dict[str, bytes]:
        for number in range(6):
            put(root / f"file{number}", bytes([number]) * 3_000)
        disk.cut(seed)
        found = {path.name: path.read_bytes() for path in root.iterdir()}
        for path in root.iterdir():
            path.unlink()
        disk.cut(0, Kept.EVERYTHING)
        return found

    runs = [[once(seed) for seed in range(20)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len({str(found) for found in runs[0]}) > 10


# ------------------------------------------------------------------ faults


def test_death_lets_nothing_through_until_the_revival(disk: Disk, root: Path) -> None:
    disk.die_at(2)
    put(root / "one", b"")
    with pytest.raises(OSError, match="Input/output"):
        put(root / "two", b"")
    assert disk.dead
    for change in (
        (root / "old").unlink,
        lambda: (root / "old").rename(root / "moved"),
        lambda: os.truncate(root / "old", 0),
        lambda: put(root / "old", b"x"),
        (root / "folder").mkdir,
        lambda: sync(root),
    ):
        with pytest.raises(OSError, match="Input/output"):
            change()
    assert sorted(path.name for path in root.iterdir()) == ["old", "one"]
    assert (root / "old").read_bytes() == b"o" * 1_500
    disk.revive()
    put(root / "two", b"")
    assert not disk.dead


@pytest.mark.parametrize(("where", "length"), [(0, 0), (1, 512), (2, 1_024)])
def test_death_before_within_and_after_a_write(
    disk: Disk, root: Path, where: int, length: int
) -> None:
    with (root / "new").open("wb", buffering=0) as file:
        disk.die_at(1, Where(where))
        with pytest.raises(OSError, match="Input/output"):
            file.write(b"n" * 1_024)
    assert (root / "new").stat().st_size == length
    disk.revive()


def test_a_world_that_holds_files_is_not_followed_by_another(disk: Disk, root: Path) -> None:
    with (root / "old").open("rb"):
        disk.die()
        with pytest.raises(FilesOpen, match="old"):
            disk.cut(0)
        with pytest.raises(FilesOpen, match="old"):
            disk.revive()
    disk.revive()


def test_a_full_disk(disk: Disk, root: Path) -> None:
    disk.capacity(3 * 4_096)
    with (root / "new").open("wb", buffering=0) as file:
        assert file.write(b"n" * 10_000) == 8_192, "what fits is written"
        with pytest.raises(OSError, match="No space"):
            file.write(b"n")
        with pytest.raises(OSError, match="No space"):
            file.truncate(8_193)
        with pytest.raises(OSError, match="No space"):
            os.posix_fallocate(file.fileno(), 8_192, 1)
        os.pwrite(file.fileno(), b"again", 100)  # no growth
        assert disk.used == 3 * 4_096
        (root / "old").unlink()
        file.write(b"n" * 4_096)
        disk.capacity(None)
        file.write(b"n" * 100_000)


def test_a_disk_that_may_not_be_written(disk: Disk, root: Path) -> None:
    disk.read_only(on=True)
    with pytest.raises(OSError, match="Read-only"):
        put(root / "new", b"")
    with pytest.raises(OSError, match="Read-only"):
        (root / "old").unlink()
    disk.cut(0)
    with pytest.raises(OSError, match="Read-only"):
        put(root / "new", b"")
    disk.read_only(on=False)
    put(root / "new", b"")


def test_the_nth_operation_of_a_kind_fails_once(disk: Disk, root: Path) -> None:
    disk.fail(Op.WRITE, 2, errno.EIO)
    with (root / "new").open("wb", buffering=0) as file:
        file.write(b"1")
        with pytest.raises(OSError, match="Input/output"):
            file.write(b"2")
        file.write(b"3")
    assert (root / "new").read_bytes() == b"13"


def test_after_a_failed_sync_the_next_one_proves_nothing(disk: Disk, root: Path) -> None:
    """As on Linux: readers see the data, syncs succeed, the disk may not have it."""
    kept = []
    for turn in range(30):
        name = root / f"file{turn}"
        put(name, b"", synced=True)
        sync(root)
        with name.open("wb", buffering=0) as file:
            file.write(b"n" * 512)
            disk.fail(Op.SYNC, 1, errno.EIO)
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(file.fileno())
            os.fsync(file.fileno())
        assert name.read_bytes() == b"n" * 512
        kept.append(disk.durable(name))
    assert {b"", b"n" * 512} <= set(kept)
    with (root / "file0").open("r+b", buffering=0) as file:  # written again: it is dirty again
        file.write(b"a")
        os.fsync(file.fileno())
    assert disk.durable(root / "file0") == b"a" + b"n" * 511


def test_the_disk_is_untouched_by_children_and_other_directories(
    disk: Disk, root: Path, tmp_path: Path
) -> None:
    before = disk.count()
    put(tmp_path / "elsewhere", b"x", synced=True)
    with (root / "old").open("rb") as file:
        subprocess.run(["true"], check=True)
        if (child := os.fork()) == 0:
            os.closerange(3, 1_000)
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(FilesOpen):  # still ours
            disk.cut(0)
        twin = os.dup(file.fileno())
    with pytest.raises(FilesOpen):
        disk.cut(0)
    os.close(twin)
    disk.cut(0)
    assert disk.count() == before


def test_paths_in_any_spelling(disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    Path("a").write_bytes(b"a")
    Path(f"{root}/.//b").write_bytes(b"b")
    handle = os.open(root, os.O_RDONLY)
    os.close(os.open("c", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.rename("c", "d", src_dir_fd=handle, dst_dir_fd=handle)
    os.close(handle)
    assert disk.escaped() is None
    assert disk.count(Op.CREATE) == 3
    (root / "folder").mkdir()
    put(root / "folder/deep", b"deep")
    shutil.rmtree(root / "folder")


def test_what_is_not_modelled_ends_the_process(disk: Disk, root: Path) -> None:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        disk.stop()
        own = Disk(root)  # the layer looks at the child now
        assert own.count() == 0
        handle = os.open(root / "old", os.O_WRONLY)
        os.writev(handle, [b"x"])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert (root / "old").read_bytes() == b"o" * 1_500


def test_sqlite_repeats_its_random_numbers(disk: Disk) -> None:
    def number() -> int:
        seed_sqlite(5)
        connection = sqlite3.connect(":memory:")
        (value,) = connection.execute("SELECT random()").fetchone()
        connection.close()
        return int(value)

    assert number() == number()
