"""Bags that tests read, written by others: the `mcap` project's own library, and rosbags for sqlite3 and ROS 1."""

from pathlib import Path

import numpy as np

START = 1_700_000_000_123_456_789  # the first header's stamp
STEP = 40_000_000  # 25 a second
LATE = 3_000_000  # of a recording behind the picture
HEADER = (
    f"{'=' * 80}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    f"{'=' * 80}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)
IMAGE = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
    f"uint8[] data\n{HEADER}"
)
COMPRESSED = f"std_msgs/Header header\nstring format\nuint8[] data\n{HEADER}"


def pictures(count, size=(24, 32), seed=0):
    """Pictures that a runtime of brightness sees halves of."""
    generator = np.random.default_rng(seed)
    made = generator.integers(0, 256, (count, *size, 3), np.uint8)
    made[:, :, : size[1] // 2] //= 2
    return list(made)


def header(stamp_ns, frame_id="front_camera"):
    return {"stamp": {"sec": stamp_ns // 10**9, "nanosec": stamp_ns % 10**9}, "frame_id": frame_id}


def raw(picture, stamp_ns, encoding="rgb8", frame_id="front_camera"):
    """`sensor_msgs/Image` as a dictionary, of pixels that already are in the encoding's order."""
    height, width = picture.shape[:2]
    return {
        "header": header(stamp_ns, frame_id),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": picture[0].size,
        "data": picture.tobytes(),
    }


def write_mcap(path: Path, cameras, others=True, chunk_size=8000, stamps=None):
    """A bag of `{topic: pictures}` (arrays: Image; bytes: CompressedImage), with text between the pictures."""
    from mcap_ros2.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_size)
        image = writer.register_msgdef("sensor_msgs/msg/Image", IMAGE)
        compressed = writer.register_msgdef("sensor_msgs/msg/CompressedImage", COMPRESSED)
        text = writer.register_msgdef("std_msgs/msg/String", "string data\n")
        longest = max(map(len, cameras.values()), default=3)
        for n in range(longest):
            stamp = START + n * STEP if stamps is None else stamps[n]
            log = START + n * STEP + LATE
            for topic, frames in cameras.items():
                if n >= len(frames):
                    continue
                if isinstance(frames[n], bytes):
                    content = {"header": header(stamp), "format": "rgb8; jpeg compressed bgr8", "data": frames[n]}
                    writer.write_message(topic, compressed, content, log_time=log, publish_time=log - 1, sequence=n)
                else:
                    message = frames[n] if isinstance(frames[n], dict) else raw(frames[n], stamp)
                    writer.write_message(topic, image, message, log_time=log, publish_time=log - 1, sequence=n)
            if others:
                writer.write_message("/chat", text, {"data": f"between {n}"}, log_time=log + STEP // 2)
        writer.finish()
    return path


def write_rosbag2(path: Path, frames, plugin="SQLITE3", topic="/cam/image_raw"):
    """A rosbag2 folder by rosbags."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=8, storage_plugin=StoragePlugin[plugin]) as writer:
        camera = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
        chat = writer.add_connection("/chat", "std_msgs/msg/String", typestore=store)
        for n, picture in enumerate(frames):
            stamp = START + n * STEP
            writer.write(camera, stamp + LATE, store.serialize_cdr(_image(store, picture, stamp), camera.msgtype))
            text = store.types["std_msgs/msg/String"](f"between {n}")
            writer.write(chat, stamp + LATE + STEP // 2, store.serialize_cdr(text, chat.msgtype))
    return path


def write_ros1(path: Path, frames, topic="/cam/image_raw", chunk_size=2**20, compression=None):
    """A ROS 1 bag by rosbags, whose text is latched."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    new = Writer(path)
    new.chunk_threshold = chunk_size
    if compression is not None:
        new.set_compression(Writer.CompressionFormat[compression])
    with new as writer:
        camera = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
        chat = writer.add_connection("/chat", "std_msgs/msg/String", typestore=store, latching=1)
        for n, picture in enumerate(frames):
            stamp = START + n * STEP
            message = _image(store, picture, stamp, n)
            writer.write(camera, stamp + LATE, store.serialize_ros1(message, camera.msgtype))
            text = store.types["std_msgs/msg/String"](f"between {n}")
            writer.write(chat, stamp + LATE + STEP // 2, store.serialize_ros1(text, chat.msgtype))
    return path


def _image(store, picture, stamp, *sequence):
    types = store.types
    time = types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    head = types["std_msgs/msg/Header"](*sequence, time, "front_camera")
    height, width = picture.shape[:2]
    return types["sensor_msgs/msg/Image"](head, height, width, "rgb8", 0, 3 * width, picture.reshape(-1))


def read_mcap(path: Path):
    """`(topic, log time, message or None, bytes, channel's metadata)` of all messages, by the mcap project's reader."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        return [
            (channel.topic, message.log_time, decoded, message.data, channel.metadata)
            for _, channel, message, decoded in reader.iter_decoded_messages()
        ]


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def gray_of(message):
    assert message.encoding == "mono8"
    assert message.step == message.width
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
