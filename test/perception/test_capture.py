"""
Programs captured as on a GPU: on a CPU a stand-in repeats the run into standing outputs.

It has what can go wrong with graphs: inputs and outputs that stand still, memory that is written
again, sizes that change. What PyTorch makes of it on a device is for the tests marked `gpu`.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
import gc
from itertools import product
import weakref

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.capture import Captured
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.perception.products import Options
from dpt_ros.perception.program import Program, Tensors
from dpt_ros.perception.runtime import open_runtime, Runtime
from dpt_ros.perception.scale.scaler import Reference
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.zoo.checkpoints import RelativeDepth
from dpt_ros.zoo.store import load, Trained
import numpy as np
import pytest
import torch
from torch import Tensor

CPU = torch.device('cpu')
CHOSEN = options(Parameters(points_labels=True))
TINY = load('dpt_tiny')
RELATIVE = replace(TINY, checkpoint=replace(TINY.checkpoint, depth=RelativeDepth()))


class Captures:
    """
    Captures that are counted; from the `broken`th on they fail.

    As graphs that have their memory in common, each spoils what the others gave.
    """

    def __init__(self, broken: int = 1000):
        self.count, self.broken = 0, broken
        self.given: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def __call__(
        self, run: Callable[[], Tensors], _: torch.device
    ) -> tuple[Tensors, Callable[[], object]]:
        self.count += 1
        if self.count >= self.broken:
            raise RuntimeError('operation not permitted when stream is capturing')
        outputs = {name: tensor.clone() for name, tensor in run().items()}
        self.given.update(outputs.values())

        def repeat() -> None:
            made = run()
            for tensor in self.given:
                tensor.fill_(1)
            for name, tensor in made.items():
                outputs[name].copy_(tensor)

        return outputs, repeat


def perceive(
    capture: Captures | None = None,
    depth: Trained | None = TINY,
    labels: Trained | None = TINY,
    device: torch.device = CPU,
    runtime: Runtime | None = None,
) -> Perception:
    runtime = runtime or Runtime('graph', capture=capture)
    kind = {'device': device, 'dtype': torch.float32}
    return Perception(depth, labels, network_side=64, runtime=runtime, **kind)


def frames(count: int, seed: int = 0, size: tuple[int, int] = (80, 60)) -> list[Frame]:
    """Draw images of as many cameras, of which every second is calibrated."""
    random, (width, height) = np.random.default_rng(seed), size
    camera = Camera(width, height, 70.0, 72.0, 41.0, 28.0)
    return [
        Frame(
            f'camera {index}',
            None,
            random.integers(0, 256, (height, width, 3), np.uint8),
            camera if index % 2 == 0 else None,
            float(seed),
            [Reference(float(seed), random.uniform(1, 5, (height, width)).astype(np.float32))],
        )
        for index in range(count)
    ]


def same(found: Sequence[Result], wanted: Sequence[Result]) -> None:
    """Check that all products are there and equal to the last bit."""
    for one, other in zip(found, wanted, strict=True):
        assert one.products.keys() == other.products.keys()
        for name, values in one.products.items():
            assert values.dtype == other.products[name].dtype
            bits = values.view(np.uint8), other.products[name].view(np.uint8)
            np.testing.assert_array_equal(*bits)
        assert repr(one.scale) == repr(other.scale)


@pytest.mark.parametrize('batch', [1, 2, 4])
@pytest.mark.parametrize('name', sorted(perceive().products))
def test_every_product_is_that_of_an_eager_run_to_the_bit(name: str, batch: int):
    captures, eager = Captures(), perceive()
    captured = perceive(captures)
    for seed in range(3):
        given = frames(batch, seed)
        same(captured(given, {name}, CHOSEN), eager(given, {name}, CHOSEN))
    assert captures.count


CHANGES: dict[str, dict[str, object]] = {
    'half the size': {'output_decimation': 2},
    'millimetres': {'depth_encoding': '16UC1'},
    'another number for unknown': {'depth_invalid_value': 0.0},
    'all edges': {'depth_edge_angle': 0.0},
    'steady': {'depth_steadiness': 0.8},
    'unsure labels': {'segmentation_min_confidence': 0.5},
    'a cloud in a row': {'points_organized': False},
    'classes left out': {'points_exclude_classes': 'floor', 'points_clearing_distance': 30.0},
    'fitted metres': {'scale_mode': 'reference', 'scale_smoothing_seconds': 0.0},
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize('depth', [TINY, RELATIVE], ids=['metric', 'relative'])
def test_no_option_makes_a_difference_to_an_eager_run(depth: Trained, change: dict):
    fixed = {} if depth is TINY else {'scale_mode': 'fixed', 'scale_offset': 0.01}
    chosen: Options = replace(CHOSEN, **fixed | change)
    captured, eager = perceive(Captures(), depth), perceive(None, depth)
    for seed in range(3):
        given = frames(2, seed // 2)  # the first image twice: at rest
        same(captured(given, captured.products, chosen), eager(given, eager.products, chosen))


def test_what_a_frame_gave_is_not_written_to_by_the_next_one():
    captured = perceive(Captures())
    first = captured(frames(2), captured.products, CHOSEN)
    kept = [{name: array.copy() for name, array in one.products.items()} for one in first]
    captured(frames(2, seed=1), captured.products, CHOSEN)
    for one, products in zip(first, kept, strict=True):
        for name, values in one.products.items():
            np.testing.assert_array_equal(values, products[name])


def spared(given: Sequence[Frame], like: Sequence[Result], longer: int = 0) -> list[Frame]:
    """Give each frame the memory that its products take, as that of messages."""
    spares = [
        {name: array('B', bytes(values.nbytes + longer)) for name, values in one.products.items()}
        for one in like
    ]
    views = [{n: np.frombuffer(data, np.uint8) for n, data in spare.items()} for spare in spares]
    return [replace(frame, spare=view) for frame, view in zip(given, views, strict=True)]


@pytest.mark.parametrize('change', [{}, {'depth_encoding': '16UC1'}], ids=['metres', 'mm'])
def test_what_comes_down_goes_straight_to_the_memory_of_messages(change: dict):
    chosen = replace(CHOSEN, **change)
    captured, eager = perceive(Captures()), perceive()
    for seed in range(3):
        given = frames(2, seed)
        wanted = eager(given, eager.products, chosen)
        given = spared(given, wanted)
        found = captured(given, captured.products, chosen)
        same(found, wanted)
        for frame, one in zip(given, found, strict=True):
            for name, values in one.products.items():
                assert np.shares_memory(values, frame.spare[name]), name


def test_memory_of_another_size_is_left_as_it_is():
    captured, eager, given = perceive(Captures()), perceive(), frames(2)
    wanted = eager(given, eager.products, CHOSEN)
    given = spared(given, wanted, longer=4)
    same(captured(given, captured.products, CHOSEN), wanted)
    assert not any(memory.any() for frame in given for memory in frame.spare.values())


def test_the_past_of_a_camera_is_not_written_to_by_the_others():
    chosen = replace(CHOSEN, depth_steadiness=0.8)
    captured, eager = perceive(Captures()), perceive()
    for step in range(4):
        given = [replace(f, pixels=f.pixels // 2 + np.uint8(2 * step)) for f in frames(4)]
        same(captured(given, {'depth'}, chosen), eager(given, {'depth'}, chosen))


def test_a_late_reference_meets_the_map_of_its_own_frame():
    chosen = replace(CHOSEN, scale_mode='reference', scale_smoothing_seconds=0.0)
    captured, eager = perceive(Captures(), RELATIVE), perceive(None, RELATIVE)
    references = [frames(1, seed)[0].references for seed in range(4)]
    for seed in range(4):
        late = references[seed - 1] if seed else ()
        given = [replace(f, references=late) for f in frames(1, seed)]
        same(captured(given, {'depth'}, chosen), eager(given, {'depth'}, chosen))


def test_a_size_is_captured_when_it_comes_and_not_again():
    captures, eager = Captures(), perceive()
    captured, counts = perceive(captures), []
    for seed, size in enumerate([(80, 60), (64, 48), (80, 60), (64, 48)]):
        given = frames(1, seed, size)
        wanted = {'depth', 'points'}
        same(captured(given, wanted, CHOSEN), eager(given, wanted, CHOSEN))
        counts.append(captures.count)
    assert counts == [1, 2, 2, 2]


def test_so_many_are_kept_and_the_one_longest_unused_goes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('dpt_ros.perception.runtime.GRAPHS', 2)
    captures = Captures()
    runtime = Runtime('graph', capture=captures)

    def run(size: int) -> None:
        program = Program('double', None, {'double': lambda given: {'x': 2 * given['x']}})
        assert runtime(program, {'x': torch.ones(size)}, {})['x'].tolist() == [2.0] * size

    for size, count in [(1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4), (3, 5)]:
        run(size)
        assert captures.count == count
        assert len(runtime._captured) <= 2


def test_what_is_not_kept_is_freed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('dpt_ros.perception.runtime.GRAPHS', 1)
    captured = perceive(Captures())
    captured(frames(1), {'labels'}, CHOSEN)
    (kept,) = captured.runtime._captured.values()
    gone = weakref.ref(kept)
    del kept
    captured(frames(1, size=(64, 48)), {'labels'}, CHOSEN)
    gc.collect()
    assert gone() is None


def test_what_cannot_be_captured_runs_eager_and_is_told_once(caplog: pytest.LogCaptureFixture):
    captures, eager = Captures(broken=1), perceive()
    captured = perceive(captures)
    for seed in range(3):
        given = frames(1, seed)
        same(captured(given, {'depth'}, CHOSEN), eager(given, {'depth'}, CHOSEN))
    reason = 'operation not permitted when stream is capturing'
    reason = f"'see and finish' runs eager: RuntimeError: {reason}"
    assert [record.getMessage() for record in caplog.records] == [f'runtime graph: {reason}']
    assert captured.runtime.state == f'graph; {reason}'
    assert captures.count == 1


@pytest.mark.parametrize('error', [ValueError('no image'), torch.OutOfMemoryError('full')])
def test_what_is_wrong_with_a_frame_is_not_the_fault_of_the_capture(
    caplog: pytest.LogCaptureFixture, error: Exception
):
    fails = [True]

    def step(given: Tensors) -> Tensors:
        if fails:
            raise error
        return {'x': given['x'] + 1}

    captures = Captures()
    runtime, given = Runtime('graph', capture=captures), {'x': torch.zeros(1)}
    program = Program('add', None, {'add': step})
    with pytest.raises(type(error), match=str(error)):
        runtime(program, given, {})
    fails.clear()
    assert runtime(program, given, {})['x'].item() == 1
    assert captures.count == 1
    assert not caplog.records
    assert runtime.state == 'graph'


def test_a_capture_reads_copies_of_what_is_given():
    places: list[int] = []

    def run(given: Tensors) -> Tensors:
        places.append(given['x'].data_ptr())
        return {'y': given['x'] + 1}

    given = {'x': torch.zeros(3)}
    captured = Captured(run, given, Captures())
    given['x'].fill_(5)
    assert captured({'x': torch.ones(3)})['y'].tolist() == [2.0] * 3
    assert {*places} == {places[0]} != {given['x'].data_ptr()}


def test_what_a_cache_lets_go_of_outlives_the_capture_that_reads_it():
    cached = lru_cache(maxsize=1)(lambda value: torch.full((2,), value))
    given, capture = {'x': torch.ones(2)}, Captures()
    captured = Captured(lambda given: {'y': given['x'] + cached(1.0)}, given, capture)
    read = weakref.ref(cached(1.0))
    cached(2.0)
    gc.collect()
    assert read() is not None
    del captured
    gc.collect()
    assert read() is None


def test_captured_stages_cannot_be_told_apart():
    captured = perceive(Captures())
    (result,) = captured(frames(1), captured.products, CHOSEN)
    assert set(result.seconds) == {'upload', 'see and finish', 'download'}


@pytest.mark.gpu
@pytest.mark.parametrize('batch', [1, 2, 4])
def test_a_graph_of_a_gpu_is_its_eager_run(batch: int):
    if not torch.cuda.is_available():
        pytest.skip('there is no GPU')
    device = torch.device('cuda:0')
    captured = perceive(device=device, runtime=open_runtime('graph', device))
    eager = perceive(device=device)
    sizes, both = [(80, 60), (64, 48), (80, 60)], {'depth', 'labels'}  # of graphs that take turns
    for seed, (size, products) in enumerate(product(sizes, (both, captured.products))):
        given = frames(batch, seed, size)
        wanted = eager(given, products, CHOSEN)
        given = spared(given, wanted)
        found = captured(given, products, CHOSEN)
        for frame, one, other in zip(given, found, wanted, strict=True):
            np.testing.assert_allclose(one.products['depth'], other.products['depth'], rtol=1e-4)
            assert (one.products['labels'] == other.products['labels']).mean() > 0.999
            for name, values in one.products.items():
                pinned = torch.from_numpy(frame.spare[name]).is_pinned()
                assert np.shares_memory(values, frame.spare[name]) == pinned
    assert captured.runtime.state == 'graph'
