"""The benchmark measures what it says it measures. No time is judged here."""

from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path

import cv2
from dpt_ros.bench import networks as bench
from dpt_ros.bench.baseline import Baseline
from dpt_ros.bench.ceilings import Ceiling, measure_ceiling
from dpt_ros.bench.frames import (
    bench_embedded,
    bench_frames,
    bench_network,
    camera_info,
    Ours,
    picture,
    Stage,
    summarize,
)
from dpt_ros.bench.loading import bench_loading, measure
from dpt_ros.bench.networks import bench_networks, Case, CASES, count_flops, UNRELEASED
from dpt_ros.bench.node import Latency
from dpt_ros.bench.records import keep
from dpt_ros.bench.report import BAR, COLORS, draw, table, to_json
from dpt_ros.bench.startup import bench_startup
from dpt_ros.bench.twins import adopt, build_twins, LABELS
from dpt_ros.conditions import conditions
from dpt_ros.perception.pipeline import Perception
from dpt_ros.ros.messages import encode_image
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.tools import cli
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import checkpoint
import numpy as np
import pytest
from std_msgs.msg import Header
import torch

WIDTH, HEIGHT = 96, 64
IMAGE = encode_image(Header(), picture(WIDTH, HEIGHT), 'rgb8')
INFO = camera_info(WIDTH, HEIGHT)
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def theirs() -> tuple:
    return build_twins()


@pytest.fixture(scope='module')
def baseline(theirs: tuple) -> Baseline:
    return Baseline(*theirs, load_labels(LABELS), CPU)


@pytest.fixture(scope='module')
def perception(theirs: tuple) -> Perception:
    return Perception(*adopt(*theirs), device=CPU, dtype=torch.float32)


@pytest.fixture(scope='module')
def ours(perception: Perception) -> Ours:
    return Ours(perception)


@pytest.fixture(scope='module')
def results() -> Iterator[dict]:
    steps: list[bool] = []
    network = bench_network(2, 'cpu', 'eager', lambda: steps.append(True))
    frames = bench_frames([(WIDTH, HEIGHT)], 2, 'cpu', 'eager', lambda: steps.append(True))
    embedded = bench_embedded(2, 'cpu', 'eager', lambda: steps.append(True))
    assert len(steps) == 12  # two of the network, five frames and five passes: three to warm up
    ceiling = measure_ceiling(CPU, (64,), 1 << 16)
    small = [Case(['dpt_tiny', 'dpt_tiny'], 64, 64, (1, 2))]
    yield {
        'conditions': conditions(),
        'ceilings': {'cpu': ceiling},
        'networks': bench_networks(small, CPU, torch.float32, lambda: None, side=64),
        'startup': bench_startup(1, lambda: None),
        'network': network,
        'network_ratio': network['network_ratio'],
        'embedded': embedded,
        'frames': frames,
        'around_ratio': next(iter(frames.values()))['around_ratio'],
        'memory': {'host': 1},
    }


def test_the_twins_compute_the_same(results: dict):
    assert results['network']['difference'] < 1e-4


def test_the_twins_share_one_backbone(perception: Perception):
    assert len(perception._networks.passes) == 1


