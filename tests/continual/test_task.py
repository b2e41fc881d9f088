import pytest
import torch

from fxgrow.continual import split_classes
from fxgrow.continual.task import require_learned, require_new
from fxgrow.data import DataSet, Splits
from fxgrow.errors import DataError


def splits(each: int = 10, classes: int = 6, test: int = 2) -> Splits:
    """Images that say their class and their number."""

    def part(count: int, offset: float) -> DataSet:
        labels = torch.arange(count * classes) % classes
        return DataSet(
            (labels + (torch.arange(len(labels)) + offset) / 1000)[:, None, None, None], labels
        )

    return Splits("numbers", part(each, 0.0), part(test, 0.5), classes, (0.0,), (1.0,))


def test_tasks_share_no_class_and_count_from_zero() -> None:
    tasks = split_classes(splits(), 3)
    assert [task.name for task in tasks] == ["1", "2", "3"]
    assert sorted(label for task in tasks for label in task.labels) == list(range(6))
    for task in tasks:
        for part in (task.train, task.valid, task.test):
            assert set(part.labels.tolist()) == {0, 1} and task.classes == 2
            assert part.images.flatten().int().tolist() == [
                task.labels[label] for label in part.labels
            ]


def test_every_image_is_in_one_place() -> None:
    data = splits()
    tasks = split_classes(data, 3, valid_share=0.2)
    for task in tasks:
        assert (len(task.train), len(task.valid), len(task.test)) == (16, 4, 4)
    train = torch.cat(
        [part.images.flatten() for task in tasks for part in (task.train, task.valid)]
    )
    assert torch.equal(train.sort().values, data.train.images.flatten().sort().values)
    test = torch.cat([task.test.images.flatten() for task in tasks])
    assert torch.equal(test.sort().values, data.test.images.flatten().sort().values)


def test_the_seed_deals() -> None:
    dealt = [
        [task.labels for task in split_classes(splits(), 3, seed=seed)] for seed in (0, 0, 1, 2)
    ]
    assert dealt[0] == dealt[1] and len({str(one) for one in dealt}) == 3


@pytest.mark.parametrize("tasks", [0, -1, 4, 6])
def test_what_cannot_be_dealt_evenly_is_refused(tasks: int) -> None:
    with pytest.raises(
        DataError, match=f"6 classes of numbers cannot be dealt out to {tasks} tasks"
    ) as caught:
        split_classes(splits(), tasks)
    assert caught.value.code == "classes"


@pytest.mark.parametrize(("each", "test"), [(0, 2), (10, 0)])
def test_a_task_without_images_is_refused(each: int, test: int) -> None:
    with pytest.raises(DataError, match="is left without images") as caught:
        split_classes(splits(each, test=test), 3)
    assert caught.value.code == "no-images"


def test_names_of_tasks_that_were_learnt_and_of_those_that_were_not() -> None:
    learnt = {"a": 1, "b": 2}
    assert require_learned(learnt, "b") == "b"
    require_new(learnt, "z")
    with pytest.raises(DataError, match=r"'z' was not learnt \(a, b\)") as caught:
        require_learned(learnt, "z")
    assert caught.value.code == "unknown-task"
    with pytest.raises(DataError, match="'a' was learnt already") as caught:
        require_new(learnt, "a")
    assert caught.value.code == "known-task"
