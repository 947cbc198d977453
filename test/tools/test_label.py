"""`dpt bag` on one bag: what is kept, what is added, and what goes wrong."""

import ast
from dataclasses import replace
import inspect
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
from time import monotonic, sleep
from types import SimpleNamespace

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.pipeline import Frame
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.ros.processor import open_perception
from dpt_ros.tools.cli import main
from dpt_ros.tools.label import _outputs, choose_parameters, label, NETWORKS, Order
import numpy as np
import pytest
from recordings import (
    camera_info,
    image,
    imu,
    MS,
    read_bag,
    read_topic,
    STORE,
    text,
    topics_in,
    write_bag,
)
from rosbags.rosbag2 import Writer

WIDTH, HEIGHT = 64, 48
FEW = Parameters(cpu_threads=1, network_side=64)
ADDED = {
    f'/dpt/{name}'
    for name in (
        'depth/image',
        'depth/camera_info',
        'depth/color',
        'segmentation/mask',
        'segmentation/confidence',
        'segmentation/overlay',
        'segmentation/camera_info',
        'segmentation/label_info',
        'points',
    )
}


def pixels(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def scene(count: int, *others: tuple, encoding: str = 'rgb8') -> list:
    """
    Return messages of a camera at 10 Hz, recorded 7 ms late, its camera_info a little later.

    :param others: messages that come between them.
    """
    topic = '/camera/image/compressed' if encoding == 'png' else '/camera/image'
    messages = list(others)
    for number in range(count):
        stamp = 100 * MS * number
        messages += [
            (topic, stamp + 7 * MS, image(pixels(number), encoding, stamp)),
            ('/camera/camera_info', stamp + 8 * MS, camera_info(WIDTH, HEIGHT, stamp)),
            ('/words', stamp + 9 * MS, text(f'word {number}')),
        ]
    return sorted(messages, key=lambda message: message[1])


def order(bag: Path, **changes) -> Order:
    return replace(Order(bag, bag.with_name('out'), '', '', FEW), **changes)


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run what must fail, and return its one line."""
    with pytest.raises(SystemExit) as end:
        main(['bag', '--threads', '1', *map(str, arguments)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    """Options of the command for a small network input."""
    file = tmp_path / 'quick.yaml'
    file.write_text('/**: {ros__parameters: {network.side: 64}}')
    return ['--model', 'dpt_tiny', '--threads', '1', '--params', str(file)]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_bag(tmp_path / 'in', *scene(3))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('encoding', ['rgb8', 'png'])
def test_all_that_was_is_kept_and_each_image_brings_its_results(
    tmp_path: Path, storage: str, encoding: str
):
    bag = write_bag(tmp_path / 'in', *scene(3, encoding=encoding), storage=storage)
    seen: list = []
    done = label(order(bag), lambda *counts: seen.append(counts))
    written = read_bag(tmp_path / 'out')
    assert [m for m in written if m[0] not in ADDED] == read_bag(bag)
    assert set(done.topics) == ADDED == topics_in(tmp_path / 'out').keys() - topics_in(bag).keys()
    for topic in ADDED - {'/dpt/segmentation/label_info'}:
        times = [time for name, time, _ in written if name == topic]
        assert times == [100 * MS * n + 7 * MS for n in range(3)]  # when the images were recorded
        stamps = [m.header.stamp.nanosec for m in read_topic(tmp_path / 'out', topic)]
        assert stamps == [100 * MS * n for n in range(3)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (done.images, done.left_out, done.notes, done.error) == (3, 0, (), '')


def test_the_networks_are_opened_with_every_parameter_that_opening_reads():
    tree = ast.parse(inspect.getsource(open_perception))
    read = {node.attr for node in ast.walk(tree) if ast.unparse(node).startswith('chosen.')}
    assert set(NETWORKS) == read


def test_the_results_are_those_of_the_networks(bag: Path):
    label(order(bag))
    perception = open_perception(FEW)
    camera = Camera(WIDTH, HEIGHT, 60.0, 60.0, WIDTH / 2, HEIGHT / 2)
    for number in range(3):
        frame = Frame('', None, pixels(number), camera)
        (wanted,) = perception([frame], perception.products, options(FEW))
        for topic, product in (
            ('depth/image', 'depth'),
            ('segmentation/mask', 'labels'),
            ('points', 'points'),
        ):
            message = read_topic(bag.with_name('out'), f'/dpt/{topic}')[number]
            assert bytes(message.data) == wanted.products[product].tobytes()
            assert message.header.frame_id == 'camera'


def test_the_classes_are_told_once_and_latched(bag: Path):
    label(order(bag))
    (told,) = read_topic(bag.with_name('out'), '/dpt/segmentation/label_info')
    assert [c.class_name for c in told.class_map][:2] == ['floor', 'wall']
    (qos,) = topics_in(bag.with_name('out'))['/dpt/segmentation/label_info'][1]
    assert (qos.durability.name, qos.reliability.name, qos.depth) == (
        'TRANSIENT_LOCAL',
        'RELIABLE',
        1,
    )


@pytest.mark.parametrize(('chosen', 'reliable'), [('reliable', True), ('sensor_data', False)])
def test_the_topics_are_offered_as_the_node_offers_them(bag: Path, chosen: str, reliable: bool):
    label(order(bag, outputs=('depth/*',), parameters=replace(FEW, qos_output=chosen)))
    (qos,) = topics_in(bag.with_name('out'))['/dpt/depth/image'][1]
    assert (qos.reliability.name == 'RELIABLE', qos.depth) == (reliable, 2)
    assert qos.durability.name == 'VOLATILE'


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not(tmp_path: Path, quick: list[str]):
    bag = write_bag(tmp_path / 'in', *scene(7))
    command = ['bag', str(bag), '--split', '2', *quick]
    main([*command, str(tmp_path / 'whole')])
    process = subprocess.Popen(
        [sys.executable, '-m', 'dpt_ros.tools.cli', *command, str(tmp_path / 'out')]
    )
    first = tmp_path / 'out.partial/out_0/metadata.yaml'
    end = monotonic() + 120
    while not first.exists() and process.poll() is None and monotonic() < end:
        sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert first.exists() and not (tmp_path / 'out').exists()
    before = first.stat().st_mtime_ns
    main([*command, str(tmp_path / 'out')])
    assert read_bag(tmp_path / 'out') == read_bag(tmp_path / 'whole')
    names = [sorted(f.name for f in (tmp_path / n).iterdir()) for n in ('out', 'whole')]
    assert names[0] == [name.replace('whole', 'out') for name in names[1]]
    assert (tmp_path / 'out/out_0.mcap').stat().st_mtime_ns <= before  # not done again


def test_files_end_before_an_image_so_what_follows_the_last_is_with_it(tmp_path: Path):
    label(order(write_bag(tmp_path / 'in', *scene(4)), split=2, outputs=('segmentation/mask',)))
    first, second = sorted((tmp_path / 'out').glob('out_*.mcap'))
    for file, words in ((first, ['word 0', 'word 1']), (second, ['word 2', 'word 3'])):
        assert [message.data for message in read_topic(file, '/words')] == words
        assert len(read_topic(file, '/dpt/segmentation/mask')) == 2


def test_a_bag_that_is_whole_is_not_written_again(bag: Path, capsys: pytest.CaptureFixture):
    label(order(bag, outputs=('segmentation/mask',)))
    before = read_bag(bag.with_name('out'))
    line = refused(capsys, bag, bag.with_name('out'), '--model', 'dpt_tiny')
    assert 'out is there already, and whole: remove it or name another' in line
    assert read_bag(bag.with_name('out')) == before


def test_other_options_do_not_go_on_with_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bag = write_bag(tmp_path / 'in', *scene(4))
    with monkeypatch.context() as patch:
        patch.setattr('dpt_ros.tools.bags.Parts.finish', lambda _: None)
        label(order(bag, split=2))
    with pytest.raises(ValueError, match='was begun from another bag or with other options'):
        label(order(bag, split=2, parameters=replace(FEW, depth_max=5.0)))


def test_an_image_before_the_first_camera_info_has_points_too(tmp_path: Path):
    # `scene` records camera_info after each image.
    bag = write_bag(tmp_path / 'in', *scene(1))
    assert label(order(bag)).notes == ()
    assert len(read_topic(tmp_path / 'out', '/dpt/points')) == 1


def test_without_camera_info_there_are_neither_points_nor_cameras(tmp_path: Path):
    messages = [m for m in scene(2) if m[0] != '/camera/camera_info']
    done = label(order(write_bag(tmp_path / 'in', *messages)))
    cameras = {'/dpt/depth/camera_info', '/dpt/segmentation/camera_info'}
    assert set(done.topics) == ADDED - cameras - {'/dpt/points'}


def test_a_camera_info_of_another_size_costs_the_points_and_is_told(tmp_path: Path):
    messages = [
        (topic, time, camera_info(32, 24, 0) if topic == '/camera/camera_info' else message)
        for topic, time, message in scene(2)
    ]
    done = label(order(write_bag(tmp_path / 'in', *messages)))
    (note,) = done.notes
    assert note.startswith('2 of 2 images have no points: camera_info is of 32x24 pixels')
    assert len(read_topic(tmp_path / 'out', '/dpt/depth/image')) == 2


def test_an_image_that_cannot_be_used_costs_only_itself(tmp_path: Path):
    messages = scene(3)
    messages[3][2].data = messages[3][2].data[:100]
    done = label(order(write_bag(tmp_path / 'in', *messages)))
    assert (done.images, done.left_out) == (3, 1)
    assert done.notes[0].startswith('1 of 3 images are left out: an image of 64x48 rgb8')
    assert len(read_topic(tmp_path / 'out', '/dpt/depth/image')) == 2
    assert len(read_topic(tmp_path / 'out', '/camera/image')) == 3


def test_where_no_image_can_be_used_nothing_is_written(tmp_path: Path):
    messages = scene(3)
    for message in messages[::3]:
        message[2].encoding = 'thermal'
    with pytest.raises(ValueError, match=r"no image on /camera/image can be used: .*'thermal'"):
        label(order(write_bag(tmp_path / 'in', *messages)))
    assert [path.name for path in tmp_path.iterdir()] == ['in']


def depth_image(metres: np.ndarray, stamp: int):
    """Wrap measured depth."""
    return image(metres.astype(np.float32), '32FC1', stamp)


def depth_in(bag: Path) -> list[np.ndarray]:
    """Return the metres that were added to a bag."""
    found = read_topic(bag, '/dpt/depth/image')
    return [np.frombuffer(m.data.tobytes(), np.float32).reshape(HEIGHT, WIDTH) for m in found]


def beside_a_depth_camera(bag: Path, later: int, *, times: float) -> Path:
    """Measure so many times the metres of the network, each so many ms after its image came."""
    label(order(bag, output=bag.with_name('plain'), outputs=('depth/image',)))
    measured = []
    for number, metres in enumerate(depth_in(bag.with_name('plain'))):
        stamp = 100 * MS * number
        time = stamp + (7 + later) * MS
        measured.append(('/tof/depth', time, depth_image(times * metres, stamp)))
    return write_bag(bag.with_name('rgbd'), *scene(3, *measured))


BY_REFERENCE = replace(FEW, scale_mode='reference', segmentation_model='', depth_edge_angle=0.0)


@pytest.mark.parametrize(
    'named', [{'image': '/camera/image'}, {'reference_depth': '/tof/depth'}], ids=str
)
def test_metres_are_fitted_to_measured_depth(bag: Path, named: dict[str, str]):
    rgbd = beside_a_depth_camera(bag, -1, times=1.5)
    done = label(order(rgbd, parameters=BY_REFERENCE, **named))
    assert done.notes == ()
    plain, fitted = (depth_in(bag.with_name(name))[1] for name in ('plain', 'out'))
    known = np.isfinite(plain)
    assert known.mean() > 0.5
    np.testing.assert_allclose(fitted[known], 1.5 * plain[known], rtol=1e-3)


def test_an_image_without_metres_is_told_with_the_reason(bag: Path):
    rgbd = beside_a_depth_camera(bag, +1, times=1.5)  # as the node, which does not wait for it
    done = label(order(rgbd, parameters=BY_REFERENCE, reference_depth='/tof/depth'))
    assert done.notes == ('1 of 3 images have no metres: no reference_depth has come',)
    assert len(read_topic(bag.with_name('out'), '/dpt/depth/image')) == 2


def test_no_bag_obeys_the_scale_of_the_one_before(bag: Path):
    named = {'parameters': BY_REFERENCE, 'reference_depth': '/tof/depth'}
    assert label(order(beside_a_depth_camera(bag, -1, times=1.5), **named)).notes == ()
    last = ('/tof/depth', 600 * MS, depth_image(np.ones((HEIGHT, WIDTH)), 550 * MS))
    goes_on = write_bag(bag.with_name('later'), *[m for m in scene(6) if m[1] > 300 * MS], last)
    (note,) = label(order(goes_on, output=bag.with_name('next'), **named)).notes
    assert note.startswith('3 of 3 images have no metres')


def test_measured_depth_that_is_not_used_is_told(bag: Path):
    color = ('/tof/depth', 6 * MS, image(pixels(0), 'rgb8', 0))
    strange = write_bag(bag.with_name('rgbd'), *scene(3, color))
    done = label(order(strange, parameters=BY_REFERENCE, reference_depth='/tof/depth'))
    stray, lost = done.notes
    assert stray.startswith('1 of 3 images come with measured depth that is not used: ')
    assert 'rgb8' in stray
    assert lost == '3 of 3 images have no metres: no reference_depth has come'


@pytest.mark.parametrize(
    ('fresh', 'reason'), [(True, r'of the image is ground'), (False, 'no imu tells where down is')]
)
def test_the_ground_lies_where_an_imu_tells(bag: Path, fresh: bool, reason: str):
    time = 6 * MS if fresh else 6 * MS + 10**10
    held = write_bag(bag.with_name('held'), *scene(3, ('/imu', time, imu(0))))
    chosen = replace(FEW, scale_mode='ground', scale_gravity='imu', scale_ground_share=1.0)
    (note,) = label(order(held, parameters=chosen)).notes
    assert note.startswith('3 of 3 images have no metres: ') and reason in note


def test_what_the_node_would_not_listen_to_is_refused(bag: Path):
    for name in ('reference_depth', 'imu'):
        told = f"nothing reads --{name.replace('_', '-')} with scale.mode 'model'"
        with pytest.raises(ValueError, match=told):
            label(order(bag, **{name: '/x'}))


def test_where_nothing_was_measured_there_is_nothing_to_fit_to(bag: Path):
    with pytest.raises(ValueError, match=r'give --reference-depth a topic of .*; it has none'):
        label(order(bag, parameters=BY_REFERENCE))


def test_the_topics_of_measurements_are_options(bag: Path):
    rgbd, out = beside_a_depth_camera(bag, -1, times=1.5), bag.with_name('out')
    file = bag.with_name('p.yaml')
    file.write_text(
        '/**: {ros__parameters: {depth.model: dpt_tiny, network.side: 64, scale.mode: reference}}'
    )
    command = ['bag', str(rgbd), str(out), '--params', str(file), '--threads', '1']
    main([*command, '--reference-depth', '/tof/depth', '--outputs', 'depth/image'])
    assert len(read_topic(out, '/dpt/depth/image')) == 3


def test_outputs_are_chosen_by_name_and_pattern(bag: Path):
    done = label(order(bag, outputs=('depth/image', 'segmentation/[mo]*'), node='/front/seer'))
    names = ['depth/image', 'segmentation/mask', 'segmentation/overlay']
    assert list(done.topics) == [f'/front/seer/{name}' for name in names]


@pytest.mark.parametrize(
    ('products', 'inverse'),
    [({'inverse_depth'}, True), ({'depth', 'inverse_depth'}, False)],
    ids=['relative', 'fixed'],
)
def test_inverse_depth_is_added_only_where_there_are_no_metres(
    bag: Path, products: set[str], inverse: bool
):
    perception = SimpleNamespace(products=frozenset(products), labels=None)
    outputs, _ = _outputs(perception, order(bag), calibrated=True)
    assert ('~/inverse_depth/image' in {o.topic for o in outputs}) == inverse


def test_parameters_of_a_file_apply_and_options_win(bag: Path):
    file = bag.with_name('p.yaml')
    file.write_text(
        '/**: {ros__parameters: {depth: {model: dpt_tiny, encoding: 16UC1}, cpu_threads: 2,'
        ' network.side: 64, output.decimation: 2, segmentation.model: ""}}'
    )
    out = bag.with_name('out')
    main(['bag', str(bag), str(out), '--params', str(file), '--threads', '1'])
    depth = read_topic(out, '/dpt/depth/image')[0]
    assert (depth.width, depth.height, depth.encoding) == (WIDTH // 2, HEIGHT // 2, '16UC1')
    assert '/dpt/segmentation/mask' not in topics_in(out)
    assert read_topic(out, '/dpt/color/image')[0].width == WIDTH // 2  # which IN does not have
    chosen = choose_parameters(file, '/dpt', threads=1, device='cuda:1')
    assert (chosen.cpu_threads, chosen.device) == (1, 'cuda:1')


def test_a_relative_network_gives_inverse_depth_unless_the_file_knows_the_scale(tmp_path: Path):
    file = tmp_path / 'p.yaml'
    file.write_text('/**: {ros__parameters: {scale: {mode: fixed, factor: 2.0}}}')
    relative = choose_parameters(None, '/dpt', model='dpt_hybrid_midas', threads=0)
    fixed = choose_parameters(file, '/dpt', model='dpt_hybrid_midas', threads=0)
    assert (relative.scale_mode, fixed.scale_mode, fixed.scale_factor) == ('none', 'fixed', 2.0)


def test_labels_may_come_from_a_second_network():
    chosen = choose_parameters(
        None, '/dpt', model='dpt_hybrid_nyu', segmentation_model='dpt_tiny', threads=0
    )
    assert (chosen.depth_model, chosen.segmentation_model) == ('dpt_hybrid_nyu', 'dpt_tiny')


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        ([], 'name a network: give --model, or --params with depth.model'),
        (['--model', 'nothing'], "'nothing'"),
        (['--model', 'dpt_tiny', '--image', '/x'], r'in has no topic /x; .* it has /camera/image'),
        (['--model', 'dpt_tiny', '--image', '/words'], '/words of .*in is std_msgs/msg/String'),
        (['--model', 'dpt_tiny', '--camera-info', '/words'], 'it has /camera/camera_info'),
        (['--model', 'dpt_tiny', '--camera-info', '/x'], 'it has /camera/camera_info'),
        (['--model', 'dpt_tiny', '--outputs', 'depth'], "no output 'depth'; there are col"),
        (['--model', 'dpt_tiny', '--params', 'no.yaml'], 'no.yaml'),
        (['--model', 'dpt_tiny', '--weights', 'no.pth'], 'there are no weights at no.pth'),
        (['--model', 'dpt_tiny', '--device', 'tpu'], 'tpu'),
    ],
    ids=lambda x: ' '.join(x[-2:]) if isinstance(x, list) else '',
)
def test_what_will_not_do_is_one_sentence(
    bag: Path, capsys: pytest.CaptureFixture, arguments: list[str], told: str
):
    line = refused(capsys, bag, bag.with_name('out'), *arguments)
    assert re.search(told, line)
    assert [path.name for path in bag.parent.iterdir()] == ['in']


def test_which_of_two_image_topics_is_meant_is_asked(tmp_path: Path):
    rear = ('/rear/image', 9 * MS, image(pixels(0), 'rgb8', 0))
    bag = write_bag(tmp_path / 'in', *scene(1, rear))
    with pytest.raises(ValueError, match=r'give --image a topic of .*/camera/image, /rear/image'):
        label(order(bag))


@pytest.mark.parametrize('named', ['', '/camera/image'])
def test_a_topic_without_a_message_is_told(tmp_path: Path, named: str):
    kinds = {'/words': 'std_msgs/msg/String', '/camera/image': 'sensor_msgs/msg/Image'}
    with Writer(tmp_path / 'in', version=9) as writer:
        for topic, kind in kinds.items():
            connection = writer.add_connection(topic, kind, typestore=STORE)
            if topic == '/words':
                writer.write(connection, 0, STORE.serialize_cdr(text('hello'), kind))
    with pytest.raises(ValueError, match='there is no message on /camera/image in'):
        label(order(tmp_path / 'in', image=named))


def test_topics_that_are_there_already_are_not_mixed_with_new_ones(bag: Path):
    label(order(bag, outputs=('depth/image',)))
    again = order(bag.with_name('out'), output=bag.with_name('again'))
    with pytest.raises(ValueError, match='has /dpt/depth/image already: choose another --name'):
        label(replace(again, image='/camera/image'))
    done = label(replace(again, image='/camera/image', node='/other'))
    assert '/other/depth/image' in done.topics


def test_the_output_is_not_a_file(bag: Path):
    with pytest.raises(ValueError, match='a bag is a folder, so name it without end'):
        label(order(bag, output=bag.with_name('out.mcap')))


def test_the_summary_can_be_json(bag: Path, quick: list[str], capsys: pytest.CaptureFixture):
    out = bag.with_name('out')
    main(['bag', str(bag), str(out), '--json', '--outputs', 'depth/image', *quick])
    (told,) = json.loads(capsys.readouterr().out)
    assert (told['output'], told['images'], told['error']) == (str(out), 3, '')
    assert told['topics'] == ['/dpt/depth/image']


def test_a_folder_that_may_not_be_written_to_is_one_sentence(
    bag: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, 'Permission denied', str(bag))

    monkeypatch.setattr(Path, 'mkdir', refuse)  # root may write everywhere
    assert 'Permission denied' in refused(capsys, bag, bag / 'out', '--model', 'dpt_tiny')
    assert os.listdir(bag)


def test_the_parameter_file_of_the_package_will_do():
    file = Path(__file__).parents[2] / 'config' / 'dpt.yaml'
    assert repr(choose_parameters(file, '/dpt', threads=0)) == repr(Parameters())
