"""
Shared memory that the messages of a frame fit in.

Fast DDS sends to other processes of the machine through half a megabyte. Of 15 MB a frame, all
outputs at 640x480, pieces are lost there; reliable ones come a second later or never.
"""

from collections.abc import MutableMapping
from pathlib import Path
import shutil

SEGMENT = 32 << 20  # bytes, `segment_size` of the file
SPARE = SEGMENT // 2  # bytes that are left to others
SHARED_MEMORY = Path('/dev/shm')
# Whoever sets one of these has chosen. The second is the name up to Jazzy, and that of the first.
VARIABLES = (
    'FASTDDS_DEFAULT_PROFILES_FILE',
    'FASTRTPS_DEFAULT_PROFILES_FILE',
    'FASTDDS_BUILTIN_TRANSPORTS',
)
OLD = ('humble', 'iron', 'jazzy')


def choose_transport(environment: MutableMapping[str, str]) -> None:
    """
    Let Fast DDS use `config/fastdds.xml` in this process, unless its user has chosen otherwise.

    Other middlewares do not read it. It stays as it is where the file cannot be found or /dev/shm
    has no room: a container may have 64 MB or less (`docker run --shm-size`).

    :param environment: of the process, before `rclpy.init`.
    """
    if any(environment.get(variable) for variable in VARIABLES):
        return
    from ament_index_python.packages import get_package_share_directory

    try:
        file = Path(get_package_share_directory('dpt_ros'), 'config', 'fastdds.xml')
        free = shutil.disk_usage(SHARED_MEMORY).free
    except (LookupError, OSError):  # no such package, no AMENT_PREFIX_PATH, no /dev/shm
        return
    if file.is_file() and free >= SEGMENT + SPARE:
        new, old, _ = VARIABLES
        environment[old if environment.get('ROS_DISTRO') in OLD else new] = str(file)
