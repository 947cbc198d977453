"""
Native code for a CPU by Numba: functions, and loops whose rows threads share out.

Loops go to the threads of PyTorch's OpenMP as PyTorch's own operations do: by address, with no
Python in any of them. A region of the shortest loop takes four microseconds so; through Python,
whose lock one thread after the other needs, it took a hundred.
"""

from collections.abc import Collection
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

from dpt_ros.perception.bands import WORDS
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.compiler import Compiler
from numba.extending import intrinsic
import numpy as np

SOURCES = 'native.py', 'bands.py', 'loops.py', 'tiles.py', 'resample.py', 'winograd.py'
CONTRACT = ('contract',)  # products and sums are made at once
PATIENCE = 1000  # looks, some ten microseconds, before a thread that waits lets others run

_NATIVE_ONLY = {'no_cpython_wrapper': True, 'no_cfunc_wrapper': True}  # for native callers

# Where in a slot of a sheet what is known of a loop stands.
_ADDRESS, _BANDS, _ENDED, _GIVEN = 0, 1, 2, 4
_TAKEN, _DONE = 0, 1  # where bands are counted
_BYTES, _WORD = ir.IntType(8).as_pointer(), ir.IntType(64)
_CALL = ir.FunctionType(_WORD, [_WORD, _BYTES])  # a band, and what is given: 1 if it failed

_MONOTONIC = 1  # the clock
_sched_yield = types.ExternalFunction('sched_yield', types.int32())
_clock_gettime = types.ExternalFunction('clock_gettime', types.int32(types.int32, types.int64))


def compiled(function: Any, liberties: Collection[str] = CONTRACT, **more: Any) -> Any:
    """
    Compile a function on its first call, or read it from the disk if that was done before.

    It runs without the interpreter's lock.

    :param liberties: that numbers take from IEEE 754, as LLVM calls them: 'contract', or with
        'reassoc' sums in any order.
    :param more: options of Numba.
    """
    try:
        made = _native(function, liberties, cache=True, **more)
    except RuntimeError:  # no folder can be written to: compiled at each start
        return _native(function, liberties, **more)
    made._cache._cache_file._source_stamp = stamp()  # Numba's own is of the function's file alone
    return made


def inner(function: Any, liberties: Collection[str] = CONTRACT) -> Any:
    """
    Compile a function that only others call that are `compiled`, and that makes no arrays.

    It counts nobody who has one: each slice that is handed on would take forty cycles for that, a
    quarter of the time of `loops.classify`. And it need not look whether what it writes lies in
    what it reads, a tenth of that time: an array that it writes must not overlap another one.
    """
    return compiled(function, liberties, _nrt=False, pipeline_class=_Apart, **_NATIVE_ONLY)


def banded(loop: Any) -> Any:
    """
    Compile a loop over rows, called as loop(first, last, ...), to be run by `run`.

    :return: called as note(sheet, index, edges, ...), it notes such a call down in a sheet: for
        each band of rows between two of `edges`, (N + 1,) int64. Its arrays are nobody's there, so
        whoever calls it has to keep them. On the disk it is the loop's.
    """
    place = {part: getattr(loop.__code__, part) for part in ('co_filename', 'co_firstlineno')}
    names = {**globals(), 'loop': _within(loop)}
    note = FunctionType(_note.__code__.replace(**place), names, loop.__name__)
    note.__qualname__, note.__module__ = loop.__qualname__, loop.__module__
    return compiled(note, no_cfunc_wrapper=True)


@lru_cache(maxsize=1)
def stamp(folder: Path = Path(__file__).parent) -> str:
    """Tell apart what the files say that native code is made of: each has its own on the disk."""
    return sha256(b''.join((folder / name).read_bytes() for name in SOURCES)).hexdigest()


def _within(function: Any) -> Any:
    """Compile a function that nobody calls from Python."""
    return _native(function, CONTRACT, **_NATIVE_ONLY)


