"""
Download published weights: the only room of the house with a door to the internet.

Nothing that runs on a robot imports this module. A file appears in its place whole and verified,
or not at all; until then it grows beside it as NAME.part, from where an interrupted download goes
on if the server allows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import fcntl
from http.client import HTTPException, HTTPResponse
from io import FileIO
import os
from pathlib import Path
import re
import shutil
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import build_opener, HTTPRedirectHandler, OpenerDirector, Request

from dpt_ros.zoo.store import checkpoint, checksum, has_wrong_size, weights_path

CHUNK = 1 << 18  # bytes at a time, at most
STALL = 30.0  # seconds without a byte after which a download is given up
AGAIN = 'run the command again, it goes on where it stopped'

Progress = Callable[[int, int | None], None]  # bytes that are here, and of how many if known


class FetchError(OSError):
    """A download failed; the place of the file is as it was before."""


def silent(done: int, total: int | None) -> None:
    """Report no progress."""


def fetch(
    name: str,
    folder: str = '',
    *,
    progress: Progress = silent,
    timeout: float = STALL,
    http_host: str = '',
) -> Path:
    """
    Bring the published weights of `name` to their place, unless they are there and right.

    :param folder: as in `store.weights_folder`; made if missing.
    :param timeout: seconds without a byte after which to give up.
    :param http_host: the one host that may be spoken to by http, for tests; all else is https.
    :return: where the file is.
    :raises ValueError: for a name that is not known or has no published file.
    :raises FetchError: for whatever goes wrong on the way.
    """
    entry, path = checkpoint(name), weights_path(name, folder)
    if entry.address is None:
        raise ValueError(f'{name} has no published file to fetch: `dpt models` tells which have')
    url, wanted = entry.address, entry.sha256 or ''
    if path.is_file() and not has_wrong_size(path, entry) and checksum(path).startswith(wanted):
        return path
    server = build_opener(_Redirects(http_host))
    with _part_of(path) as file:
        _check_url(url, http_host)
        resumed = _receive(server, url, file, entry.size, progress, timeout)
        found = checksum(Path(file.name))
        if resumed and not found.startswith(wanted):  # its beginning was of something else
            file.truncate(0)
            _receive(server, url, file, entry.size, progress, timeout)
            found = checksum(Path(file.name))
        if not found.startswith(wanted):
            Path(file.name).unlink()
            raise FetchError(
                f'{url} gave a file with sha256 {found} where {wanted} is wanted, so it was '
                'thrown away: something on the way replaced it (a page to log in?); try another '
                'network'
            )
        try:
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except OSError as error:
            raise _unwritable(file, error) from None
    return path


@contextmanager
def _part_of(path: Path) -> Iterator[FileIO]:
    """Open PATH.part to be continued, by nobody else at the same time."""
    part = path.with_name(f'{path.name}.part')
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(str(part), 'a')
    except OSError as error:
        raise FetchError(
            f'cannot write to {part.parent} ({error.strerror}): choose a folder with --weights-dir'
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have moved it to its place meanwhile.
            alone = part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())
        except BlockingIOError:
            alone = False
        if not alone:
            raise FetchError(f'another process is downloading {part}: wait for it')
        try:
            yield file
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _receive(
    server: OpenerDirector,
    url: str,
    file: FileIO,
    size: int | None,
    progress: Progress,
    timeout: float,
) -> bool:
    """Complete a file of `size`, if that is known; tell whether bytes it had before were kept."""
    start = file.seek(0, os.SEEK_END)
    try:
        response = _ask(server, url, start, timeout)
        if response is None:
            return True
        with response:
            start, total = _span(response)
            total = _check_size(url, size, total)
            file.truncate(start)
            _check_space(Path(file.name), start, total)
            done = start
            progress(done, total)
            while chunk := response.read1(CHUNK if total is None else min(CHUNK, total - done)):
                _write(file, chunk)
                done += len(chunk)
                progress(done, total)
    except FetchError:
        raise
    except HTTPError as error:
        raise FetchError(
            f'{url} answers {error.code} {error.reason}: try again later, or bring the file to '
            f'{file.name.removesuffix(".part")} by other means'
        ) from None
    except TimeoutError:
        raise FetchError(f'{url} sent nothing for {timeout:g} seconds: {AGAIN}') from None
    except URLError as error:
        raise FetchError(
            f'{urlsplit(url).netloc} cannot be reached ({error.reason}): check the network and '
            'the variable https_proxy'
        ) from None
    except (OSError, HTTPException) as error:
        raise FetchError(f'{url} broke off ({error or type(error).__name__}): {AGAIN}') from None
    if total is not None and done < total:
        raise FetchError(f'{url} ended after {done} of {total} bytes: {AGAIN}')
    return start > 0


def _ask(server: OpenerDirector, url: str, start: int, timeout: float) -> HTTPResponse | None:
    """Request a file from byte `start` on; None if there is nothing beyond."""
    request = Request(url, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        response = server.open(request, timeout=timeout)
    except HTTPError as error:
        if start and error.code == 416:
            return None
        raise
    if start and response.status == 206 and _span(response)[0] != start:
        response.close()
        return _ask(server, url, 0, timeout)
    return response


def _span(response: HTTPResponse) -> tuple[int, int | None]:
    """Tell the first byte that a response holds and the size of the whole file, if it is told."""
    ranged = re.match(r'bytes (\d+)-\d+/(\d+|\*)', response.headers.get('Content-Range', ''))
    if response.status == 206 and ranged:
        return int(ranged[1]), None if ranged[2] == '*' else int(ranged[2])
    length = response.headers.get('Content-Length', '')
    return 0, int(length) if length.isdigit() else None


def _check_size(url: str, wanted: int | None, told: int | None) -> int | None:
    """Refuse a file that is not as large as the published one; return how large it will be."""
    if wanted is not None and told not in (None, wanted):
        raise FetchError(
            f'{url} offers {told} bytes where {wanted} are wanted, so it was not downloaded: '
            'something on the way replaced it (a page to log in?); try another network'
        )
    return told if wanted is None else wanted


def _check_space(part: Path, start: int, total: int | None) -> None:
    """Refuse to begin what cannot fit."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise FetchError(
            f'{part.parent} has {free / 1e6:.0f} MB free where {total / 1e6:.0f} MB are needed: '
            'free some, or choose another folder with --weights-dir'
        )


def _write(file: FileIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    try:
        while left:
            written = os.write(file.fileno(), left)
            left = left[written:]
    except OSError as error:
        raise _unwritable(file, error) from None


def _unwritable(file: FileIO, error: OSError) -> FetchError:
    """Remove what cannot be completed, and say so."""
    Path(file.name).unlink()
    return FetchError(
        f'{file.name} cannot be written ({error.strerror}), so it was removed: free some space, '
        'or choose another folder with --weights-dir'
    )


def _check_url(url: str, http_host: str) -> None:
    """Refuse to speak anything but https."""
    parts = urlsplit(url)
    if parts.scheme != 'https' and (parts.scheme, parts.hostname) != ('http', http_host):
        raise FetchError(f'{url} is not https: weights are not downloaded where others can write')


class _Redirects(HTTPRedirectHandler):
    """Follows redirections, by https only."""

    def __init__(self, http_host: str):
        self._http_host = http_host

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_url(newurl, self._http_host)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
