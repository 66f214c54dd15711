"""What inputs name, here and in stores, and how it is cut into shards."""

import pytest

from kerbseg.cluster import Item, Shard, find_items, shards_of
from kerbseg.cluster.stores import Store
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.predict.sinks import saved

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store(streets):
    """The streets in a store, with what is no input beside them."""
    memory = fsspec.filesystem("memory")
    memory.put(str(streets), "/bucket/", recursive=True)
    for name in ("0_ids.png", ".hidden.png", "notes.txt", "drive.mp4"):
        memory.pipe_file(f"/bucket/streets/{name}", b"x")
    yield "memory://bucket/streets"
    memory.rm("/bucket", recursive=True)


def pictures(count):
    return [Item(f"/data/{i}.png", str(i)) for i in range(count)]


def test_every_item_is_in_one_shard():
    items = [*pictures(150), Item("/data/drive.mp4", "drive", alone=True)]
    shards = shards_of(items, workers=2)
    assert shards[0].items == (items[-1],), "what takes longest begins first"
    assert [item for shard in shards[1:] for item in shard.items] == items[:-1]
    assert {len(shard.items) for shard in shards[1:]} == {19, 17}
    assert len({shard.id for shard in shards}) == len(shards)


@pytest.mark.parametrize(("count", "workers", "size"), [(50, 2, 7), (2_000, 4, 64), (3, 8, 1), (0, 2, 0)])
def test_shards_are_small_enough_to_be_shared_out(count, workers, size):
    assert max((len(shard.items) for shard in shards_of(pictures(count), workers)), default=0) == size


def test_a_shard_is_known_by_its_items():
    one, other = pictures(2)
    assert Shard((one, other)).id == Shard((one, other)).id != Shard((one,)).id
    assert Item("/a.bag", "a", ("/left",)).key != Item("/a.bag", "a", ("/right",)).key


def test_keys_hold_no_secret_and_differ_with_it():
    keys = {Item(f"https://me:secret@host/{i}.png?token={i}", "x").key for i in range(2)}
    assert len(keys) == 2
    assert not [key for key in keys if "secret" in key]


def test_files_of_a_folder_are_those_of_predict(streets, tmp_path):
    items, failures = find_items([str(streets)], str(tmp_path / "out"), recursive=True, sinks=saved(["ids"]))
    assert [item.name for item in items] == ["0", "1", "2", "3", "4", "5", "6", "inner/7"]
    assert failures == {}
    assert all(item.address.startswith("/") for item in items)


def test_files_of_a_store_are_named_alike(store, tmp_path):
    items, _ = find_items([store], str(tmp_path / "out"), recursive=True, sinks=saved(["ids"]))
    assert {item.name: item.alone for item in items} == {
        **{str(i): False for i in range(7)},
        "inner/7": False,
        "drive": True,
    }
    flat, _ = find_items([f"{store}/*.png", store], str(tmp_path / "out"))
    assert [item.name for item in flat] == ["0", "1", "2", "3", "4", "5", "6", "drive"], "each once"


def test_two_of_one_stem_keep_their_suffixes(store, tmp_path):
    Store(store).write("0.jpg", b"x")
    items, _ = find_items([f"{store}/0.*"], str(tmp_path / "out"), sinks=saved(["ids"]))
    assert [item.name for item in items] == ["0.jpg", "0.png"]


def test_what_is_not_there_is_a_failure_of_its_own(store, streets, tmp_path):
    items, failures = find_items(["memory://bucket/none", str(streets), str(tmp_path / "no")], str(tmp_path / "out"))
    assert len(items) == 7
    assert list(failures) == [str(tmp_path / "no"), "memory://bucket/none"]
    assert "check the address" in str(failures["memory://bucket/none"])


def test_streams_are_of_one_machine(tmp_path):
    with pytest.raises(KerbsegError, match="leave it or --engine out"):
        find_items(["0"], str(tmp_path / "out"))


def test_a_store_that_nobody_knows_is_refused():
    with pytest.raises(KerbsegError, match="did you mean 's3'"):
        Store("s4://bucket")


def test_a_store_whose_package_is_not_installed_says_which(monkeypatch):
    def fails(address):
        raise ImportError("Please install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fails)
    with pytest.raises(KerbsegError, match=r"^s3fs is not installed; run: pip install s3fs$"):
        Store("s3://bucket")


def test_a_store_that_fails_is_told_in_a_line(monkeypatch, store):
    opened = Store(store)

    def fails(path):
        raise RuntimeError("no\ncredentials")

    monkeypatch.setattr(opened._files, "cat_file", fails)
    with pytest.raises(DataError, match=r"^memory://bucket/streets cannot be read: no credentials; check the address"):
        opened.read("0.png")
