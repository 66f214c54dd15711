"""Sequences in the layouts of robots' data sets: read, written, and read again as other programs would."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError, InputError
from kerbseg.keyframes.formats import FORMATS, FormatWriter, seconds
from kerbseg.keyframes.sequences import open_sequence
from kerbseg.keyframes.trajectories import nearest_frames, read_times

STAMPS = [1403715273262142976 + i * 50_000_001 for i in range(6)]  # a float would lose their last digits
TUM_STAMPS = [f"{1341847980 + i}.{722988 + i:06d}" for i in range(6)]


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def euroc(tmp_path):
    folder = tmp_path / "V1"
    for i, stamp in enumerate(STAMPS):
        picture(folder / f"mav0/cam0/data/{stamp}.png", 10 * i)
    rows = "".join(f"{stamp},{stamp}.png\r\n" for stamp in STAMPS)
    (folder / "mav0/cam0/data.csv").write_text(f"#timestamp [ns],filename\n{rows}")
    return folder


@pytest.fixture
def tum(tmp_path):
    folder = tmp_path / "desk"
    for i, stamp in enumerate(TUM_STAMPS):
        picture(folder / f"rgb/{stamp}.png", 10 * i)
        picture(folder / f"depth/{stamp}1.png", 5 * i)
    (folder / "rgb.txt").write_text("# a\n# b\n# c\n" + "".join(f"{each} rgb/{each}.png\n" for each in TUM_STAMPS))
    rows = "".join(f"{each} rgb/{each}.png {each}1 depth/{each}1.png\n" for each in TUM_STAMPS)
    (folder / "associations.txt").write_text(rows)
    return folder


@pytest.fixture
def kitti(tmp_path):
    folder = tmp_path / "07"
    for i in range(6):
        picture(folder / f"image_0/{i:06d}.png", 10 * i)
    (folder / "times.txt").write_text("".join(f"{i / 10:e}\n" for i in range(6)))
    return folder


def written(sequence, out, name, chosen=(1, 4)):
    """Writes some frames of a sequence."""
    writer = FormatWriter(name, out, sequence)
    for i, frame in enumerate(sequence.source):
        if i in chosen:
            writer.add(i, frame.time_ns, frame.picture)
    return writer.finish()


def values(sequence):
    return [int(frame.picture[0, 0, 0]) for frame in sequence.source]


# ---- readers as other programs have them: ORB-SLAM2's examples, by its rules


def orb_tum(folder):
    """mono_tum: three lines are skipped, whatever they hold."""
    lines = (folder / "rgb.txt").read_text().splitlines()[3:]
    return [(float(line.split()[0]), folder / line.split()[1]) for line in lines if line]


def orb_tum_rgbd(folder):
    """rgbd_tum: no line is skipped."""
    rows = [line.split() for line in (folder / "associations.txt").read_text().splitlines() if line]
    return [(float(time), folder / color, folder / depth) for time, color, _, depth in rows]


def orb_euroc(folder):
    """mono_euroc: a list of stamps; the picture is stamp + .png."""
    stamps = [line for line in (folder / "timestamps.txt").read_text().splitlines() if line]
    return [(int(stamp), folder / "mav0/cam0/data" / f"{stamp}.png") for stamp in stamps]


def orb_kitti(folder):
    """mono_kitti: pictures are numbered from 0 by their line in times.txt."""
    times = [float(line) for line in (folder / "times.txt").read_text().splitlines() if line]
    return [(time, folder / "image_0" / f"{i:06d}.png") for i, time in enumerate(times)]


def shown(path):
    return int(np.array(Image.open(path))[0, 0, 0])


# ---- reading and writing


def test_euroc_keeps_every_nanosecond(euroc, tmp_path):
    sequence = open_sequence(euroc)
    assert sequence.layout == "euroc"
    assert [frame.time_ns for frame in sequence.source] == STAMPS
    assert next(iter(sequence.source)).rate == Fraction(10**9, 50_000_001)
    files = written(sequence, tmp_path / "out", "euroc")
    again = open_sequence(tmp_path / "out")
    assert [frame.time_ns for frame in again.source] == [STAMPS[1], STAMPS[4]]
    assert values(again) == [10, 40]
    assert [(time, shown(path)) for time, path in orb_euroc(tmp_path / "out")] == [(STAMPS[1], 10), (STAMPS[4], 40)]
    assert all((tmp_path / "out" / name).is_file() for name in files)
    header = (tmp_path / "out/mav0/cam0/data.csv").read_text().splitlines()[0]
    assert header == "#timestamp [ns],filename"


def test_tum_has_three_lines_of_comment_and_keeps_its_stamps(tum, tmp_path):
    sequence = open_sequence(tum)
    assert sequence.layout == "tum"
    files = written(sequence, tmp_path / "out", "tum")
    again = open_sequence(tmp_path / "out")
    assert [each.stamp for each in again.entries] == [TUM_STAMPS[1], TUM_STAMPS[4]]
    assert values(again) == [10, 40]
    assert [(time, shown(path)) for time, path in orb_tum(tmp_path / "out")] == [
        (float(TUM_STAMPS[1]), 10), (float(TUM_STAMPS[4]), 40)
    ]  # fmt: skip
    assert [(shown(color), shown(depth)) for _, color, depth in orb_tum_rgbd(tmp_path / "out")] == [(10, 5), (40, 20)]
    assert all((tmp_path / "out" / name).is_file() for name in files)


def test_kitti_is_numbered_anew_with_a_map_back(kitti, tmp_path):
    sequence = open_sequence(kitti)
    assert sequence.layout == "kitti"
    written(sequence, tmp_path / "out", "kitti")
    again = open_sequence(tmp_path / "out")
    assert again.layout == "kitti"
    assert [frame.time_ns for frame in again.source] == [100_000_000, 400_000_000]
    assert [(time, shown(path)) for time, path in orb_kitti(tmp_path / "out")] == [(0.1, 10), (0.4, 40)]
    rows = (tmp_path / "out/map.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["0", "1"], ["1", "4"]]
    assert rows[1].endswith("000004.png")


def test_poses_of_kitti_stay_with_their_frames(kitti, tmp_path):
    (kitti / "poses.txt").write_text("".join(f"{i} 0 0 0 0 1 0 0 0 0 1 0\n" for i in range(6)))
    written(open_sequence(kitti), tmp_path / "out", "kitti")
    assert [row.split()[0] for row in (tmp_path / "out/poses.txt").read_text().splitlines()] == ["1", "4"]


def test_colmap_lists_files_where_they_are(kitti, tmp_path):
    files = written(open_sequence(kitti), tmp_path / "out", "colmap")
    assert (tmp_path / "out/image_list.txt").read_text() == "000001.png\n000004.png\n"
    assert files == ["image_list.txt"]
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["image_list.txt"]


def test_frames_are_copied_as_they_are(tmp_path):
    original = tmp_path / "in" / "a_1341847980.722988.jpg"
    picture(original, 100)
    picture(tmp_path / "in" / "a_1341847981.000000.jpg", 50)
    sequence = open_sequence(tmp_path / "in")
    written(sequence, tmp_path / "out", "frames", chosen=(0,))
    assert (tmp_path / "out/frames" / original.name).read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_writes_frames_that_are_no_files(name, tmp_path):
    from kerbseg.keyframes.sequences import FrameSequence
    from kerbseg.predict.sources import Frame, Source

    frames = [Frame(np.full((8, 12, 3), i, np.uint8), i, 10**18 + i * 40_000_000) for i in range(6)]
    sequence = FrameSequence(Source("made", lambda: iter(frames)), "video")
    for file in written(sequence, tmp_path / "out", name):
        assert (tmp_path / "out" / file).is_file()
    pictures = sorted((tmp_path / "out").rglob("*.png"))
    assert [shown(each) for each in pictures] == [1, 4]


def test_times_stand_in_names_or_are_told(tmp_path):
    for i, stamp in enumerate(reversed(STAMPS)):
        picture(tmp_path / "ns" / f"left_{stamp}.png", i)
    assert [frame.time_ns for frame in open_sequence(tmp_path / "ns").source] == STAMPS
    for i in range(4):
        picture(tmp_path / "plain" / f"0016E5_{7959 + 2 * i}.png", i)
    with pytest.raises(InputError, match="--fps"):
        open_sequence(tmp_path / "plain")
    times = [frame.time_ns for frame in open_sequence(tmp_path / "plain", fps=15).source]
    assert times == [0, 66666667, 133333333, 200000000]
    assert len(open_sequence(tmp_path / "plain" / "*.png", fps=15).entries) == 4
    assert [frame.time_ns for frame in open_sequence(tmp_path / "ns", fps=10).source][:2] == [0, 100_000_000]


def test_what_has_times_of_its_own_takes_no_rate(kitti):
    with pytest.raises(InputError, match="of its own"):
        open_sequence(kitti, fps=15)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("rgb.txt", "1.0 rgb/none.png\n", "not there"),
        ("rgb.txt", "1.0\n", "line 1"),
        ("rgb.txt", "soon a.png\n", "soon"),
        ("rgb.txt", "# nothing\n", "no pictures"),
        ("rgb.txt", "2.0 a.png\n1.0 a.png\n", "not later"),
        ("data.csv", "1.5e9,a.png\n", "line 1"),
        ("times.txt", "0.0\n0.1\n", "2 times"),
        ("times.txt", "nan\n", "nan"),
        ("rgb.txt", "1e400 a.png\n", "1e400"),
        ("rgb.txt", "1e99999999999 a.png\n", "1e99999999999"),  # an int of that would fill the memory
        ("data.csv", "9" * 5000 + ",a.png\n", "line 1"),  # more digits than Python reads
        ("data.csv", "9999999999999999999,../a.png\n", "19 digits"),
    ],
)
def test_lists_that_cannot_be_used_are_named(file, text, says, tmp_path):
    picture(tmp_path / "a.png", 0)
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=says) as error:
        open_sequence(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_what_is_no_sequence_is_named(tmp_path):
    for given in (tmp_path, tmp_path / "nothing", tmp_path / "*.png"):
        with pytest.raises(DataError):
            open_sequence(given)


def test_times_of_a_slam_system_are_matched_within_half_a_frame(tmp_path):
    path = tmp_path / "KeyFrameTrajectory.txt"
    path.write_text("0.100001 0 0 0 0 0 0 1\n0.349 0 0 0 0 0 0 1\n9.0 0 0 0 0 0 0 1\n")
    frames = [i * 100_000_000 for i in range(6)]
    assert read_times(path)[:2] == [100_001_000, 349_000_000]
    assert nearest_frames(read_times(path), frames) == [1, 3, None]
    path.write_text(f"{STAMPS[2]}\n")
    assert nearest_frames(read_times(path), STAMPS) == [2]
    path.write_text("# empty\n")
    with pytest.raises(DataError):
        read_times(path)


@pytest.mark.parametrize("text", ["1e300", "1e99999999999", "9" * 19, "9" * 5000, "inf", "nan", "-1e10"])
def test_times_of_a_slam_system_fit_into_64_bits(text, tmp_path):
    path = tmp_path / "due.txt"
    path.write_text(f"0.1 0 0 0\n{text} 0 0 0\n")
    with pytest.raises(DataError, match="line 2"):
        read_times(path)


@pytest.mark.parametrize("fps", [1e-300, 1e-7, 1.1e6, float("nan"), float("inf"), 0, -1])
def test_a_rate_is_one_of_a_camera(fps, tmp_path):
    for i in range(2):
        picture(tmp_path / f"{i}.png", i)
    with pytest.raises(InputError, match="a rate of"):
        open_sequence(tmp_path, fps)


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_of_one_name_in_several_folders_stay_apart(name, tmp_path):
    for i in range(3):
        picture(tmp_path / f"in/{i}/left.png", 10 * i)
    written(open_sequence(tmp_path / "in/*/left.png", 10), tmp_path / "out", name, (0, 1, 2))
    if name == "colmap":
        assert (tmp_path / "out/image_list.txt").read_text().split() == [f"{i}/left.png" for i in range(3)]
    else:
        values = [np.array(Image.open(each))[0, 0, 0] for each in (tmp_path / "out").rglob("*.png")]
        assert sorted(values) == [0, 10, 20]


def test_colmap_lists_files_outside_of_the_folder(tmp_path):
    picture(tmp_path / "a.png", 0)
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk/rgb.txt").write_text("1.0 ../a.png\n")
    written(open_sequence(tmp_path / "desk"), tmp_path / "out", "colmap", (0,))
    assert (tmp_path / "out/image_list.txt").read_text() == "../a.png\n"


def test_seconds_before_zero():
    assert [seconds(each) for each in (-1_500_000_000, -1000, 0, 1_500_000_000)] == [
        "-1.500000",
        "-0.000001",
        "0.000000",
        "1.500000",
    ]


def test_poses_without_times_are_no_times(tmp_path):
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(DataError, match="without a time"):
        read_times(tmp_path / "poses.txt")
