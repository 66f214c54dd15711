"""Prediction and evaluation on many machines: work in shards, results that are whole and there once, whoever is killed.

Everything but `pool` knows no cluster: a `Run` takes a task and its shards, and one that runs them in this process does
for tests.
"""

from kerbseg.cluster.evaluating import EvaluateTask, evaluate_on
from kerbseg.cluster.items import Item, Shard, find_items, shards_of
from kerbseg.cluster.job import PredictTask
from kerbseg.cluster.model import ModelFiles
from kerbseg.cluster.predicting import ClusterReport, predict_items
from kerbseg.cluster.rle import decode_runs, encode_runs
from kerbseg.cluster.task import Run, Task, run_here

__all__ = [
    "ClusterReport",
    "EvaluateTask",
    "Item",
    "ModelFiles",
    "PredictTask",
    "Run",
    "Shard",
    "Task",
    "decode_runs",
    "encode_runs",
    "evaluate_on",
    "find_items",
    "predict_items",
    "run_here",
    "shards_of",
]
