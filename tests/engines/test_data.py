"""Batches: read through loaders of our own, the same at every reading; and the rules of judging."""

from __future__ import annotations

import collections
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_tasks import CPU
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
)
from torch.utils.data.distributed import DistributedSampler

from etascope.engines import data as data_module
from etascope.engines.data import Shelf, Stream, map_tensors, nonfinite, rebuild, rows, tensors
from etascope.engines.judging import LAST_TENTH, final_loss, plan_judging, thin
from etascope.engines.randomness import Source, derive, kept, seed_all
from etascope.errors import TaskError

N = 20


class Numbers(Dataset[Tensor]):
    """0 … 19, as one-element tensors."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Tensor:
        return torch.tensor([float(i)])


class Augmented(Numbers):
    """Draws from every global generator."""

    def __getitem__(self, i: int) -> Tensor:
        return torch.tensor([i + random.random(), np.random.rand(), float(torch.rand(()))])


class Flow(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(i)]) for i in range(7))


class OwnRandomness(Sampler[int]):
    """Its generators are none that torch knows of."""

    def __init__(self) -> None:
        self.rng, self.old, self.python = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
        self.g = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        half = self.rng.permutation(N // 4).tolist() + (N // 4 + self.old.permutation(N // 4)).tolist()
        last = list(range(N // 2, 3 * N // 4))
        self.python.shuffle(last)
        yield from half + last + (3 * N // 4 + torch.randperm(N // 4, generator=self.g)).tolist()


class Halves:
    """A batch sampler of the user's own, which shuffles by NumPy's global generator."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.permutation(N).tolist()
        yield order[: N // 2]
        yield order[N // 2 :]


def read(data: Any, n: int, seed: int = 0) -> list[Any]:
    return list(itertools.islice(Stream(data, seed, CPU).batches(), n))


def flat(batches: list[Any]) -> list[float]:
    return [x for b in batches for t in tensors(b) for x in t.flatten().tolist()]


LOADERS = {
    "shuffle": lambda: DataLoader(Numbers(), batch_size=6, shuffle=True),
    "generator": lambda: DataLoader(Numbers(), batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(1)),
    "sampler": lambda: DataLoader(Numbers(), batch_size=6, sampler=RandomSampler(range(N), replacement=True)),
    "own sampler": lambda: DataLoader(Numbers(), batch_size=6, sampler=OwnRandomness()),
    "batch_sampler": lambda: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(range(N)), 6, drop_last=True)
    ),
    "own batch_sampler": lambda: DataLoader(Numbers(), batch_sampler=Halves()),
    "no batches": lambda: DataLoader(Numbers(), batch_size=None, shuffle=True),
    "distributed": lambda: DataLoader(
        Numbers(), batch_size=6, sampler=DistributedSampler(Numbers(), num_replicas=2, rank=0)
    ),
    "augmented": lambda: DataLoader(Augmented(), batch_size=6),
}


