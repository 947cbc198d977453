"""The command line: what it understands, and what it says to who mistypes."""

from pathlib import Path

from dpt_ros.tools.cli import main, parse
import pytest
import rclpy


def test_the_demo_needs_no_argument():
    chosen = parse(['demo'])
    assert (chosen.source, chosen.camera, chosen.params) == ('world', None, None)
    assert (chosen.rate, chosen.seconds, chosen.output) == (15.0, 8.0, Path('demo'))


def test_the_demo_takes_its_options():
    text = '--source a.mp4 --camera 500,501.5,320,240 --params p.yaml --rate 5 --seconds 2.5'
    chosen = parse(['demo', *text.split(), '--output', 'out'])
    assert (chosen.source, chosen.params) == ('a.mp4', Path('p.yaml'))
    assert chosen.camera == (500.0, 501.5, 320.0, 240.0)
    assert (chosen.rate, chosen.seconds, chosen.output) == (5.0, 2.5, Path('out'))


@pytest.mark.parametrize('numbers', ['1,2,3', '1,2,3,4,5', 'a,b,c,d', '', '1 2 3 4'])
def test_intrinsics_are_four_numbers(capsys: pytest.CaptureFixture, numbers: str):
    with pytest.raises(SystemExit) as end:
        parse(['demo', '--camera', numbers])
    assert end.value.code == 2
    assert f"'{numbers}' is not four numbers FX,FY,CX,CY" in capsys.readouterr().err


@pytest.mark.parametrize('argv', [[], ['dance'], ['demo', '--rate', 'fast'], ['demo', 'more']])
def test_what_is_not_understood_ends_with_2(argv: list[str]):
    with pytest.raises(SystemExit) as end:
        parse(argv)
    assert end.value.code == 2


def test_help_lists_the_commands(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        main(['--help'])
    assert end.value.code == 0
    assert 'demo' in capsys.readouterr().out


def test_help_of_the_demo_tells_every_option_and_its_default(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        main(['demo', '--help'])
    assert end.value.code == 0
    told = capsys.readouterr().out
    for word in ('--source', '--camera', '--params', '--rate', '--seconds', '--output'):
        assert word in told
    for default in ('(world)', '(15.0)', '(8.0)', '(demo)'):
        assert default in told


@pytest.mark.parametrize('source', ['nowhere', 'empty'])
def test_a_source_without_images_is_one_line_and_costs_no_earlier_demo(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def refuse() -> None:
        raise AssertionError('ROS was started for a source that is not there')

    monkeypatch.setattr(rclpy, 'init', refuse)
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    Path('demo').mkdir()
    Path('demo/dpt.png').write_bytes(b'of an earlier run')
    with pytest.raises(SystemExit) as end:
        main(['demo', '--source', source])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dpt: ') and source in line
    assert Path('demo/dpt.png').exists()
