"""Loading: the order follows from seed and epoch, and sizes that differ are named."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kerbseg.core.distributed import Rank
from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import Sample
from kerbseg.data import open_dataset
from kerbseg.data.loading import (
    CenterCropped,
    ConcatDataset,
    InMemory,
    OnDisk,
    Resized,
    SelectedByName,
    rare_loader,
    training_loader,
    validation_loader,
)
from kerbseg.data.samplers import EpochShuffle, RareShuffle


class Numbered:
    """Sample i is a picture of the gray i."""

    name, split, labels = "numbered", "train", label_set("camvid")

    def __init__(self, sizes):
        self.sizes = sizes

    @property
    def names(self):
        return [str(index) for index in range(len(self.sizes))]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        gray = np.full((height, width, 3), index, np.uint8)
        return Sample(gray, gray[..., 0] % 11, str(index))


def test_order_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochShuffle(20, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert sorted(order(0, 3)) == list(range(20))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["1*"], [1, 10, 11]),
        (["1*", "?"], [*range(10), 10, 11]),
        (["!1*"], [0, *range(2, 10)]),
        (["!1*", "??", "3"], [3]),
        (["1*", "!10"], [1, 11]),
    ],
)
def test_names_say_which_samples_are_taken(patterns, taken):
    data = SelectedByName(Numbered([(8, 16)] * 12), patterns)
    assert len(data) == len(taken)
    assert [int(name) for name in data.names] == [int(data[i].image[0, 0, 0]) for i in range(len(data))] == taken


def test_names_that_fit_nothing_are_refused_with_one_that_is_there():
    with pytest.raises(
        DataError, match="split 'train' of 'numbered' has a name that fits a\\*, !1; names are such as '0'"
    ):
        SelectedByName(Numbered([(8, 16)] * 2), ["a*", "!1"])


@pytest.mark.parametrize("whole", [open_dataset("scenes", "val"), Numbered([(8, 16)] * 7)], ids=["scenes", "numbered"])
def test_names_are_those_of_the_samples_however_wrapped(whole):
    data = ConcatDataset([Resized(whole, (16, 32)), SelectedByName(whole, ["*[13]"])], limit=2)
    assert data.names == [data[i].name for i in range(4)]


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
    with pytest.raises(DataError, match=r"'1' is 12x16 but '0' is 8x16 \(HxW\); set data.size"):
        InMemory(Numbered([(8, 16), (12, 16)]))


def test_resizing_brings_all_to_one_size_and_mixes_no_ids():
    sample = Resized(Numbered([(8, 16), (12, 16)]), (6, 10))[1]
    assert sample.image.shape == (6, 10, 3)
    assert sample.mask.shape == (6, 10)
    assert set(np.unique(sample.mask)) == {1}


def test_fewer_pictures_than_a_batch_are_refused():
    with pytest.raises(DataError, match="3 training pictures are fewer than batch_size=4"):
        training_loader(InMemory(Numbered([(8, 8)] * 3)), 4, 0, 0)


BUS, TRAIN = {1: [(3.0, 2.0)], 4: [(5.0, 1.0), (9.0, 7.0)]}, {2: [(1.0, 1.0)]}


def test_rare_classes_come_as_often_as_asked_each_around_one_of_its_objects():
    order = RareShuffle(6, [BUS, TRAIN], extra=50, seed=0)
    draws = list(order)
    assert len(draws) == len(order) == 6 + 2 * 50
    assert sorted(draw.picture for draw in draws if np.isnan(draw.x)) == list(range(6))
    extra = [(draw.picture, (draw.x, draw.y)) for draw in draws if not np.isnan(draw.x)]
    assert all(point in {**BUS, **TRAIN}[picture] for picture, point in extra)
    assert sum(picture in TRAIN for picture, _ in extra) == 50
    # pictures are drawn alike, however many objects they have
    assert 15 <= sum(picture == 1 for picture, _ in extra) <= 35
    assert {point for picture, point in extra if picture == 4} == set(BUS[4])


def test_the_order_with_rare_classes_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = RareShuffle(6, [BUS], 20, seed)
        sampler.set_epoch(epoch)
        return [(draw.picture, str(draw.x)) for draw in sampler]

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


@pytest.mark.parametrize("kind", [InMemory, OnDisk])
def test_a_batch_knows_what_its_crops_must_show(kind):
    order = RareShuffle(6, [BUS, TRAIN], extra=3, seed=0)
    batches = list(rare_loader(kind(Numbered([(8, 16)] * 6)), order, batch_size=4, workers=0))
    assert len(batches) == 3
    draws = list(order)
    for number, batch in enumerate(batches):
        for i, draw in enumerate(draws[4 * number : 4 * number + 4]):
            assert batch["name"][i] == str(draw.picture)
            assert np.array_equal(batch["focus"][i], np.array([draw.x, draw.y]), equal_nan=True)
    with pytest.raises(DataError, match="12 training pictures are fewer than batch_size=13"):
        rare_loader(kind(Numbered([(8, 16)] * 6)), order, 13, 0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_left_of_an_epoch_is_a_smaller_batch_where_it_is_wanted(count):
    data = InMemory(Numbered([(8, 16)] * 20))

    def names(process: Rank, drop_last: bool) -> list[list[str]]:
        loader = training_loader(data, 8, 0, 0, process, drop_last)
        loader.sampler.set_epoch(1)
        batches = [batch["name"] for batch in loader]
        assert len(batches) == len(loader)
        return batches

    parts = [names(Rank(index, count), False) for index in range(count)]
    whole = [[name for part in parts for name in part[i]] for i in range(3)]
    assert [len(batch) for batch in whole] == [8, 8, 4]
    assert sorted(name for batch in whole for name in batch) == sorted(data._names)
    assert whole == names(Rank(), False)
    assert whole[:2] == names(Rank(), True)


def test_a_last_batch_that_cannot_be_shared_is_named():
    data = InMemory(Numbered([(8, 16)] * 9))
    with pytest.raises(DataError, match="a batch of 1, which 2 processes cannot share alike; set drop_last=true"):
        training_loader(data, 4, 0, 0, Rank(0, 2), drop_last=False)
    assert len(training_loader(data, 12, 0, 0, drop_last=False)) == 1  # fewer than one batch needs


def test_the_middle_of_a_picture_is_its_middle():
    sample = CenterCropped(Gradient(), (4, 6))[0]
    assert sample.mask.tolist() == [[16 * y + x for x in range(5, 11)] for y in range(2, 6)]
    assert (sample.image[..., 0] == sample.mask).all()
    with pytest.raises(DataError, match=r"picture '0' is 8x16 .* smaller than the middle of 9x6"):
        CenterCropped(Gradient(), (9, 6))[0]


class Gradient(Numbered):
    """Each pixel has its own value."""

    def __init__(self):
        super().__init__([(8, 16)])

    def __getitem__(self, index):
        values = np.arange(128, dtype=np.uint8).reshape(8, 16)
        return Sample(np.repeat(values[..., None], 3, 2), values, "0")


@pytest.mark.parametrize("rare", [False, True])
def test_the_rows_of_all_processes_make_up_the_batches_of_one(rare):
    data = InMemory(Numbered([(8, 16)] * 14))

    def batches(process):
        if not rare:
            loader = training_loader(data, 6, 0, 0, process)
        else:
            loader = rare_loader(data, RareShuffle(14, [BUS, TRAIN], 3, seed=0), 6, 0, process)
        loader.sampler.set_epoch(2)
        assert len(loader) == len(list(loader))
        return list(loader)

    alone, parts = batches(Rank()), [batches(Rank(rank, 3)) for rank in range(3)]
    assert len(alone) == (3 if rare else 2)
    for batch, *others in zip(alone, *parts, strict=True):
        assert [len(other["name"]) for other in others] == [2, 2, 2]
        assert [name for other in others for name in other["name"]] == batch["name"]
        assert torch.equal(torch.cat([other["image"] for other in others]), batch["image"])
        if rare:
            assert torch.equal(
                torch.cat([other["focus"] for other in others]).nan_to_num(-1), batch["focus"].nan_to_num(-1)
            )


def test_each_picture_is_validated_by_one_process():
    data = InMemory(Numbered([(8, 16)] * 7))
    parts = [validation_loader(data, 4, 0, Rank(rank, 2)) for rank in range(2)]
    names = [[int(name) for batch in part for name in batch["name"]] for part in parts]
    assert names == [[0, 2, 4, 6], [1, 3, 5]]
    with pytest.raises(DataError, match="1 validation pictures are fewer than the 2 processes"):
        validation_loader(InMemory(Numbered([(8, 16)])), 4, 0, Rank(0, 2))


def test_pictures_in_memory_need_no_workers():
    data = Numbered([(8, 16)] * 4)
    assert training_loader(InMemory(data), 2, 0, workers=1).num_workers == 0
    assert training_loader(OnDisk(data), 2, 0, workers=1).num_workers == 1


def test_pictures_on_a_device_are_gathered_there():
    data = InMemory(Numbered([(8, 16)] * 4), torch.device("meta"))  # the one device besides the CPU that is everywhere
    batch = data.__getitems__([2, 0])
    assert batch["image"].device.type == batch["mask"].device.type == "meta"
    assert batch["name"] == ["2", "0"]


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_loader_stacks_a_data_set(workers):
    dataset = open_dataset("scenes", "val")
    batch = next(iter(DataLoader(dataset, batch_size=2, num_workers=workers)))
    assert batch.image.dtype == batch.mask.dtype == torch.uint8
    assert list(batch.name) == list(dataset.names[:2])
    for index in range(2):
        assert (batch.image[index].numpy() == dataset[index].image).all()
        assert (batch.mask[index].numpy() == dataset[index].mask).all()
