"""A network compiled by size: told, kept on disk, and eager where that fails."""

from collections.abc import Callable
import logging
from pathlib import Path
from typing import Any

from dpt_ros.perception.compiled import Compiled
from dpt_ros.perception.runtime import Network, Runtime
from dpt_ros.zoo.store import load
import pytest
import torch
from torch import Tensor
from torch._dynamo.backends import registry

CPU = torch.device('cpu')
LOG = logging.getLogger('dpt_ros')
BOTH = {'depth', 'segmentation'}


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, 'dpt_ros')


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Compile anew, into a folder of this test."""
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    torch.compiler.reset()
    yield tmp_path
    torch.compiler.reset()


def images(width: int = 64, height: int = 64) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(0))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == 'dpt_ros']


def compiled(backend: Any, faults: list[str] | None = None) -> Compiled:
    told = [] if faults is None else faults
    fall_back = lambda what, error: told.append(f'{what}: {error}')  # noqa: E731
    return Compiled(load('dpt_tiny').network, backend, LOG, fall_back)


@torch.inference_mode()
def test_a_size_is_compiled_once_which_is_told_with_its_seconds(caplog: pytest.LogCaptureFixture):
    network = compiled('eager')  # of PyTorch: traces, and compiles nothing
    for _ in range(2):
        found, wanted = network(images(), BOTH), load('dpt_tiny').network(images(), BOTH)
        assert all(torch.equal(found[task], wanted[task]) for task in BOTH)
    started, ended = said(caplog)
    what = 'the network for 1 of 64x64, depth and segmentation'
    assert started == f'compiling {what}: the first time it can take minutes'
    assert ended.startswith(f'compiled {what} in ')
    network(images(96), {'depth'})
    assert 'the network for 1 of 96x64, depth' in said(caplog)[-1]


@torch.inference_mode()
def test_without_a_compiler_it_runs_eager_and_tells_why():
    calls: list[bool] = []

    def broken(*_: object) -> object:
        calls.append(True)
        raise RuntimeError('no working C++ compiler')

    faults: list[str] = []
    network, wanted = compiled(broken, faults), load('dpt_tiny').network(images(), BOTH)
    for _ in range(2):
        found = network(images(), BOTH)
        assert all(torch.equal(found[task], wanted[task]) for task in BOTH)
    (fault,) = faults
    assert fault.startswith('the network for 1 of 64x64, depth and segmentation: ')
    assert 'no working C++ compiler' in fault
    assert len(calls) == 1


@torch.inference_mode()
def test_an_image_that_fits_no_network_is_not_the_fault_of_the_compiler():
    faults: list[str] = []
    with pytest.raises(ValueError, match='cannot be cut into patches'):
        compiled('eager', faults)(images(65), BOTH)
    assert not faults


@torch.inference_mode()
def test_beyond_some_sizes_it_runs_eager(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr('dpt_ros.perception.compiled.SIZES', 1)
    network = compiled('eager')
    network(images(), {'depth'})
    lines = said(caplog)
    found, wanted = (n(images(96), {'depth'}) for n in (network, load('dpt_tiny').network))
    assert torch.equal(found['depth'], wanted['depth'])
    assert said(caplog) == lines


class Small(torch.nn.Module):
    """A network that is compiled in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        return {task: torch.relu(self.convolution(image))[:, 0] for task in wanted}


def test_the_runtime_compiles_a_network_and_keeps_it_on_disk(
    cache: Path, caplog: pytest.LogCaptureFixture
):
    small, runtime = Small(), Runtime('compile')
    network = Network(small, CPU, torch.float32, runtime)
    with torch.inference_mode():
        wanted = small(images(), {'depth'})['depth']
    torch.testing.assert_close(network(images(), {'depth'})['depth'], wanted)
    assert runtime.state == 'compile'
    assert len(said(caplog)) == 2
    assert any(cache.rglob('*.so'))


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put a function in the place of Torch-TensorRT's backend."""

    def put(build: Any) -> None:
        monkeypatch.setitem(registry._BACKENDS, 'tensorrt', None)
        monkeypatch.setitem(registry._COMPILER_FNS, 'tensorrt', build)

    return put


def test_tensorrt_keeps_engines_in_a_folder_of_the_network(
    tensorrt: Callable[[Any], None], cache: Path
):
    folders: list[Path] = []

    def build(graph: torch.fx.GraphModule, _: list[Tensor], *, options: dict[str, Any]) -> Any:
        assert options['cache_built_engines'] and options['reuse_cached_engines']
        folders.append(Path(options['engine_cache_dir']))
        assert Path(options['timing_cache_path']).parent == folders[-1]
        return graph.forward

    tensorrt(build)
    small, twin, other = Small(), Small(), Small()
    twin.load_state_dict(small.state_dict())
    kinds = (small, torch.float32), (twin, torch.float32), (other, torch.float32)
    for network, dtype in (*kinds, (small, torch.bfloat16)):
        torch.compiler.reset()
        runtime = Runtime('tensorrt')
        Network(network, CPU, dtype, runtime)(images(), {'depth'})
        assert runtime.state == 'tensorrt'
    first, again, of_other_weights, of_another_type = folders
    assert first == again  # by a next start, too
    assert len({first, of_other_weights, of_another_type}) == 3
    assert all(folder.is_relative_to(cache) for folder in folders)


@torch.inference_mode()
def test_what_tensorrt_cannot_build_runs_eager_and_is_told(
    tensorrt: Callable[[Any], None], caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, options: dict[str, Any]) -> object:
        assert options['pass_through_build_failures']
        raise AssertionError('no converter for aten.gelu')

    tensorrt(fail)
    small, runtime = Small(), Runtime('tensorrt')
    network = Network(small, CPU, torch.float32, runtime)
    found = network(images(), {'depth'})['depth']
    assert torch.equal(found, small(images(), {'depth'})['depth'])
    fault = (
        'the network for 1 of 64x64, depth runs eager: AssertionError: no converter for aten.gelu'
    )
    assert runtime.state == f'tensorrt; {fault}'
    assert said(caplog)[-1] == f'runtime tensorrt: {fault}'
