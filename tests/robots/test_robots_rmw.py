"""Names, tokens and what goes with a message are those that rmw_zenoh's design document shows."""

import pytest

from kerbseg.core.errors import KerbsegError

pytest.importorskip("rosbags", reason="rosbags is not installed")

from kerbseg.robots.messages import IMAGE
from kerbseg.robots.rmw import (
    NO_HASH,
    NODE,
    PUBLISHER,
    SUBSCRIPTION,
    Entity,
    Qos,
    attachment,
    checked_domain,
    checked_node,
    checked_topic,
    hash_of,
    number_of,
    topic_key,
)

STRING = "std_msgs/msg/String"
STRING_HASH = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"


@pytest.mark.parametrize("topic", ["chatter", "/chatter"])
def test_a_topics_key_is_that_of_the_document(topic):
    key = topic_key(0, topic, STRING, hash_of(STRING, hashes=True))
    assert key == f"0/chatter/std_msgs::msg::dds_::String_/{STRING_HASH}"
    assert topic_key(2, "/robot1/chatter", STRING, "*") == "2/robot1/chatter/std_msgs::msg::dds_::String_/*"
    assert hash_of(IMAGE, hashes=False) == NO_HASH


def test_tokens_are_those_of_the_document():
    session = "aac3178e146ba6f1fc6e6a4085e77f21"
    assert Entity(2, session, 0, NODE, "listener").token == f"@ros2_lv/2/{session}/0/0/NN/%/%/listener"
    listens = Entity(2, session, 10, SUBSCRIPTION, "listener", "/chatter", STRING, STRING_HASH, Qos(depth=10))
    end = f"%chatter/std_msgs::msg::dds_::String_/{STRING_HASH}"
    assert listens.token == f"@ros2_lv/2/{session}/0/10/MS/%/%/listener/{end}/::,10:,:,:,,"
    talks = Entity(2, session, 10, PUBLISHER, "talker", "/chatter", STRING, STRING_HASH, Qos(depth=7))
    assert talks.token == f"@ros2_lv/2/{session}/0/10/MP/%/%/talker/{end}/::,7:,:,:,,"


def test_what_is_kept_and_what_may_be_lost_is_told():
    assert str(Qos(depth=1, latched=True)) == ":1:,1:,:,:,,"
    assert str(Qos(depth=1, best_effort=True)) == "2::,1:,:,:,,"


def test_a_gid_is_the_hash_of_the_token():
    xxhash = pytest.importorskip("xxhash", reason="xxhash is not installed")
    entity = Entity(0, "ab", 0, NODE, "kerbseg")
    low, high = entity.gid[:8], entity.gid[8:]
    digest = xxhash.xxh3_128_digest(entity.token.encode())  # the higher half first, as numbers are written
    assert high[::-1] + low[::-1] == digest
    assert Entity(0, "ab", 0, NODE, "other").gid != entity.gid


def test_what_goes_with_a_message_is_zenohs_serialization():
    data = attachment(5, 1_700_000_000_000_000_007, bytes(range(16)))
    assert number_of(data) == (5, bytes(range(16)))
    assert number_of(b"") is None
    assert number_of(data[:-1]) is None
    assert number_of(data[:16] + b"\x0f" + data[17:]) is None
    ext = pytest.importorskip("zenoh.ext", reason="eclipse-zenoh is not installed")
    made = ext.z_serialize((ext.Int64(5), ext.Int64(1_700_000_000_000_000_007), bytes(range(16))))
    assert bytes(made) == data


@pytest.mark.parametrize("name", ["", "/", "/cam/", "cam//image", "/1cam", "/cam image", "~/image", "/a__b", "/cam/*"])
def test_what_is_no_topic_is_refused(name):
    with pytest.raises(KerbsegError, match="no name of ROS"):
        checked_topic(name)
    assert checked_topic("cam/image_raw") == checked_topic("/cam/image_raw") == "/cam/image_raw"


def test_what_is_no_domain_and_no_node_is_refused():
    for domain in (-1, 233):
        with pytest.raises(KerbsegError, match="0 to 232"):
            checked_domain(domain)
    for name in ("", "a/b", "1a", "a b"):
        with pytest.raises(KerbsegError, match="no name of ROS"):
            checked_node(name)
