"""How a process is set up that does the work of the node: the node's own, or a command's."""

from dpt_ros.memory import keep_free_memory
from dpt_ros.threads import wait_briefly


def prepare_process() -> None:
    """Set threads and memory up for frames that follow each other; before PyTorch is imported."""
    wait_briefly()
    keep_free_memory()