def _native(function: Any, liberties: Collection[str], **more: Any) -> Any:
    _take_wide_registers()
    options = {'nogil': True, 'error_model': 'numpy', 'fastmath': set(liberties), **more}
    return njit(**options)(function)


class _Apart(Compiler):
    """Tells LLVM that arrays do not overlap."""

    def __init__(self, typing: Any, target: Any, library: Any, *rest: Any):
        *_, flags, _ = rest
        flags.noalias = True
        super().__init__(typing, target, library, *rest)


@lru_cache(maxsize=1)
def _take_wide_registers() -> None:
    """
    Let LLVM use registers of 512 bits where there are any; on Intel's it would use half of them.

    Which was for processors that slowed down. A convolution of `tiles` takes 0.8 of the time.
    """
    settings: Any = config  # which has them from the environment, NUMBA_CPU_FEATURES and so on
    features = get_host_cpu_features()
    chosen = settings.CPU_FEATURES is not None or settings.CPU_NAME is not None
    if '+avx512vl' in features and not chosen:
        settings.CPU_FEATURES = f'{features},-prefer-256-bit'


loop: Any = None  # of each `_note` its own, see `banded`


def _note(sheet, index, edges, *given):
    slot = sheet[index]
    slot[_BANDS] = len(edges) - 1
    _write_call(slot, loop, edges, given)  # type: ignore[call-arg]


@intrinsic
def _write_call(typing: Any, slot: Any, loop: Any, edges: Any, given: Any) -> Any:
    """Write into a slot how a loop is called for a band, with what is in the tuple `given`."""
    called = loop.get_call_type(typing, (types.int64, types.int64, *given), {})

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        data = _data(context, builder, slot, values[0])
        all_given = types.Tuple((edges, *given))
        block = [values[2], *cgutils.unpack_tuple(builder, values[3])]
        block = [_bare(context, builder, *one) for one in zip(all_given, block, strict=True)]
        block = context.make_tuple(builder, all_given, block)
        if context.get_abi_sizeof(block.type) > 8 * (WORDS - _GIVEN):
            raise NotImplementedError(f'{loop} is given too much: raise WORDS')
        place = builder.bitcast(_at(builder, data, _GIVEN), block.type.as_pointer())
        builder.store(block, place, align=8)

        call = ir.Function(builder.module, _CALL, builder.module.get_unique_name('call'))
        call.linkage = 'internal'
        within = ir.IRBuilder(call.append_basic_block())
        band, at = call.args
        block = within.load(within.bitcast(at, place.type), align=8)
        rows, *arguments = cgutils.unpack_tuple(within, block)
        first = within.gep(_data(context, within, edges, rows), [band])
        first, last = within.load(first), within.load(_at(within, first, 1))
        failed = _call_compiled(context, within, loop, called, (first, last, *arguments))
        within.ret(within.zext(failed, _WORD))

        builder.store(builder.ptrtoint(call, _WORD), _at(builder, data, _ADDRESS))
        return context.get_dummy_value()

    return types.none(slot, loop, edges, given), lower


@intrinsic
def _call(_: Any, slot: Any, _band: Any) -> Any:
    """Call the loop of a slot for a band: whether it failed."""

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        data = _data(context, builder, slot, values[0])
        address = builder.load(_at(builder, data, _ADDRESS))
        given = builder.bitcast(_at(builder, data, _GIVEN), _BYTES)
        return builder.call(builder.inttoptr(address, _CALL.as_pointer()), [values[1], given])

    return types.int64(slot, types.int64), lower


@intrinsic
def _add_one(_: Any, counts: Any, _index: Any) -> Any:
    """Count one more in an array of int64, at once for all threads: what it was before."""

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        place = builder.gep(_data(context, builder, counts, values[0]), [values[1]])
        return builder.atomic_rmw('add', place, ir.Constant(_WORD, 1), 'seq_cst')

    return types.int64(counts, types.int64), lower


