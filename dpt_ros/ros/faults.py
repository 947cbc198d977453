"""
What can go wrong with a frame, as an operator is told of it: one row a kind.

`docs/operations.md` has the same rows; a test holds the two together.
"""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from dpt_ros.perception.runtime import NetworkError
import torch

WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Fault:
    """How bad a kind of fault is, and what mends it."""

    level: bytes  # of DiagnosticStatus, in the second after it occurred
    cause: str
    cure: str


FAULTS = {
    'image': Fault(
        WARN,
        'an image could not be read, and is lost',
        'the log says what came and what is wanted: mend the driver, or convert with image_proc',
    ),
    'camera_info': Fault(
        WARN,
        'camera_info does not describe its image: no points and no camera_info go out',
        'remap camera_info to the one beside the image, or calibrate the camera',
    ),
    'reference_depth': Fault(
        WARN,
        'a reference_depth could not be read, and is not used',
        'the log says what came and what is wanted: 32FC1 in metres or 16UC1 in millimetres, in '
        "the view of the image and with its sides' ratio",
    ),
    'memory': Fault(
        ERROR,
        'the device has no memory left for a frame, which is lost',
        'lower network.side, raise output.decimation, or end what else runs on the device',
    ),
    'network': Fault(
        ERROR,
        'the network gave no finite number for a frame, which is lost',
        'set precision: float32; if that does not help, download the weights again',
    ),
    'internal': Fault(
        ERROR,
        'a fault of dpt_ros or of what it runs on: the frame is lost, the node goes on',
        'report the traceback in the log; it is told once a place',
    ),
    'stalled': Fault(
        ERROR,
        'a frame takes longer than limits.frame_seconds',
        'the log says where it hangs: a device that does not answer, or limits.frame_seconds is '
        'less than the network takes',
    ),
}


def kind_of(error: Exception) -> str:
    """Return the key in `FAULTS` of what cost a frame."""
    match error:
        case torch.OutOfMemoryError() | MemoryError():
            return 'memory'
        case NetworkError():
            return 'network'
        case ValueError():
            return 'image'
    return 'internal'
