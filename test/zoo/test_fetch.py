"""Downloads: whatever a server does, a file in its place is whole and the right one."""

from collections.abc import Iterator
from dataclasses import replace
import errno
import fcntl
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from threading import Event, Thread
from typing import ClassVar

from dpt_ros.tools.cli import main
from dpt_ros.zoo import fetch as module
from dpt_ros.zoo.checkpoints import CHECKPOINTS
from dpt_ros.zoo.fetch import fetch, FetchError
import pytest

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LOCAL = '127.0.0.1'


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT, in one of the ways that servers have."""

    way: ClassVar[str] = ''
    asked: ClassVar[list[str | None]] = []  # the header Range of each request
    paths: ClassVar[list[str]] = []  # what each request was for
    released: ClassVar[Event] = Event()

    def do_GET(self) -> None:
        asked = self.headers['Range']
        self.asked.append(asked)
        self.paths.append(self.path)
        start = int(asked.removeprefix('bytes=').removesuffix('-')) if asked else 0
        if self.way == 'gone':
            self.send_error(404)
            return
        if self.way.startswith('moved to '):
            self.send_response(302)
            self.send_header('Location', self.way.removeprefix('moved to '))
            self.end_headers()
            return
        if self.way == 'hangs up':
            self.connection.close()
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        content = b'x' * len(CONTENT) if self.way == 'wrong bytes' else CONTENT
        start = start if self.way != 'ignores ranges' else 0
        self.send_response(206 if start else 200)
        if start:
            first = start + (self.way == 'another range')
            span = f'bytes {first}-{len(content) - 1}/{len(content)}'
            self.send_header('Content-Range', span)
        if not self.way.startswith('tells no length'):
            self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        end = HALF if self.way.endswith(('truncates', 'stalls')) else len(content)
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if self.way == 'stalls':
            self.released.wait(20)

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


class Servers(ThreadingHTTPServer):
    """Each request on its own thread."""

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""


@pytest.fixture(scope='module')
def address() -> Iterator[str]:
    with Servers((LOCAL, 0), Server) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f'http://{LOCAL}:{server.server_port}'
        Server.released.set()
        server.shutdown()


@pytest.fixture
def path(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the file of the model 'small' goes; the server is well-behaved."""
    entry = CHECKPOINTS['dpt_hybrid_nyu']
    entry = replace(entry, file='small.pt', url=address, sha256=SHA256, size=len(CONTENT))
    monkeypatch.setitem(CHECKPOINTS, 'small', entry)
    monkeypatch.setattr(Server, 'way', '')
    monkeypatch.setattr(Server, 'asked', [])
    monkeypatch.setattr(Server, 'paths', [])
    monkeypatch.setenv('DPT_ROS_WEIGHTS', str(tmp_path / 'weights'))
    monkeypatch.setenv('no_proxy', LOCAL)
    return tmp_path / 'weights' / 'small.pt'


def part_of(path: Path, content: bytes = b'') -> Path:
    """Name the unfinished file, and leave what an earlier run got."""
    part = path.with_name('small.pt.part')
    if content:
        path.parent.mkdir(exist_ok=True)
        part.write_bytes(content)
    return part


