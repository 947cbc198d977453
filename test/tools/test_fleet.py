"""Many bags: what runs them is exchangeable, and one that fails costs no other."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import json
from pathlib import Path
import pickle

from dpt_ros.ros.parameters import Parameters
from dpt_ros.tools.cli import main
from dpt_ros.tools.fleet import attempt, failure, orders_for, ray_map, table
from dpt_ros.tools.label import Labelled, Order
import pytest
from recordings import read_bag, text, write_bag
from test_label import scene

LIKE = Order(
    Path(),
    Path(),
    '',
    '',
    Parameters(cpu_threads=1, network_side=64),
    outputs=('depth/image', 'segmentation/mask'),
)


def fleet(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names, 1):
        write_bag(folder / name, *scene(number))
    return folder


def run(*arguments: object) -> int:
    """Run the command on folders whose parent has the parameters; return its exit code."""
    file = Path(str(arguments[0])).parent / 'p.yaml'
    file.write_text('/**: {ros__parameters: {depth.model: dpt_tiny, network.side: 64}}')
    options = ['--params', str(file), '--outputs', 'segmentation/mask', '--threads', '1']
    try:
        main(['bag', *map(str, arguments), *options])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_each_bag_of_a_fleet_finds_its_place(tmp_path: Path):
    bags, out = fleet(tmp_path / 'bags', 'a', 'day/b'), tmp_path / 'out'
    single = write_bag(tmp_path / 'c', ('/words', 0, text('')))
    file = next(single.glob('*.mcap'))
    orders = orders_for([bags, file], out, LIKE)
    assert {o.bag: o.output for o in orders} == {
        bags / 'a': out / 'a',
        bags / 'day/b': out / 'day/b',
        file: out / 'c',
    }
    assert all(replace(o, bag=LIKE.bag, output=LIKE.output) == LIKE for o in orders)


def test_fleets_that_will_not_do_are_refused(tmp_path: Path):
    bags = fleet(tmp_path / 'bags', 'a', 'day/a')
    (tmp_path / 'empty').mkdir()
    for inputs, output, told in (
        ([tmp_path / 'none'], 'out', 'there is no bag'),
        ([tmp_path / 'empty'], 'out', 'there are no bags in'),
        ([bags], 'bags/out', 'whose bags are read: choose another'),
        ([bags / 'a', bags / 'day/a'], 'out', 'would both become'),
    ):
        with pytest.raises(ValueError, match=told):
            orders_for(inputs, tmp_path / output, LIKE)


def test_a_bag_that_fails_costs_no_other_and_is_told(tmp_path: Path, capsys):
    bags = fleet(tmp_path / 'bags', 'a', 'c')
    write_bag(bags / 'b', ('/words', 0, text('no images')))
    assert run(bags, tmp_path / 'out', '--json') == 1
    told = {Path(one['bag']).name: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one['images'] for name, one in told.items()} == {'a': 1, 'b': 0, 'c': 2}
    assert 'give --image a topic' in told['b']['error']
    assert not told['a']['error'] and (tmp_path / 'out/c/metadata.yaml').exists()


def test_what_a_fleet_has_done_stays_when_it_is_run_again(tmp_path: Path, capsys):
    bags, out = fleet(tmp_path / 'bags', 'a'), tmp_path / 'out'
    assert run(bags, out) == 0
    before = (out / 'a/metadata.yaml').stat().st_mtime_ns
    fleet(bags, 'a2')
    capsys.readouterr()
    assert run(bags, out, '--json') == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one['images'], one['notes']) for one in told] == [(0, ['done before']), (1, [])]
    assert (out / 'a/metadata.yaml').stat().st_mtime_ns == before
    assert (
        run(bags, out, '--name', 'other') == 1
    )  # what others made is neither replaced nor taken for done
    assert 'is there already, and whole' in capsys.readouterr().out


def test_pools_of_the_standard_library_run_the_same_function(tmp_path: Path):
    bags = fleet(tmp_path / 'bags', 'a', 'b')
    orders = orders_for([bags], tmp_path / 'out', LIKE)
    orders = pickle.loads(pickle.dumps(orders))  # as they travel
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(attempt, orders))
    assert [one.images for one in done] == [1, 2]
    assert not any(one.error for one in done)


def test_ray_runs_the_same_function_and_loses_only_what_fails(tmp_path: Path):
    bags = fleet(tmp_path / 'bags', 'a', 'b')
    write_bag(bags / 'c', ('/words', 0, text('no images')))
    orders = orders_for([bags], tmp_path / 'ray', LIKE)
    done = {Path(d.bag).name: d for d in ray_map(attempt, orders, lost=failure, cores=1)}
    assert {name: one.images for name, one in done.items()} == {'a': 1, 'b': 2, 'c': 0}
    assert 'give --image a topic' in done['c'].error
    for order in orders_for([bags / 'a', bags / 'b'], tmp_path / 'here', LIKE):
        assert not attempt(order).error
        assert read_bag(order.output) == read_bag(tmp_path / 'ray' / order.output.name)


def test_the_summary_is_a_table_of_all_bags():
    done = [
        Labelled('a', 'out/a', 55, 1, ('1 of 55 images are left out: dark',), seconds=5),
        Labelled('bb', 'out/bb', error='there is no bag bb'),
    ]
    assert table(done).splitlines() == [
        'bag  images  left out  images/s',
        'a        55         1       0.0  out/a; 1 of 55 images are left out: dark',
        'bb                               failed: there is no bag bb',
    ]
