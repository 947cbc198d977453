"""The size of a compressed picture, read from its header before anything is decoded."""

import struct

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xaeB`\x82'
_JPEG = b'\xff\xd8\xff'
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # of the markers that begin a frame, those that do not
_NO_SEGMENTS = (0x01, *range(0xD0, 0xD8))  # markers that nothing follows
_SCAN = 0xDA


def picture_size(data: bytes) -> tuple[int, int] | None:
    """
    Read width and height of a JPEG (ITU-T T.81, B.2) or a PNG (its first chunk, IHDR).

    The decoder comes to the same, for it takes the first header too and refuses a second one.

    :return: None for what is neither, has no header that can be read, or is a PNG that was cut
        short: of each of those the decoder would write a line of its own into the log.
    """
    try:
        if data.startswith(_PNG):
            if data.rfind(_PNG_END) < 0:
                return None
            width, height = struct.unpack_from('>II', data, 16)
            return (width, height) if data[12:16] == b'IHDR' else None
        if data.startswith(_JPEG):
            return _jpeg_size(data)
    except (struct.error, IndexError):  # it ends before its header does
        pass
    return None


def count_scans(data: bytes) -> int:
    """Count how often a JPEG goes over its pixels; a PNG, never."""
    return data.count(bytes([0xFF, _SCAN])) if data.startswith(_JPEG) else 0


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
