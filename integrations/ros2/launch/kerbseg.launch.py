"""`ros2 launch kerbseg_ros kerbseg.launch.py image:=/cam/image_raw model:=best.safetensors`"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {
    "model": ("mininet_v2_cpu-camvid", str, "Model: a file, a run folder, or the name of shipped weights"),
    "image": ("/image_raw", str, "Topic with pictures"),
    "out": ("/kerbseg", str, "Before the names of the topics that are published"),
    "confidence": ("false", bool, "Also publish the probability of each pixel's class"),
    "overlay": ("false", bool, "Also publish the picture under its classes' colors"),
    "size": ("", str, "HEIGHTxWIDTH that pictures are looked at"),
    "roi": ("", str, "X,Y,W,H of the part that is looked at"),
}


def generate_launch_description() -> LaunchDescription:
    """The node, with its parameters as arguments."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, _, text) in ARGUMENTS.items()
    ]
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, (_, kind, _) in ARGUMENTS.items()
    }
    node = Node(package="kerbseg_ros", executable="segment", name="kerbseg", output="screen", parameters=[parameters])
    return LaunchDescription([*declared, node])
