"""rosbag2's sqlite3 files that were cut off: what comes back is the beginning of what the whole file gives."""

import sqlite3

import numpy as np
import pytest

import made_bags as made
from kerbseg.cli import main
from kerbseg.core.errors import DataError
from kerbseg.predict.sources import open_source
from kerbseg.robots.bag_report import examine_bag
from kerbseg.robots.bags import open_bag

CAMERA = "/cam/image_raw"
MODEL = "mininet_v2_cpu-camvid"

HUMBLE = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
                    serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
                      data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
INSERT INTO schema VALUES (3, 'humble');
INSERT INTO topics VALUES (1, '/imu', 'sensor_msgs/msg/Imu', 'cdr', ''), (2, '/odd', 'std_msgs/msg/String', 'cdr', '');
"""
FOXY = """
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
                      data BLOB NOT NULL);
INSERT INTO topics VALUES (1, '/imu', 'sensor_msgs/msg/Imu', 'cdr'), (2, '/odd', 'std_msgs/msg/String', 'cdr');
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file by rosbags, with pictures that are longer than a page."""
    folder = made.write_rosbag2(tmp_path_factory.mktemp("whole") / "drive", made.pictures(12, (48, 64)))
    return folder / "drive.db3"


def by_sqlite(path, tables, page=1024, mode="MEMORY", count=900):
    """A file by SQLite itself, in the order of a recorder whose clock went back, with messages of many lengths."""
    generator = np.random.default_rng(3)
    with sqlite3.connect(path) as file:
        file.execute(f"PRAGMA page_size={page}")
        file.execute(f"PRAGMA journal_mode={mode}")
        file.executescript(tables)
        for n in range(count):
            long = 4000 if n % 50 == 7 else 60
            data = generator.integers(1, 256, long, np.uint8).tobytes()
            row = (1 + (n % 3 == 0), 10**9 + 1000 * (n // 2 - 40 * (n > 300)), data)
            file.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    file.close()
    return path


def read(path):
    """`(topic, time, bytes)` of its messages, how many it says that it has, and how it ends."""
    got = []
    with open_bag(path) as bag:
        count = sum(each.count for each in bag.channels)
        try:
            got.extend((each.channel.topic, each.log_ns, each.data) for each in bag.messages())
        except DataError as error:
            return got, count, str(error)
    return got, count, None


def cut(path, size, name="cut.db3"):
    broken = path.with_name(name)
    broken.write_bytes(path.read_bytes()[:size])
    return broken


def rows(path):
    """The messages in the order in which they were written, by Python's own SQLite."""
    file = sqlite3.connect(path)
    query = "SELECT name, timestamp, data FROM messages JOIN topics ON topics.id = topic_id ORDER BY messages.id"
    told = file.execute(query).fetchall()
    file.close()
    return told


