"""Loading: the order follows from seed and epoch, and sizes that differ are named."""

import numpy as np
import pytest
import torch

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import Sample
from kerbseg.data.loading import EpochShuffle, InMemory, OnDisk, Resized, training_loader, validation_loader


class Numbered:
    """Sample i is a picture of the grey i."""

    name, split, labels = "numbered", "train", label_set("camvid")

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        grey = np.full((3, height, width), index, np.uint8)
        return Sample(grey, grey[0] % 11, str(index))


def test_order_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochShuffle(20, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert sorted(order(0, 3)) == list(range(20))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("kind", [InMemory, OnDisk])
def test_batches_are_uint8_and_whole(kind):
    data = kind(Numbered([(8, 16)] * 10))
    batches = list(training_loader(data, batch_size=4, seed=0, workers=0))
    assert [batch["image"].shape for batch in batches] == [(4, 3, 8, 16)] * 2
    for batch in batches:
        assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
        assert [int(name) for name in batch["name"]] == batch["image"][:, 0, 0, 0].tolist()
    names = [name for batch in validation_loader(data, 4, 0) for name in batch["name"]]
    assert names == [str(i) for i in range(10)]


def test_sizes_that_differ_name_the_picture_and_the_key():
    with pytest.raises(DataError, match=r"'1' is 16x12 but '0' is 16x8; set data.size"):
        InMemory(Numbered([(8, 16), (12, 16)]))


def test_resizing_brings_all_to_one_size_and_mixes_no_ids():
    sample = Resized(Numbered([(8, 16), (12, 16)]), (6, 10))[1]
    assert sample.image.shape == (3, 6, 10)
    assert sample.mask.shape == (6, 10)
    assert set(np.unique(sample.mask)) == {1}


def test_fewer_pictures_than_a_batch_are_refused():
    with pytest.raises(DataError, match="3 training pictures are fewer than batch_size=4"):
        training_loader(InMemory(Numbered([(8, 8)] * 3)), 4, 0, 0)