class TestStreams:
    @pytest.mark.parametrize("kind", LOADERS)
    def test_the_seed_makes_the_batches(self, kind: str) -> None:
        loader = LOADERS[kind]()
        first = flat(read(loader, 9))
        torch.rand(3), np.random.rand(3), random.random()  # the state outside means nothing
        assert flat(read(loader, 9)) == first
        assert flat(read(LOADERS[kind](), 9)) == first
        assert flat(read(loader, 9, seed=1)) != first

    @pytest.mark.parametrize("kind", LOADERS)
    def test_epochs_differ(self, kind: str) -> None:
        loader = LOADERS[kind]()
        batches = read(loader, 2 * len(loader))
        assert flat(batches[: len(loader)]) != flat(batches[len(loader) :])

    @pytest.mark.parametrize("kind", LOADERS)
    def test_kept_and_read_again_are_equal(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = Stream(LOADERS[kind](), 0, CPU)
        partly = flat(list(itertools.islice(stream.batches(), 3)))
        whole = flat(list(itertools.islice(stream.batches(), 10)))  # three are kept, the rest is read
        again = flat(list(itertools.islice(stream.batches(), 10)))  # all are kept
        assert whole[: len(partly)] == partly
        assert again == whole
        monkeypatch.setattr(data_module, "CACHE_BYTES", 20)
        small = Stream(LOADERS[kind](), 0, CPU)
        for _ in range(3):
            torch.rand(1), np.random.rand()
            assert flat(list(itertools.islice(small.batches(), 10))) == whole
        assert not small._kept

    def test_reading_leaves_the_noise_alone(self) -> None:
        seed_all("noise")
        truth = torch.rand(8).tolist(), np.random.rand(8).tolist(), [random.random() for _ in range(8)]
        seed_all("noise")
        found: tuple[list[float], list[float], list[float]] = [], [], []
        for _ in itertools.islice(Stream(LOADERS["augmented"](), 0, CPU).batches(), 8):
            found[0].append(float(torch.rand(())))
            found[1].append(np.random.rand())
            found[2].append(random.random())
        seed_all("noise")
        assert found[0] == [float(torch.rand(())) for _ in range(8)]
        assert found[1:] == truth[1:]

    def test_a_list_keeps_its_order(self) -> None:
        batches = [torch.tensor([float(i)]) for i in range(3)]
        assert flat(read(batches, 7, seed=5)) == [0, 1, 2, 0, 1, 2, 0]

    def test_a_function_is_called_with_the_next_seed_when_it_is_exhausted(self) -> None:
        asked: list[int] = []

        def batches(seed: int) -> Iterator[Tensor]:
            asked.append(seed)
            yield from (torch.tensor([float(seed % 1000), float(i)]) for i in range(3))

        found = read(batches, 8)
        assert asked == [asked[0], asked[0] + 1, asked[0] + 2]
        assert [int(b[0]) for b in found] == [s % 1000 for s in asked for _ in range(3)][:8]
        first = asked[0]
        read(batches, 1, seed=1)
        assert asked[-1] != first

    def test_a_function_may_draw_from_the_global_generators(self) -> None:
        def batches(seed: int) -> Iterator[Tensor]:
            while True:
                yield torch.rand(2)

        first = flat(read(batches, 5))
        torch.rand(9)
        assert flat(read(batches, 5)) == first != flat(read(batches, 5, seed=1))

    def test_iterable_datasets(self) -> None:
        loader = DataLoader(Flow(), batch_size=3)
        assert [b.flatten().tolist() for b in read(loader, 4)] == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
        assert [b.flatten().tolist() for b in read(DataLoader(Flow(), batch_size=3, drop_last=True), 3)] == [
            *([0, 1, 2], [3, 4, 5]),
            [0, 1, 2],
        ]

    def test_batch_size_none(self) -> None:
        assert flat(read(DataLoader(Numbers(), batch_size=None), 3)) == [0, 1, 2]

    @pytest.mark.parametrize("kind", [Numbers, Augmented])
    def test_workers(self, kind: type[Numbers]) -> None:
        def loader(workers: int) -> DataLoader[Tensor]:
            return DataLoader(kind(), batch_size=6, shuffle=True, num_workers=workers)

        first = flat(read(loader(2), 6))
        assert flat(read(loader(2), 6)) == first
        assert flat(read(loader(2), 6, seed=1)) != first
        if kind is Numbers:
            assert sorted(first[:N]) == list(range(N))
            assert first == flat(read(loader(0), 6))

    @pytest.mark.parametrize(
        "empty",
        [
            DataLoader(Numbers(), batch_size=N + 1, drop_last=True),
            DataLoader(TensorDataset(torch.zeros(0, 3)), batch_size=2),
            lambda seed: iter([]),
        ],
    )
    def test_empty(self, empty: Any) -> None:
        with pytest.raises(TaskError, match="empty"):
            read(empty, 1)


class TestRebuild:
    def test_options_are_kept(self) -> None:
        own = rebuild(DataLoader(Numbers(), batch_size=7, drop_last=True, collate_fn=len), 0)
        assert list(own) == [7, 7]
        assert isinstance(own.sampler, SequentialSampler)

    def test_workers_stay_where_the_users_do(self) -> None:
        """An iterable dataset's workers keep their state from epoch to epoch only if they stay."""
        for persistent in (False, True):
            loader = DataLoader(Numbers(), num_workers=1, persistent_workers=persistent)
            assert rebuild(loader, 0).persistent_workers is persistent

    def test_shuffled_epochs_hold_everything_once(self) -> None:
        for kind in ("shuffle", "generator", "own sampler"):
            assert sorted(flat(list(rebuild(LOADERS[kind](), 3)))) == list(range(N))

    @pytest.mark.parametrize("kind", LOADERS)
    def test_the_users_loader_does_not_move(self, kind: str) -> None:
        touched, twin = LOADERS[kind](), LOADERS[kind]()
        read(touched, 5)
        found, truth = [], []
        for out, loader in ((found, touched), (truth, twin)):
            seed_all("outside")
            out += flat(list(loader))
        assert found == truth

    def test_the_dataset_is_shared_not_copied(self) -> None:
        dataset = Numbers()
        own = rebuild(DataLoader(dataset, batch_size=3, sampler=RandomSampler(dataset)), 0)
        assert own.dataset is dataset
        assert own.sampler.data_source is dataset


Pair = collections.namedtuple("Pair", ["left", "right"])


class TestNesting:
    def test_every_nesting(self) -> None:
        one = torch.ones(2)
        batch = {"a": [one, (one, "text", 3)], "b": Pair(one, None), "c": collections.OrderedDict(x=one)}
        out = map_tensors(batch, lambda t: t * 2)
        assert len(tensors(batch)) == 4
        assert all(torch.equal(t, one * 2) for t in tensors(out))
        assert isinstance(out["b"], Pair)
        assert out["a"][1][1:] == ("text", 3)
        assert isinstance(out["c"], collections.OrderedDict)
        assert out is not batch
        assert torch.equal(batch["a"][0], one)

    def test_mappings_that_cannot_be_made_from_items_become_dicts(self) -> None:
        batch = collections.defaultdict(list, x=torch.ones(1))
        assert map_tensors(batch, torch.neg) == {"x": -torch.ones(1)}

    def test_hugging_face(self) -> None:
        transformers = pytest.importorskip("transformers")
        batch = transformers.BatchEncoding({"input_ids": torch.ones(4, 2).long()})
        out = map_tensors(batch, torch.neg)
        assert type(out) is transformers.BatchEncoding
        assert torch.equal(out["input_ids"], -torch.ones(4, 2).long())
        assert rows(out) == 4

    def test_packed_sequences(self) -> None:
        packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
        assert torch.equal(map_tensors(packed, torch.clone).data, packed.data)

    def test_rows(self) -> None:
        assert rows((torch.tensor(1.0), torch.zeros(5, 2))) == 5
        assert rows([torch.tensor(1.0)]) == 1
        assert rows("nothing") == 1

    def test_nonfinite(self) -> None:
        assert nonfinite((torch.ones(2), torch.tensor([1]))) is None
        fault = nonfinite((torch.ones(2), torch.tensor([[1.0, math.nan, math.inf]])))
        assert fault == "tensor 1 (shape (1, 3)) has 2 of 3 values NaN or infinite"


class TestRandomness:
    def test_derive_is_stable(self) -> None:
        assert derive("data", 3) == derive("data", 3)
        assert len({derive("data", i) for i in range(1000)}) == 1000
        assert all(0 <= derive(i) < 2**31 for i in range(1000))

    def test_kept(self) -> None:
        before = random.getstate(), torch.get_rng_state()
        with pytest.raises(KeyboardInterrupt), kept():
            seed_all("x")
            raise KeyboardInterrupt
        assert random.getstate() == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])

    def test_a_source_goes_on_where_it_stopped(self) -> None:
        one, other = Source("a"), Source("a")
        with one.inside():
            truth = torch.rand(6).tolist(), np.random.rand(6).tolist()
        found: list[float] = []
        for _ in range(6):
            torch.rand(1)
            with other.inside():
                found.append(np.random.rand())
        assert found == truth[1]


