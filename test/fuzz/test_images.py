"""Images, raw and compressed, and maps of depth: a sender may declare anything."""

from array import array
from collections.abc import Callable
import struct
import zlib

import cv2
from damage import check_refusal, damaged, SHORT, UINT32
from dpt_ros.ros import messages
from dpt_ros.ros.messages import decode_compressed, decode_depth, decode_image
from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

MAX_PIXELS = 10_000
ENCODINGS = (*messages._PACKED, *messages._PLANAR, '32FC1', '16UC1')
RANDOM = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
PICTURES = [
    cv2.imencode(end, pixels, options)[1].tobytes()
    for end, options in (
        ('.png', []),
        ('.jpg', []),
        ('.jpg', [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ('.jpg', [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    )
    for pixels in (RANDOM, RANDOM[:, :, 0], np.zeros_like(RANDOM))
]

small = st.integers(0, 200)
images = st.builds(
    Image,
    width=small | UINT32,
    height=small | UINT32,
    encoding=st.sampled_from(ENCODINGS) | st.text(max_size=60),
    is_bigendian=st.integers(0, 255),
    step=small | UINT32,
    data=st.integers(0, 2000).map(lambda size: array('B', bytes(size))),
)


def decoded_or_refused(decode: Callable, message: Image | CompressedImage) -> None:
    """Decode a message: what comes is an array that is allowed, or a refusal."""
    try:
        pixels = decode(message, MAX_PIXELS)
    except ValueError as error:
        check_refusal(error)
    else:
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


@given(images)
@SHORT
@example(Image(width=2**32 - 1, height=2**32 - 1, encoding='rgb8', step=2**32 - 1))
@example(Image(width=60, height=60, encoding='\x1b[2J\n' * 9))
def test_any_image_is_read_or_refused(image: Image):
    decoded_or_refused(decode_image, image)


@given(images)
@SHORT
def test_any_map_of_depth_is_read_or_refused(image: Image):
    decoded_or_refused(decode_depth, image)


@given(damaged(PICTURES) | st.binary(max_size=64), st.text(max_size=60))
@SHORT
def test_any_compressed_image_is_read_or_refused(data: bytes, text: str):
    decoded_or_refused(decode_compressed, CompressedImage(format=text, data=array('B', data)))


def png(width: int, height: int) -> bytes:
    """Give a PNG of zeros whose header says another size, with a checksum that fits."""
    data = PICTURES[2]
    header = b'IHDR' + struct.pack('>II', width, height) + data[24:29]
    return data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:]


def jpeg(width: int, height: int, data: bytes = PICTURES[3]) -> bytes:
    """Give a JPEG whose frame header says another size."""
    at = max(data.find(b'\xff\xc0'), data.find(b'\xff\xc2')) + 5
    return data[:at] + struct.pack('>HH', height, width) + data[at:][4:]


@pytest.mark.parametrize(
    'bomb',
    [png(2**31 - 1, 2**31 - 1), png(101, 100), jpeg(65535, 65535), jpeg(101, 100, PICTURES[6])],
    ids=['png', 'png one too large', 'jpeg', 'progressive jpeg one too large'],
)
def test_a_bomb_is_known_by_its_header(bomb: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    message = CompressedImage(format='jpeg', data=array('B', bomb))
    with pytest.raises(ValueError, match=r'more than the 10000 pixels allowed.*max_pixels'):
        decode_compressed(message, MAX_PIXELS)


@pytest.mark.parametrize('decode', [decode_image, decode_depth])
def test_a_raw_image_beyond_the_limit_is_refused_though_its_data_are_there(decode: Callable):
    message = Image(width=101, height=100, encoding='16UC1', step=202)
    message.data = array('B', bytes(20200))
    with pytest.raises(ValueError, match=r'101x100 has more than the 10000 pixels allowed'):
        decode(message, MAX_PIXELS)
    assert decode(message, 10_100).shape[:2] == (100, 101)


@pytest.mark.parametrize('picture', [png(5000, 5000), jpeg(5000, 5000)], ids=['png', 'jpeg'])
def test_a_size_that_the_data_cannot_have_is_refused(picture: bytes, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    message = CompressedImage(format='jpeg', data=array('B', picture))
    with pytest.raises(ValueError, match=r'5000x5000 cannot be of \d+ bytes: it was cut short'):
        decode_compressed(message)


@pytest.mark.parametrize('shape', [(3000, 4000), (3000, 4000, 3)], ids=['gray', 'color'])
@pytest.mark.parametrize('kind', ['.png', '.jpg'])
def test_a_large_picture_of_one_color_is_read(shape: tuple[int, ...], kind: str):
    quality = [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_JPEG_QUALITY, 1]
    _, data = cv2.imencode(kind, np.zeros(shape, np.uint8), quality)
    message = CompressedImage(format='', data=array('B', data.tobytes()))
    assert decode_compressed(message).shape == (3000, 4000, 3)


def test_a_chunk_that_says_it_is_longer_than_the_data_is_never_made_room_for(monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    whole = PICTURES[0]
    chunk = struct.pack('>I', 2**31 - 1) + b'tEXt'
    message = CompressedImage(format='png', data=array('B', whole[:33] + chunk + whole[33:]))
    with pytest.raises(ValueError, match='is no whole JPEG or PNG'):
        decode_compressed(message)


def test_a_jpeg_of_endless_scans_is_refused():
    data, at = PICTURES[6], PICTURES[6].rfind(b'\xff\xda')
    scan = data[:-2][at:]
    message = CompressedImage(format='jpeg', data=array('B', data[:-2] + 30 * scan + data[-2:]))
    with pytest.raises(ValueError, match=r'a JPEG of \d+ scans would take long'):
        decode_compressed(message)


def test_pictures_that_were_cut_short_are_refused_and_nobody_else_tells(capfd):
    for data in PICTURES:
        for size in range(0, len(data) - 4, 7):
            with pytest.raises(ValueError, match='is no whole JPEG or PNG'):
                decode_compressed(CompressedImage(data=array('B', data[:size])))
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('magic', [b'BM', b'GIF89a', b'II*\0', b'RIFF\0\0\0\0WEBP', b'%!PS'])
def test_other_formats_never_reach_a_decoder(magic: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(ValueError, match='no whole JPEG or PNG'):
        decode_compressed(CompressedImage(data=array('B', magic + bytes(100))))