def expect(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    monkeypatch.setitem(CHECKPOINTS, 'small', replace(CHECKPOINTS['small'], **facts))


def get(timeout: float = 5.0) -> Path:
    return fetch('small', timeout=timeout, http_host=LOCAL)


def assert_arrived(path: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ['small.pt']


def test_a_file_arrives_in_a_folder_that_is_made(path: Path):
    assert get() == path
    assert_arrived(path)
    assert Server.asked == [None]


@pytest.mark.usefixtures('path')
def test_progress_goes_from_nothing_to_all():
    seen = []
    fetch('small', progress=lambda *now: seen.append(now), http_host=LOCAL)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


@pytest.mark.parametrize('digits', [8, 64])
def test_a_checksum_is_compared_as_far_as_it_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch, digits: int
):
    expect(monkeypatch, sha256=SHA256[:digits])
    assert get().read_bytes() == CONTENT
    Server.way = 'wrong bytes'
    path.unlink()
    with pytest.raises(FetchError, match='sha256'):
        get()


@pytest.mark.usefixtures('path')
def test_what_is_there_and_right_is_not_downloaded():
    get()
    get()
    assert len(Server.asked) == 1


def test_what_is_there_and_wrong_is_replaced(path: Path):
    path.parent.mkdir()
    path.write_bytes(b'wrong')
    get()
    assert_arrived(path)


@pytest.mark.parametrize('way', ['truncates', 'stalls', 'hangs up', 'wrong bytes', 'gone'])
def test_what_was_there_stays_until_the_right_one_came(path: Path, way: str):
    path.parent.mkdir()
    path.write_bytes(b'wrong')
    Server.way = way
    with pytest.raises(FetchError):
        get(timeout=0.3)
    assert path.read_bytes() == b'wrong'


@pytest.mark.parametrize(
    ('way', 'message'),
    [
        ('truncates', f'small.pt ended after {HALF} of {len(CONTENT)} bytes: run the command aga'),
        ('stalls', r'small.pt sent nothing for 0\.3 seconds: run the command again'),
    ],
)
def test_an_interrupted_download_goes_on_where_it_stopped(path: Path, way: str, message: str):
    Server.way = way
    with pytest.raises(FetchError, match=message):
        get(timeout=0.3)
    assert os.listdir(path.parent) == ['small.pt.part']
    assert part_of(path).read_bytes() == CONTENT[:HALF]
    Server.way = ''
    get()
    assert_arrived(path)
    assert Server.asked == [None, f'bytes={HALF}-']


@pytest.mark.parametrize('way', ['ignores ranges', 'another range'])
def test_a_server_that_cannot_go_on_is_asked_for_all(path: Path, way: str):
    part_of(path, CONTENT[:1000])
    Server.way = way
    get()
    assert_arrived(path)


def test_a_server_that_tells_no_length_will_do(path: Path):
    Server.way = 'tells no length'
    get()
    assert_arrived(path)


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize('known', [True, False])
def test_progress_knows_the_end_if_server_or_table_tells_it(
    monkeypatch: pytest.MonkeyPatch, known: bool
):
    Server.way = 'tells no length'
    if not known:
        expect(monkeypatch, size=None)
    seen = []
    fetch('small', progress=lambda *now: seen.append(now), http_host=LOCAL)
    assert seen[-1] == (len(CONTENT), len(CONTENT) if known else None)


def test_a_file_of_another_size_is_not_downloaded(path: Path, monkeypatch: pytest.MonkeyPatch):
    part = part_of(path, CONTENT[:1000])
    expect(monkeypatch, size=len(CONTENT) + 1)
    message = f'small.pt offers {len(CONTENT)} bytes where {len(CONTENT) + 1} are wanted, so it w'
    with pytest.raises(FetchError, match=message):
        get()
    assert part.read_bytes() == CONTENT[:1000]


def test_a_download_that_ends_early_unnoticed_by_the_server_goes_on(path: Path):
    Server.way = 'tells no length and truncates'
    with pytest.raises(FetchError, match=f'ended after {HALF} of {len(CONTENT)} bytes: run the'):
        get()
    Server.way = ''
    get()
    assert_arrived(path)
    assert Server.asked == [None, f'bytes={HALF}-']


def test_of_a_file_that_is_there_the_size_is_looked_at_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    looked_at = []
    monkeypatch.setattr(module, 'checksum', lambda p: looked_at.append(p.name) or SHA256)
    get()
    assert looked_at == ['small.pt.part']
    assert path.read_bytes() == CONTENT


def test_a_file_may_have_another_name_where_it_is_published(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    expect(monkeypatch, remote='main/model.safetensors')
    get()
    assert_arrived(path)
    assert Server.paths == ['/main/model.safetensors']


@pytest.mark.parametrize('earlier', [b'of something else', b'y' * len(CONTENT), CONTENT * 2])
def test_an_earlier_part_of_something_else_costs_a_new_beginning(path: Path, earlier: bytes):
    part_of(path, earlier)
    get()
    assert_arrived(path)


def test_a_part_that_was_complete_only_moves_to_its_place(path: Path):
    part_of(path, CONTENT)
    get()
    assert_arrived(path)
    assert Server.asked == [f'bytes={len(CONTENT)}-']


def test_wrong_bytes_are_thrown_away(path: Path):
    Server.way = 'wrong bytes'
    found = hashlib.sha256(b'x' * len(CONTENT)).hexdigest()
    with pytest.raises(FetchError, match=f'sha256 {found} where {SHA256} is wanted, so it was th'):
        get()
    assert os.listdir(path.parent) == []


def test_a_file_that_is_gone_is_told_with_where_it_would_go(path: Path):
    Server.way = 'gone'
    with pytest.raises(FetchError, match=f'answers 404 Not Found: .* bring the file to {path} by'):
        get()
    assert os.listdir(path.parent) == []


@pytest.mark.usefixtures('path')
def test_a_server_that_hangs_up_is_told():
    Server.way = 'hangs up'
    with pytest.raises(FetchError, match=r'broke off \(Remote end closed .*: run the command aga'):
        get()


@pytest.mark.usefixtures('path')
def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch):
    expect(monkeypatch, url=f'http://{LOCAL}:1')
    with pytest.raises(FetchError, match=rf'{LOCAL}:1 cannot be reached \(.*refused.*check the n'):
        get()


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_up_is_left_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    def write(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_size > 1000:
            raise OSError(code, os.strerror(code))
        return os.pwrite(descriptor, data[:999], os.fstat(descriptor).st_size)

    monkeypatch.setattr(module.os, 'write', write)
    with pytest.raises(FetchError, match=re.escape(f'cannot be written ({os.strerror(code)})')):
        get()
    monkeypatch.undo()
    assert os.listdir(path.parent) == []


def test_a_disk_that_is_full_when_all_is_written_is_left_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, 'fsync', fsync)
    with pytest.raises(FetchError, match=r'cannot be written \(No space left on device\)'):
        get()
    assert os.listdir(path.parent) == []


# Fetches into a file system of so few bytes that the server's content does not fit.
SMALL = """
from dataclasses import replace
import os
import sys
from dpt_ros.zoo.checkpoints import CHECKPOINTS
from dpt_ros.zoo.fetch import fetch, FetchError
url, folder, host = sys.argv[1:]
entry = CHECKPOINTS['dpt_hybrid_nyu']
CHECKPOINTS['small'] = replace(entry, file='small.pt', url=url, size=None)
try:
    fetch('small', folder, http_host=host)
except FetchError as error:
    print(error, os.listdir(folder))
"""
MOUNTED = ['unshare', '--map-root-user', '--mount', 'sh', '-c']
MOUNTED += ['mount -t tmpfs -o size=300k none "$0" && exec "$@"']


def test_a_real_disk_that_fills_up_is_left_as_it_was(path: Path, address: str):
    folder = path.parent
    folder.mkdir()
    tried = subprocess.run([*MOUNTED, folder, 'true'], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f'no small disk can be made: {tried.stderr.strip()}')
    Server.way = 'tells no length'  # else it is known beforehand that it cannot fit
    command = [*MOUNTED, folder, sys.executable, '-c', SMALL, address, folder, LOCAL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'small.pt.part cannot be written (No space left on device)' in done.stdout
    assert done.stdout.endswith(' []\n')


def test_what_cannot_fit_is_not_begun(path: Path, monkeypatch: pytest.MonkeyPatch):
    full = shutil.disk_usage('/')._replace(free=1000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: full)
    with pytest.raises(FetchError, match='has 0 MB free where 1 MB are needed: free some'):
        get()
    assert os.listdir(path.parent) == []


def test_a_folder_that_cannot_be_made_is_told(path: Path):
    path.parent.write_text('a file')
    with pytest.raises(FetchError, match=f'cannot write to {path.parent} .* with --weights-dir'):
        get()


def test_two_at_once_do_not_write_one_file(path: Path):
    part = part_of(path, CONTENT[:1000])
    with part.open('ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match='another process is downloading'):
            get()
    assert part.read_bytes() == CONTENT[:1000]


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize('url', ['http://example.org', 'ftp://127.0.0.1', 'file:///etc'])
def test_nothing_but_https_is_spoken(monkeypatch: pytest.MonkeyPatch, url: str):
    expect(monkeypatch, url=url)
    with pytest.raises(FetchError, match=f'{url}/small.pt is not https'):
        get()


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize('url', ['http://example.org/a', 'ftp://example.org/a'])
def test_a_redirection_away_from_https_is_not_followed(url: str):
    Server.way = f'moved to {url}'
    with pytest.raises(FetchError, match=f'{url} is not https'):
        get()


@pytest.mark.usefixtures('path')
def test_http_is_refused_unless_asked_for():
    with pytest.raises(FetchError, match='is not https'):
        fetch('small')
    assert Server.asked == []


def test_a_network_without_a_file_is_refused():
    with pytest.raises(ValueError, match='dpt_tiny has no published file to fetch'):
        fetch('dpt_tiny')


def test_the_command_tells_where_each_file_is(path: Path, capsys: pytest.CaptureFixture):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    main(['fetch', 'small', 'small', '--weights-dir', str(path.parent)])
    assert capsys.readouterr().out == f'small is at {path}; license: MIT\n' * 2


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize(
    ('names', 'words'),
    [
        (['small'], 'small.pt is not https'),
        (['small', 'dpt_huge'], "no model is called 'dpt_huge'"),
        (['dpt_tiny'], 'dpt_tiny has no published file'),
    ],
)
def test_the_command_fails_with_one_line(
    capsys: pytest.CaptureFixture, names: list[str], words: str
):
    with pytest.raises(SystemExit) as end:
        main(['fetch', *names])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dpt: ') and words in line
