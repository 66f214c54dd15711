"""Writes `checkpoint/`, the test data of the reader, with TensorFlow's own Saver; tests do not run it.

    python -m venv /tmp/tensorflow && /tmp/tensorflow/bin/pip install tensorflow-cpu
    /tmp/tensorflow/bin/python tests/importers/make_checkpoint.py tests/importers/checkpoint

The files there are those of TensorFlow 2.21.0. Two variables are not for reading: one is partitioned, as large
variables of several machines are, one is bfloat16.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def values() -> dict[str, np.ndarray]:
    """Names and layouts of the authors' networks and of their optimiser; the test spells the same numbers."""
    return {
        "conv2d/kernel": np.arange(-27, 27, dtype=np.float32).reshape(3, 3, 3, 2) / 8,
        "conv2d/kernel/Adam": np.full((3, 3, 3, 2), 0.5, np.float32),
        "batch_normalization/gamma": np.array([1.0, -0.25], np.float32),
        "batch_normalization/moving_variance": np.array([0.1, 3e-38], np.float32),
        "statistics": np.array([[1 / 3, -1e300]]),
        "counts": np.array([-1, 2, -(2**31)], np.int32),
        "global_step": np.array(2**40 + 3),
        "nothing": np.zeros((0, 4), np.float32),
    }


def main(folder: Path) -> None:
    v1 = tf.compat.v1
    two = v1.ConfigProto(device_count={"CPU": 2})  # of which each gets a data file of its own
    with tf.Graph().as_default(), v1.Session(config=two) as session:
        for number, (name, array) in enumerate(values().items()):
            with tf.device(f"/cpu:{number % 2}"):
                v1.get_variable(name, initializer=array, use_resource=False)
        halves = v1.fixed_size_partitioner(2)
        v1.get_variable("embedding", initializer=tf.reshape(tf.range(8.0), [4, 2]), partitioner=halves)
        v1.get_variable("half", initializer=tf.constant([1.0, 2.0], tf.bfloat16), use_resource=False)
        session.run(v1.global_variables_initializer())
        folder.mkdir(parents=True, exist_ok=True)
        v1.train.Saver(sharded=True).save(session, str(folder / "small"), write_meta_graph=False, write_state=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
