"""The package as colcon builds it."""

from setuptools import setup

NAME = "kerbseg_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/kerbseg.launch.py"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    description="Semantic segmentation of a camera's pictures with kerbseg",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"segment = {NAME}.node:main"]},
)