def test_wherever_it_is_cut_what_comes_is_the_beginning_of_the_whole(whole):
    everything, count, end = read(whole)
    size = whole.stat().st_size
    assert (len(everything), count, end) == (24, 24, None)
    lengths = []
    for share in range(1, 40):
        got, count, end = read(cut(whole, 22000 + (size - 22001) * share // 39))
        assert got == everything[: len(got)]
        assert count == len(got)
        assert "cut off" in end
        lengths.append(len(got))
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] >= 22, "a byte that lacks costs a page"


@pytest.mark.parametrize(
    ("tables", "page", "mode"),
    [(HUMBLE, 1024, "MEMORY"), (HUMBLE, 4096, "WAL"), (FOXY, 512, "MEMORY"), (FOXY, 65536, "DELETE")],
)
def test_messages_of_every_version_come_in_order_of_time(tmp_path, tables, page, mode):
    path = by_sqlite(tmp_path / "drive.db3", tables, page, mode)
    written, size = rows(path), path.stat().st_size
    for share in (0.5, 0.7, 0.9, 0.99):
        got, count, _ = read(cut(path, int(size * share)))
        assert count == len(got)
        assert got == sorted(written[: len(got)], key=lambda row: row[1]), "those that were written first, none else"
    assert len(got) > (0 if page == 65536 else 700)
    everything = read(path)[0]
    assert [each[1] for each in everything] == sorted(each[1] for each in written)
    assert sorted(everything) == sorted(written)


def test_a_part_of_the_topics_and_of_the_time_can_be_read(tmp_path):
    path = cut(by_sqlite(tmp_path / "drive.db3", HUMBLE), 80_000)
    everything = read(path)[0]
    assert len(everything) > 100
    with open_bag(path) as bag:
        told = []
        with pytest.raises(DataError, match="cut off"):
            told.extend((each.channel.topic, each.log_ns, each.data) for each in bag.messages(["/odd"]))
        assert told == [each for each in everything if each[0] == "/odd"]
        assert bag.start_ns == everything[0][1]
        assert bag.end_ns == everything[-1][1]
        start, stop = everything[20][1], everything[70][1]
        between = bag._reader.messages(bag._reader.connections, start, stop)
        assert [each[2] for each in between] == [each[2] for each in everything if start <= each[1] < stop]


def test_names_that_mean_something_in_an_address_are_read(whole):
    assert len(read(cut(whole, 100_000, "50% off? #1 ü.db3"))[0]) == len(read(cut(whole, 100_000))[0]) > 8


def test_pictures_and_stamps_are_those_of_the_whole(whole):
    frames, kept = list(open_source(whole)), []
    source = open_source(cut(whole, 100_000))
    with pytest.raises(DataError, match="cut off"):
        kept.extend(source)
    assert source.count() == len(kept) == 7
    assert [each.stamp for each in kept] == [each.stamp for each in frames[:7]]
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(kept, frames, strict=False))


def test_the_doctor_counts_what_is_whole(whole):
    report = examine_bag(cut(whole, 100_000))
    assert [topic.messages for topic in report.topics] == [7, 7]
    assert report.topics[0].pictures == {"rgb8 48x64": 7}
    assert "cut off" in report.problems[0]
    nothing = examine_bag(cut(whole, 30_000))
    assert "before its first whole message" in nothing.problems[0]
    assert "1970" not in nothing.head


@pytest.mark.parametrize(
    ("size", "status", "told"),
    [
        (100_000, {"doctor": 2, "extract": 1, "keyframes": 2, "predict": 1}, "cut off"),
        (30_000, dict.fromkeys(("doctor", "extract", "keyframes", "predict"), 2), "before its first whole message"),
        (10_000, dict.fromkeys(("doctor", "extract", "keyframes", "predict"), 2), "cut off inside its first tables"),
        (60, dict.fromkeys(("doctor", "extract", "keyframes", "predict"), 2), "cannot be read as a bag"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "extract", "keyframes", "predict"])
def test_every_command_keeps_what_is_whole_and_says_so_in_one_line(
    whole, tmp_path, monkeypatch, capsys, command, size, status, told
):
    broken = cut(whole, size)
    arguments = {
        "doctor": [str(broken)],
        "extract": [str(broken), "--every", "1", "-o", "out"],
        "keyframes": [MODEL, str(broken), "--target", "car", "-o", "out"],
        "predict": [MODEL, str(broken), "-o", "out.mcap"],
    }[command]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([command, *arguments])
    said = capsys.readouterr()
    assert end.value.code == status[command]
    assert told in " ".join((said.out + said.err).split())  # doctor wraps at the width of the screen
    assert len(said.err.splitlines()) == 1
    assert bool(list(tmp_path.iterdir())) == (size == 100_000 and command != "doctor")
    if command == "predict" and size == 100_000:
        topics = [each[0] for each in made.read_mcap(tmp_path / "out.mcap")]
        assert topics.count("/cam/segmentation/mask") == topics.count(CAMERA) == 7


def test_a_folder_whose_file_is_cut_off_keeps_what_is_whole(whole, tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / "metadata.yaml").write_bytes((whole.parent / "metadata.yaml").read_bytes())
    (folder / "drive.db3").write_bytes(whole.read_bytes()[:100_000])
    assert read(folder)[0] == read(whole)[0][:14]
    (folder / "metadata.yaml").unlink()
    assert read(folder)[0] == read(whole)[0][:14]