class TestJudging:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 120))
    def test_thin(self, losses: list[float], points: int) -> None:
        curve = thin(losses, points)
        assert len(curve) == min(points, len(losses))
        steps = [s for s, _ in curve]
        assert steps == sorted(set(steps))
        assert steps[-1] == len(losses)
        widths = np.diff([0, *steps])
        assert widths.max() - widths.min() <= 1
        assert np.dot(widths, [v for _, v in curve]) == pytest.approx(math.fsum(losses), abs=1e-4)
        assert all(min(losses) - 1e-9 <= v <= max(losses) + 1e-9 for _, v in curve)
        if len(losses) <= points:
            assert curve == tuple((i + 1, v) for i, v in enumerate(losses))

    @settings(max_examples=300)
    @example(60, False, 1, [20, 20, 2])  # the mean of the batches' rows would not do
    @given(
        st.integers(1, 5000),
        st.booleans(),
        st.integers(1, 256),
        st.one_of(
            st.lists(st.integers(1, 300), min_size=1, max_size=40),
            st.builds(
                lambda n, b, last: [b] * n + [min(b, last)],
                st.integers(0, 60),
                st.integers(1, 256),
                st.integers(1, 256),
            ),
        ),
    )
    def test_plan(self, steps: int, decays: bool, train_rows: int, val_rows: list[int]) -> None:
        examples = steps * train_rows
        plan = plan_judging(steps, decays, examples, val_rows)
        assert plan.final
        assert plan.final[-1] == steps
        assert all(1 <= s <= steps for s in (*plan.final, *plan.on_the_way))
        assert all(s > 0.9 * steps for s in plan.final)
        assert len(plan.final) == 1 if decays else len(plan.final) <= len(LAST_TENTH)
        assert not set(plan.final) & set(plan.on_the_way)
        assert list(plan.on_the_way) == sorted(set(plan.on_the_way))
        for which in (plan.final_batches, plan.curve_batches):
            assert which
            assert sorted(set(which)) == list(which)
            assert set(which) <= set(range(len(val_rows)))
        evaluated = len(plan.final) * sum(val_rows[i] for i in plan.final_batches)
        evaluated += len(plan.on_the_way) * sum(val_rows[i] for i in plan.curve_batches)
        assert evaluated <= max(examples, max(val_rows))  # but for the one batch that there must be
        if 2 * len(plan.final) * sum(val_rows) <= examples:
            assert len(plan.final_batches) == len(val_rows)  # all of it, where it is cheap

    def test_final_loss(self) -> None:
        plan = plan_judging(40, False, 40, [1])
        val = [(s, float(s)) for s in range(41)]
        assert final_loss(40, plan, [], val) == (37 + 38 + 39 + 40) / 4
        assert final_loss(25, None, [9.0] * 22 + [1.0, 2.0, 3.0], []) == 2.0
        assert final_loss(1, None, [7.0], []) == 7.0


