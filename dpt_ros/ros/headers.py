"""The size of a compressed picture, read from its header before anything is decoded."""

import struct

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}  # by the type of color; the others have one
_JPEG = b'\xff\xd8\xff'
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # of the markers that begin a frame, those that do not
_NO_SEGMENTS = (0x01, *range(0xD0, 0xD8))  # markers that nothing follows
_SCAN = 0xDA


def picture_size(data: bytes) -> tuple[int, int] | None:
    """
    Read width and height of a JPEG (ITU-T T.81, B.2) or a PNG (its first chunk, IHDR).

    The decoder comes to the same, for it takes the first header too and refuses a second one.

    :return: None for what is neither, has no header that can be read, or is a PNG that was cut
        short: of each of those the decoder would write a line of its own into the log, and make
        room for a chunk of two gigabytes if one says that it is so long.
    """
    try:
        if data.startswith(_PNG):
            return _png_size(data)
        if data.startswith(_JPEG):
            return _jpeg_size(data)
    except (struct.error, IndexError):  # it ends before its header does
        pass
    return None


def most_pixels(data: bytes) -> int:
    """
    Return how many pixels so many bytes can hold at most.

    :param data: of which `picture_size` is known. Deflate, in a PNG, makes at most 1032 bytes of
        one; a JPEG has at least one bit for each block of 64 pixels.
    """
    if data.startswith(_JPEG):
        return len(data) * 8 * 64
    depth, channels = data[24], _PNG_CHANNELS.get(data[25], 1)
    return len(data) * 1032 * 8 // max(1, depth * channels)


def count_scans(data: bytes) -> int:
    """Count how often a JPEG goes over its pixels; a PNG, never."""
    return data.count(bytes([0xFF, _SCAN])) if data.startswith(_JPEG) else 0


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Go from chunk to chunk until the last one, all of which must be there."""
    width, height = struct.unpack_from('>II', data, 16)
    at, kind = len(_PNG), b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', data, at)
        if at == len(_PNG) and kind != b'IHDR':
            return None
        at += 12 + length  # and length, kind and checksum themselves
    return (width, height) if at <= len(data) else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Go from marker to marker until one begins a frame."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # as many of these as one likes
            at += 1
        elif marker in _NO_SEGMENTS:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            height, width = struct.unpack_from('>HH', data, at + 5)
            return width, height
        elif marker == _SCAN:
            return None
        else:
            (length,) = struct.unpack_from('>H', data, at + 2)
            at += 2 + max(length, 2)
    return None
