"""What is done to good bytes, and how little may come of bad ones."""

from hypothesis import settings
from hypothesis import strategies as st

# The same examples each time; deadlines are kept by `make fuzz`, for machines differ.
SHORT = settings(max_examples=150, deadline=None, derandomize=True)
FEW = settings(SHORT, max_examples=50)  # where one takes a file and milliseconds

NUMBERS = (0, 1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
UINT32 = st.sampled_from(NUMBERS) | st.integers(0, 2**32 - 1) | st.integers(0, 40)
LONGEST = 1500  # characters of a refusal: a log line, not a flood


@st.composite
def damaged(draw: st.DrawFn, goods: list[bytes]) -> bytes:
    """Cut, overwrite, repeat or drop parts of one of some good files or messages."""
    data = bytearray(draw(st.sampled_from(goods)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = start + draw(st.integers(1, 64))
        match draw(st.sampled_from(('cut', 'bytes', 'number', 'repeat', 'drop'))):
            case 'cut':
                del data[start:]
            case 'bytes':
                new = draw(st.binary(min_size=1, max_size=8))
                end = start + len(new)
                data[start:end] = new
            case 'number':
                order = draw(st.sampled_from(('big', 'little')))
                width = draw(st.sampled_from((2, 4, 8)))
                end = start + width
                data[start:end] = (draw(st.sampled_from(NUMBERS)) % 256**width).to_bytes(
                    width, order
                )
            case 'repeat':
                data[start:start] = data[start:end]
            case 'drop':
                del data[start:end]
    return bytes(data)


def damaged_files(goods: dict[str, list[bytes]]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Damage one of some good files, given by suffix; the suffix comes with it."""
    return st.sampled_from(list(goods)).flatmap(
        lambda suffix: st.tuples(st.just(suffix), damaged(goods[suffix]))
    )


def check_refusal(error: Exception) -> None:
    """Hold a refusal to be one readable line."""
    text = str(error)
    assert 0 < len(text) < LONGEST, text
    assert text.isprintable(), repr(text)