@pytest.mark.parametrize("at_once", [1, 500, 2**20], ids=["one", "some", "all"])
@pytest.mark.parametrize(
    "how",
    [
        {"shuffle": True},
        {"shuffle": True, "drop_last": True},
        {},
        {"drop_last": True},
        {"sampler": 70},
        {"sampler": 20},
    ],
    ids=str,
)
def test_rows_of_tensors_are_gathered_as_the_loader_would(
    how: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one lookup for many batches, where a loader does no more; a subclass of the dataset is read by the loader."""
    monkeypatch.setattr(data_module, "GATHERED_BYTES", at_once)

    class Own(TensorDataset):
        pass

    def read(dataset: TensorDataset) -> list[Any]:
        sampler = (
            RandomSampler(dataset, replacement=how["sampler"] > 30, num_samples=how["sampler"])
            if "sampler" in how
            else None
        )
        loader = DataLoader(dataset, batch_size=7, **(how | {"sampler": sampler}))
        monkeypatch.setattr(data_module, "_gathered", lambda own, put: gathered.append(1) or truly(own, put))
        return list(itertools.islice(Stream(loader, 3, torch.device("cpu")).batches(), 12))

    gathered: list[int] = []
    truly = data_module._gathered
    rows = torch.randn(30, 4), torch.arange(30)
    ours, theirs = read(TensorDataset(*rows)), read(Own(*rows))
    assert gathered  # epochs
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b) is list
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.complex64]
)
def test_what_is_kept_is_a_copy_that_lies_apart(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "BLOCK_BYTES", 256)
    shelf = Shelf()
    given = [torch.arange(n).reshape(shape).to(dtype) for n, shape in ((1, ()), (6, (2, 3)), (50, (5, 10)), (2, (2,)))]
    kept = [shelf.put(tensor) for tensor in given]
    for ours, theirs in zip(kept, given, strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == dtype
        assert ours.shape == theirs.shape
        assert ours.data_ptr() % 64 == 0
        assert ours.untyped_storage().nbytes() == theirs.untyped_storage().nbytes()  # each has memory of its own
    assert kept[1].data_ptr() - kept[0].data_ptr() == 64  # in one block, which is none of the heap's
    del shelf
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(kept, given, strict=True))


@pytest.mark.parametrize(
    "make", [lambda: torch.ones(2, 3).t(), lambda: torch.ones(0), lambda: torch.eye(2).to_sparse()]
)
def test_what_is_not_plain_is_kept_as_it_is(make: Any) -> None:
    tensor = make()
    assert Shelf().put(tensor) is tensor


def test_where_there_is_no_memory_for_a_block_what_there_is_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(data_module.mmap, "mmap", none)
    tensor = torch.ones(3)
    assert Shelf().put(tensor) is tensor
