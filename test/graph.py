"""A real ROS graph for tests: the node on a thread of its own, and a client beside it."""

from array import array
from threading import Thread
from time import monotonic

from dpt_ros.ros.node import DptNode
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

RELIABLE = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
FRAME = 'camera_optical_frame'
PATIENCE = 30.0  # seconds; a loaded machine is slow, not wrong


class Graph:
    """One domain with a client in it, and the node if it is started."""

    def __init__(self, domain: int):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.client = rclpy.create_node('client', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.client)
        self._threads = []
        self._nodes = []
        self._stamp = 0

    def start_node(self, *, arguments=(), **parameters):
        """Start the node with parameters such as depth_model='' (for depth.model)."""
        given = {'cpu_threads': 1, **parameters}
        named = {name.replace('__', '.'): value for name, value in given.items()}
        node = DptNode(
            context=self.context,
            cli_args=['--ros-args', *arguments] if arguments else None,
            parameter_overrides=[Parameter(name, value=value) for name, value in named.items()],
        )
        node.start()
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = Thread(target=_spin, args=(executor, self.context))
        thread.start()
        self._nodes.append(node)
        self._threads.append(thread)
        return node

    def until(self, condition, what='it'):
        """Serve the client until `condition` holds and return what it gave."""
        end = monotonic() + PATIENCE
        while monotonic() < end:
            if result := condition():
                return result
            self._executor.spin_once(timeout_sec=0.02)
        raise TimeoutError(f'{what} did not happen within {PATIENCE:g} s')

    def listen(self, topic, kind, qos=RELIABLE):
        """Subscribe, and return the list that messages are added to."""
        heard = []
        self.client.create_subscription(kind, topic, heard.append, qos)
        return heard

    def camera(self, kind=Image, topic='image'):
        """Return a camera: publishers of images and of camera_info."""
        return (
            self.client.create_publisher(kind, topic, RELIABLE),
            self.client.create_publisher(CameraInfo, 'camera_info', RELIABLE),
        )

    def shoot(self, camera, image, info, done):
        """Publish the same picture again and again, each time later, until `done` holds."""
        end = monotonic() + PATIENCE
        while monotonic() < end:
            self._stamp += 1
            for message in filter(None, (info, image)):
                message.header.stamp.sec = 1000 + self._stamp
                message.header.stamp.nanosec = 123456789
                message.header.frame_id = FRAME
            if info is not None:
                camera[1].publish(info)
            camera[0].publish(image)
            again = monotonic() + 0.25
            while monotonic() < again:
                self._executor.spin_once(timeout_sec=0.02)
                if result := done():
                    return result
        raise TimeoutError(f'the camera saw no result within {PATIENCE:g} s')

    def call(self, kind, name, request):
        """Call a service and return its response."""
        client = self.client.create_client(kind, name)
        self.until(client.service_is_ready, f'service {name}')
        future = client.call_async(request)
        self.until(future.done, f'the answer of {name}')
        return future.result()

    def change(self, transition):
        """Ask the node for a transition, and return whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, 'dpt/change_state', request).success

    def state(self):
        """Return the id of the node's state."""
        return self.call(GetState, 'dpt/get_state', GetState.Request()).current_state.id

    def set_parameters(self, **values):
        """Set parameters of the node such as depth__max=2.0 (depth.max); return the results."""
        parameters = [
            Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, 'dpt/set_parameters', request).results

    def close(self):
        """End all that was started."""
        for node in self._nodes:
            node.stop()
        self.context.try_shutdown()
        for thread in self._threads:
            thread.join()
        for node in [*self._nodes, self.client]:
            node.destroy_node()


def _spin(executor, context):
    while context.ok():
        try:
            executor.spin_once()
        except (ExternalShutdownException, rclpy_implementation.RCLError):
            if context.ok():  # else it ended between the two
                raise


def picture(height=48, width=64, seed=0):
    """Return a random image (H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def image_of(pixels, encoding='rgb8'):
    """Wrap pixels without the help of the code under test."""
    height, width = pixels.shape[:2]
    data = array('B', pixels.tobytes())
    step = pixels.nbytes // height
    return Image(height=height, width=width, encoding=encoding, step=step, data=data)


def info_of(width, height, focal=60.0):
    """Describe a calibrated camera without distortion."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        height=height,
        width=width,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
