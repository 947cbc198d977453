"""The executable `dpt_node`: start the node, and end it cleanly however it is asked to end."""

from collections.abc import Callable
from contextlib import suppress
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from dpt_ros.threads import wait_briefly

ENDINGS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run the node until SIGINT, SIGTERM or a shutdown of ROS; the exit code is then 0."""
    wait_briefly()

    def start() -> Any:
        from rclpy.logging import get_logger

        get_logger('dpt').info('loading PyTorch')
        from dpt_ros.ros.node import DptNode  # takes seconds, in which the process must end too

        node = DptNode()
        node.start()
        return node

    run(start, lambda node: node.stop())


def run(start: Callable[[], Any], stop: Callable[[Any], Any] | None = None) -> NoReturn:
    """
    Spin a node from its start to the end of the process, whose exit code is then 0.

    :param start: makes the node; ROS is up by then.
    :param stop: ends the node's own threads.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both endings raise alike
    with suppress(KeyboardInterrupt):
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.impl.implementation_singleton import rclpy_implementation

        try:
            rclpy.init(args=sys.argv)
        except rclpy_implementation.RCLError as error:
            sys.exit(f'cannot start, for the arguments after --ros-args are wrong: {error}')
        node = None
        try:
            executor = SingleThreadedExecutor()  # before the node, which takes its time
            node = start()
            executor.add_node(node)
            while rclpy.ok():
                _serve(executor, node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except Exception:
            if rclpy.ok():  # else the end came while the node was being made
                raise
        finally:
            for ending in ENDINGS:  # once is enough; a second one must not break the first
                signal.signal(ending, signal.SIG_IGN)
            if node is not None and stop is not None:
                stop(node)
            rclpy.try_shutdown()
    # Python would take leave of PyTorch for a second, and wait for a network amid a long frame.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(executor: Any, node: Any) -> None:
    """Run the next callback; one that fails is told, and the node lives on."""
    from rclpy.executors import ExternalShutdownException

    try:
        executor.spin_once()
    except ExternalShutdownException:
        raise
    except Exception:
        if node.context.ok():  # else the end came while the callback was at work
            node.get_logger().error(traceback.format_exc(), throttle_duration_sec=10.0)


if __name__ == '__main__':
    main()