@intrinsic
def _read(_: Any, counts: Any, _index: Any) -> Any:
    """Read what other threads may have counted in an array of int64."""

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        place = builder.gep(_data(context, builder, counts, values[0]), [values[1]])
        return builder.load_atomic(place, 'seq_cst', 8)

    return types.int64(counts, types.int64), lower


@intrinsic
def _in_each_thread(typing: Any, parallel: Any, threads: Any, function: Any, given: Any) -> Any:
    """Call a function in so many threads at once, with what is in the tuple `given`."""
    called = function.get_call_type(typing, tuple(given), {})
    count, each = ir.IntType(32), ir.FunctionType(ir.VoidType(), [_BYTES])

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        at = cgutils.alloca_once_value(builder, values[3])

        call = ir.Function(builder.module, each, builder.module.get_unique_name('each'))
        call.linkage = 'internal'
        within = ir.IRBuilder(call.append_basic_block())
        block = within.load(within.bitcast(call.args[0], at.type))
        _call_compiled(context, within, function, called, cgutils.unpack_tuple(within, block))
        within.ret_void()

        shape = ir.FunctionType(ir.VoidType(), [each.as_pointer(), _BYTES, count, count])
        run_all = builder.inttoptr(values[0], shape.as_pointer())
        number = builder.trunc(values[1], count)
        builder.call(run_all, [call, builder.bitcast(at, _BYTES), number, count(0)])
        return context.get_dummy_value()

    return types.none(parallel, threads, function, given), lower


def _call_compiled(context: Any, builder: Any, function: Any, called: Any, values: Any) -> Any:
    """Call a compiled function where nobody could raise what it raises: whether it did."""
    made = function.dispatcher.overloads[called.args]
    context.active_code_library.add_linking_library(made.library)
    status, _ = context.call_internal_no_propagate(builder, made.fndesc, called, values)
    return status.is_error


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _at(builder: Any, data: Any, index: int) -> Any:
    return builder.gep(data, [ir.Constant(_WORD, index)])


def _bare(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Leave out of an array who counts those that have it."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


@_within
def _take_bands(sheet, counts):
    """Do of each loop a band after the other, as long as no thread has taken it."""
    clock, loops = np.empty(2, np.int64), len(counts) - 1
    for index in range(loops):
        slot, count = sheet[index], counts[index]
        while True:
            band: int = _add_one(count, _TAKEN)  # type: ignore[call-arg]
            if band >= slot[_BANDS]:
                break
            if _call(slot, band):
                _add_one(counts[loops], 0)
            _add_one(count, _DONE)
        looks = 0
        while _read(count, _DONE) < slot[_BANDS]:
            looks += 1
            if looks > PATIENCE:  # who is not done may need this core
                _sched_yield()
        _clock_gettime(_MONOTONIC, clock.ctypes.data)
        slot[_ENDED] = clock[0] * 1_000_000_000 + clock[1]


@compiled
def run(parallel, threads, sheet, loops):
    """
    Run the first loops of a sheet, each as soon as the one before it is done.

    :param parallel: the address of `openmp.parallel`, 0: none.
    :param threads: that take a band after the other.
    :return: when each was done, nanoseconds of a clock that goes on, (loops,) int64.
    :raises MemoryError: if one of them did not get its buffers.
    """
    counts = np.zeros((loops + 1, 8), np.int64)  # a line of memory each; the last: of failures
    if threads > 1 and parallel != 0:
        given = sheet, counts
        _in_each_thread(parallel, threads, _take_bands, given)  # type: ignore[call-arg]
    else:
        _take_bands(sheet, counts)
    for index in range(loops):
        if counts[loops, 0] or counts[index, _DONE] < sheet[index, _BANDS]:
            raise MemoryError('no room for the buffers of a loop')
    return sheet[:loops, _ENDED].copy()