def test_the_network_computes_something(theirs: tuple):
    depth, labels = theirs
    image = torch.rand((1, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        raw, scores = depth(image).predicted_depth, labels(image).logits
    assert raw.std() > 0.1 * raw.mean() > 0
    assert raw.min() > 0
    assert len(scores.argmax(dim=1).unique()) > 1


def test_the_baseline_makes_a_message_of_every_topic(baseline: Baseline):
    messages, network = baseline(IMAGE, INFO)
    topics = [output for output in OUTPUTS if 'inverse' not in output.topic]
    wanted = [output.message for output in topics]
    assert sorted(type(m).__name__ for m in messages) == sorted(kind.__name__ for kind in wanted)
    assert network > 0
    sizes = [len(m.data) // (WIDTH * HEIGHT) for m in messages if hasattr(m, 'data')]
    assert sorted(sizes) == [1, 1, 3, 3, 3, 4, 32]


def test_the_clouds_of_both_have_one_layout(baseline: Baseline):
    cloud = baseline(IMAGE, INFO)[0][5]
    points = np.frombuffer(cloud.data, np.float32).reshape(HEIGHT, WIDTH, 8)
    depth = np.frombuffer(baseline(IMAGE, INFO)[0][0].data, np.float32).reshape(HEIGHT, WIDTH)
    known = np.isfinite(depth)
    np.testing.assert_array_equal(points[known][:, 2], depth[known])
    rays = (np.arange(WIDTH) - INFO.k[2]) / INFO.k[0]
    np.testing.assert_allclose(points[..., 0], rays * np.where(known, depth, np.nan), rtol=1e-5)
    colors = np.ascontiguousarray(points[..., 4]).view(np.uint8).reshape(HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(colors[..., 2::-1], picture(WIDTH, HEIGHT))


def test_the_stages_add_up_to_the_whole(ours: Ours):
    seconds, moved = ours(IMAGE, INFO)
    whole = seconds.pop('total')
    assert 0.8 * whole < sum(seconds.values()) <= whole
    assert moved['upload'] == 3 * WIDTH * HEIGHT
    # Not the image, which goes out in color as it came.
    assert moved['encode'] == (4 + 3 + 1 + 1 + 3 + 32) * WIDTH * HEIGHT


def test_stages_are_summarized_over_frames():
    runs = [{'a': 0.001 * n, 'total': 0.002 * n} for n in range(1, 102)]
    stages = summarize(runs, {'a': 2_000_000})
    assert stages['a'] == Stage(pytest.approx(51), pytest.approx(96), pytest.approx(0.5), 2.0)
    assert stages['total'].megabytes is None


def test_the_ratio_is_of_the_time_around_the_network(results: dict):
    (found,) = results['frames'].values()
    assert found['around_ratio'] == found['baseline']['around_ms'] / found['around_ms']
    baseline = found['baseline']
    assert baseline['total_ms'] == pytest.approx(
        baseline['around_ms'] + baseline['network_ms'], rel=0.2
    )


def test_the_network_in_the_package_is_measured_at_the_size_of_its_training(results: dict):
    embedded = results['embedded']
    assert (embedded['width'], embedded['height']) == (256, 192)
    assert 0 < embedded['median_ms'] <= embedded['p95_ms']


def test_results_are_told_in_all_three_ways(results: dict):
    told = table(results)
    assert all(str(name) in told for name in results['conditions'])
    assert 'cleanup' in told and 'around the network' in told
    again = json.loads(to_json(results))
    (found,) = again['frames'].values()
    assert found['stages']['network']['median_ms'] > 0
    shown = draw(results)
    assert (shown.shape[2], shown.dtype) == (3, np.uint8)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 9  # a color each stage
    assert len(set(COLORS)) == len(COLORS) >= len({*found['stages'], 'around'} - {'total'})


def test_latencies_of_the_node_are_drawn_where_it_answered(results: dict):
    answered = Latency('640x480', 30.0, 'all', 1, 1, 120, 40, 10.0, 90.0, 100.0, 120.0)
    silent = replace(answered, answered=0, p50_ms=np.nan, p95_ms=np.nan, p99_ms=np.nan)
    alone = replace(answered, outputs='~/depth')
    frames, with_node = draw(results), draw(results | {'node': [answered, silent, alone]})
    assert 0 < len(with_node) - len(frames) < len(frames) / 2  # one bar more, beside two
    last = with_node[-BAR:].reshape(-1, 3)
    assert '"p50_ms": null' in to_json({'node': [silent]})
    to_p50, to_p95, to_p99 = ((last == color).all(axis=1).sum() for color in COLORS[-3:])
    assert to_p50 > to_p99 > to_p95 > 0  # 90, 20 and 10 ms


def test_networks_are_held_against_the_rate_of_the_machine(results: dict):
    one, two = results['networks']
    assert (one.batch, two.batch) == (1, 2)
    assert two.gflops == pytest.approx(2 * one.gflops)
    for timing in (one, two):
        assert timing.gflops_per_second == pytest.approx(timing.gflops / timing.median_ms * 1e3)
        assert timing.matrix_gflops > 0 and timing.share > 0


def test_the_share_is_of_the_rate_measured_right_before_each_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, 'REPEATS', {'cpu': 3})
    ticks = iter([0, 9, 10, 12, 20, 22, 30, 34])  # runs of 9 (warming up), 2, 2 and 4 seconds
    monkeypatch.setattr('dpt_ros.bench.ceilings.perf_counter', lambda: next(ticks))
    rates = iter([1.0, 50.0, 100.0, 25.0])
    monkeypatch.setattr(bench, 'matrix_gflops', lambda *_: next(rates))
    monkeypatch.setattr(bench, 'count_flops', lambda *_: 100e9)
    (timing,) = bench_networks([Case(['dpt_tiny'], 64, 64)], CPU, torch.float32, lambda: None)
    assert (timing.median_ms, timing.gflops_per_second) == (2000, 50)
    assert (timing.matrix_gflops, timing.share) == (50, 1)  # of 1, 1/2 and 1


def test_a_ceiling_is_what_a_product_of_matrices_reaches(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(1000))  # each run takes a second
    monkeypatch.setattr('dpt_ros.bench.ceilings.perf_counter', lambda: next(clock))
    found = measure_ceiling(CPU, (100, 200), 1_000_000)
    assert found == Ceiling({'float32': 2 * 200**3 / 1e9}, pytest.approx(0.002))


@pytest.mark.parametrize('case', CASES['cuda'], ids=lambda case: '+'.join(case.networks))
def test_every_network_that_a_gpu_is_to_run_can_run_at_its_size(case: Case):
    entries = [UNRELEASED.get(name) or checkpoint(name) for name in case.networks]
    assert count_flops(entries, (1, 3, case.height, case.width)) > 50e9


def test_a_start_is_told_in_its_steps(results: dict):
    start = results['startup']
    assert 0 < start.ros < start.imported < start.configured < start.active
    assert start.cpu > 0


def test_results_are_kept_with_a_table_of_all(results: dict, tmp_path: Path):
    told = {**results['conditions'], 'date': '2026-01-02T03:04:05+00:00', 'runtime': 'eager'}
    file = keep({**results, 'conditions': {**told, 'commit': 'abc'}}, tmp_path)
    later = {**told, 'date': '2026-01-02T03:05:05+00:00', 'commit': '012'}
    other = keep({**results, 'conditions': later}, tmp_path)
    assert (file.name, other.name) == ('2026-01-02-abc-eager.json', '2026-01-02-012-eager.json')
    assert cv2.imread(str(file.with_suffix('.png'))) is not None
    rows = (tmp_path / 'README.md').read_text(encoding='utf-8').splitlines()
    assert [row.split('|')[2].strip() for row in rows if row.startswith('| [')] == ['012', 'abc']
    assert len({row.count('|') for row in rows if row.startswith('|')}) == 1


def test_loading_is_measured_in_a_process_of_its_own():
    loading = bench_loading('dpt_tiny')
    assert loading.file_megabytes == pytest.approx(10.96, abs=0.01)
    assert loading.cpu_seconds > loading.checksum_cpu_seconds > 0
    assert loading.peak_over_file > 0.5


def test_loading_a_file_that_is_missing_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='dpt fetch dpt_large_midas'):
        measure('dpt_large_midas', str(tmp_path))


def test_conditions_name_the_machine():
    found = conditions()
    assert found['cores'] >= 1
    assert found['torch'] == torch.__version__.split('+')[0]


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        cli.main(['bench', '--sizes', 'big'])
    assert "'big' is not a size as 640x480" in capsys.readouterr().err
