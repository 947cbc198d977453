"""The executable `dpt_node`: start the node, and end it cleanly however it is asked to end."""

from collections.abc import Callable
from contextlib import suppress
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from dpt_ros.process import prepare_process
from dpt_ros.ros.transport import choose_transport

ENDINGS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run the node until SIGINT, SIGTERM or a shutdown of ROS; the exit code is then 0."""
    prepare_process()
    choose_transport(os.environ)

    def make() -> Any:
        from rclpy.logging import get_logger

        get_logger('dpt').info('loading PyTorch')
        from dpt_ros.ros.node import DptNode  # takes seconds, in which the process must end too

        return DptNode()

    run(make, start=lambda node: node.start(), stop=lambda node: node.stop())


def run(
    make: Callable[[], Any],
    *,
    start: Callable[[Any], Any] = lambda _: None,
    stop: Callable[[Any], Any] = lambda _: None,
) -> NoReturn:
    """
    Spin a node from its start to the end of the process, whose exit code is then 0.

    :param make: imports what takes long, and makes the node; ROS is up by then.
    :param start: called before the node spins; may take seconds.
    :param stop: ends the node's own threads.
    """
    node: Any = None
    ending = False

    def end(*_: Any) -> None:
        nonlocal ending
        # Amid imports an exception may be taken for a failure, or lost; nothing is to be undone.
        if node is None:
            os._exit(0)
        if not ending:  # a second signal must not break what the first began
            ending = True
            raise KeyboardInterrupt

    for number in ENDINGS:  # before rclpy, whose own handlers pass on to these
        signal.signal(number, end)
    with suppress(KeyboardInterrupt):
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.impl.implementation_singleton import rclpy_implementation

        try:
            rclpy.init(args=sys.argv)
        except rclpy_implementation.RCLError as error:
            sys.exit(f'cannot start, for the arguments after --ros-args are wrong: {error}')
        executor = SingleThreadedExecutor()
        node = make()
        try:
            start(node)
            executor.add_node(node)
            while rclpy.ok():
                _serve(executor, node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except Exception:
            if rclpy.ok():  # else the end came while the node was starting
                raise
        finally:
            ending = True
            stop(node)
            node.destroy_node()  # takes leave; others would believe in it for 20 s
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
