"""
The node: wiring only.

A managed node (lifecycle): configure loads the networks and advertises, activate subscribes and
runs, deactivate stops and keeps the networks, cleanup gives them back. Callbacks leave what came
with the worker and return; see `processor` for the way of a frame.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial, wraps
from time import perf_counter
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.perception.pipeline import Perception
from dpt_ros.perception.runtime import free_memory, memory_in_use
from dpt_ros.ros import parameters
from dpt_ros.ros.diagnostics import encode_diagnostics, Statistics
from dpt_ros.ros.inputs import image_input, Input, INPUTS
from dpt_ros.ros.missed import Gaps
from dpt_ros.ros.outputs import encode_label_info, LABEL_INFO, Output, OUTPUTS, topic_of
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.processor import choose_matrix, open_perception
from dpt_ros.ros.silence import why_silent
from dpt_ros.ros.worker import Camera, Worker
from dpt_ros.threads import apart
from dpt_ros.zoo.labels import Labels
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

RELIABILITIES = {
    'sensor_data': QoSReliabilityPolicy.BEST_EFFORT,
    'reliable': QoSReliabilityPolicy.RELIABLE,
}
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
CLASS_NAMES = 'segmentation.class_names'  # told by the node while it is configured
ROS_PARAMETERS = {'use_sim_time', 'start_type_description_service'}
SILENCE = 5  # seconds without an image after which the node says so

Transition = Callable[['DptNode', LifecycleState], TransitionCallbackReturn]


def tells(transition: Transition) -> Transition:
    """Log what goes wrong in a transition; rclpy keeps it to itself."""

    @wraps(transition)
    def wrapped(self: 'DptNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception:
            if self.context.ok():  # else the end came while it was at work
                self.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return wrapped


class DptNode(LifecycleNode):
    """Camera images in; depth, labels and points out."""

    def __init__(self, **arguments: Any):
        """Declare the parameters; `arguments` are those of rclpy's Node."""
        super().__init__('dpt', **arguments)
        self._refused: dict[str, str] = {}  # values from outside that cannot be: name -> why
        for name in parameters.FIELDS:
            self._declare(name)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        given = {n for n in self._parameter_overrides if not n.startswith('qos_overrides.')}
        if unknown := given - set(parameters.FIELDS) - ROS_PARAMETERS:
            self.get_logger().warning(
                f'nothing reads the parameters {", ".join(sorted(unknown))}: are they misspelled?'
            )
        self._chosen = Parameters()
        self._perception: Perception | None = None
        self._worker: Worker | None = None
        self._lost: Worker | None = None  # one that hung when it was to end
        # By camera: each topic of OUTPUTS that is advertised, with its row and publisher.
        self._outputs: dict[str, dict[str, tuple[Output, Any]]] = {}
        self._label_infos: list[Any] = []  # their publishers, where vision_msgs is installed
        self._statistics = Statistics()
        self._enabled = True
        self._heard: dict[str, str] = {}  # camera -> topic of its images
        self._came: dict[str, int] = {}  # camera -> images so far
        self._silence: dict[str, int] = {}  # camera -> seconds without an image
        self._why: dict[str, Callable[[], str]] = {}  # camera -> asks the graph why
        self._hung = ''  # where a frame hung when the log was told
        self._inputs: dict[str, Any] = {}  # subscriptions by topic
        self._undo_configure: list[Callable[[], Any]] = []

    def start(self) -> None:
        """Walk to active, unless a lifecycle manager is to do it."""
        if not self.get_parameter('autostart').value:
            self.get_logger().info('waiting for a lifecycle manager to configure and activate')
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """End the worker, or leave it to its long frame: the process is about to end."""
        if self._worker is not None:
            self._worker.stop()

    def destroy_node(self) -> None:
        """Destroy the node, and what rclpy forgets: others would still see it in the graph."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    @tells
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks and advertise what they can give."""
        began = perf_counter()
        try:
            if self._refused:
                raise ValueError('; '.join(self._refused.values()))
            if self._lost is not None and self._lost.is_alive:
                raise ValueError(
                    f'{self._lost.hanging()} still: end the process and start the node anew'
                )
            self._lost = None
            self._chosen = parameters.read(self._values())
            self._perception = apart(partial(self._load, self._chosen))
        except (ValueError, OSError) as error:  # the user's to mend
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        values = self._values()
        self._tell_unread(parameters.unread(values, parameters.given(values)))
        self._advertise(self._perception)
        seconds = perf_counter() - began
        self.get_logger().info(f'{_summary(self._perception)}, ready after {seconds:.1f} s')
        return super().on_configure(state)

    @tells
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and run."""
        if self._perception is None:
            raise RuntimeError('activate came before configure')
        chosen = self._chosen
        images = image_input(chosen)
        self._heard = {
            name: self.resolve_topic_name(topic_of(name, images.topic)) for name in chosen.cameras
        }
        matrices = {
            name: choose_matrix(heard, chosen.camera_use) for name, heard in self._heard.items()
        }
        self._came, self._silence = {}, {}
        self._worker = Worker(
            self._perception,
            {name: Camera(matrices[name], self._outputs[name]) for name in chosen.cameras},
            self._statistics,
            parameters=lambda: self._chosen,
            age=self._age,
            alive=self.context.ok,
            overlapped=self._perception.device.type != 'cpu',
            logger=self.get_logger(),
        )
        self._worker.start()
        self._listen(self._worker)
        self._why = {
            name: partial(why_silent, self, heard, images.message, input_qos(images, chosen))
            for name, heard in self._heard.items()
        }
        for name in chosen.cameras:
            calibration = self.resolve_topic_name(topic_of(name, 'camera_info'))
            obeys = {'K': 'not rectified: K and D', 'P': 'rectified: P'}[matrices[name]]
            self.get_logger().info(f'listening to {self._heard[name]} and {calibration} ({obeys})')
        done = super().on_activate(state)  # publishers speak from here on
        self._publish_label_info()
        return done

    @tells
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop running; the networks stay, unless a frame hangs in them."""
        if not self._stop_running():
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    @tells
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the networks and their device memory."""
        self._release()
        return super().on_cleanup(state)

    @tells
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give everything back, from any state."""
        self._release()
        return super().on_shutdown(state)

    @tells
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that another try is possible."""
        self._release()
        return super().on_error(state)

    def _declare(self, name: str) -> None:
        """Declare a parameter, and note why a value given from outside is refused."""
        default, described = parameters.FIELDS[name].default, parameters.descriptor(name)
        given = self._parameter_overrides.get(name)
        left_out = given is not None and given.value is None  # what ROS makes of [] in a file
        if given is not None and not left_out:
            try:
                parameters.check(name, given.value)
            except ValueError as reason:
                self._refused[name] = str(reason)
        ignored = left_out or name in self._refused
        self.declare_parameter(name, default, described, ignore_override=ignored)

    def _values(self) -> dict[str, Any]:
        """Return all parameters as ROS has them."""
        return {name: self.get_parameter(name).value for name in parameters.FIELDS}

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Take changes of live parameters at once; refuse what is not allowed, saying why."""
        if self.has_parameter(CLASS_NAMES) and any(p.name == CLASS_NAMES for p in changes):
            reason = f'{CLASS_NAMES} is told by the node: it follows from segmentation.model'
            return SetParametersResult(successful=False, reason=reason)
        changed = {p.name: p.value for p in changes if p.name in parameters.FIELDS}
        if not changed:
            return SetParametersResult(successful=True)
        try:
            for name, value in changed.items():
                if value is None:
                    raise ValueError(f'{name} cannot be deleted: set it to what it shall be')
                parameters.check(name, value)
            parameters.check_moment(self._values(), changed, self._perception is not None)
            if self._perception is not None:  # else what cannot stand together waits for configure
                taken = parameters.read(self._values() | changed)
                self._perception.check(parameters.options(taken))
                self._chosen = taken
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changed:
            self._refused.pop(name, None)
        self._publish_label_info()
        if self._worker is not None:
            self._listen(self._worker)
        if self._perception is not None:
            self._tell_unread(parameters.unread(self._values() | changed, changed))
        return SetParametersResult(successful=True)

    def _tell_unread(self, sentences: list[str]) -> None:
        """Warn of parameters that were set and have no effect as the others are."""
        for sentence in sentences:
            self.get_logger().warning(f'set without effect: {sentence}')

    def _load(self, chosen: Parameters) -> Perception:
        """Build the perception that the parameters describe, and run it once."""
        names = sorted({chosen.depth_model, chosen.segmentation_model} - {''})
        self.get_logger().info(f'loading {" and ".join(names)}')
        perception = open_perception(chosen, self.get_logger())
        perception.check(parameters.options(chosen))
        perception.warm_up(640, 480, parameters.options(chosen))
        return perception

    def _advertise(self, perception: Perception) -> None:
        """Create what a configured node has: publishers, the service and the timer."""
        qos = output_qos(self._chosen)
        self._outputs = {
            name: {
                output.topic: (
                    output,
                    self.create_lifecycle_publisher(
                        output.message, topic_of(name, output.topic), qos
                    ),
                )
                for output in OUTPUTS
                if output.needs <= perception.products
            }
            for name in self._chosen.cameras
        }
        publishers = [p for outputs in self._outputs.values() for _, p in outputs.values()]
        told = []
        if perception.labels is not None:
            told = [self._tell_class_names(perception.labels)]
            try:
                kind = type(encode_label_info(Header(), perception.labels, 0.0))
            except ImportError:
                self.get_logger().warning(
                    f'{LABEL_INFO} is left out: vision_msgs is not installed '
                    '(apt install ros-$ROS_DISTRO-vision-msgs)',
                    once=True,
                )
            else:
                self._label_infos = [
                    self.create_lifecycle_publisher(kind, topic_of(name, LABEL_INFO), LATCHED)
                    for name in self._chosen.cameras
                ]
                publishers += self._label_infos
        self._statistics = Statistics()
        diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        timer = self.create_timer(  # of real time: that of a simulation may stand still
            1.0,
            partial(self._publish_diagnostics, diagnostics, perception),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        service = self.create_service(SetBool, '~/enable', self._on_enable)
        self._undo_configure = [
            partial(self.destroy_timer, timer),
            partial(self.destroy_service, service),
            partial(self.destroy_publisher, diagnostics),
            *(partial(self.destroy_lifecycle_publisher, p) for p in publishers),
            *told,
        ]

    def _tell_class_names(self, labels: Labels) -> Callable[[], Any]:
        """Declare the names of the classes, for those without vision_msgs; return how to undo."""
        described = ParameterDescriptor(
            description='Names of the classes of segmentation.model by number; not to be set.'
        )
        names = list(labels.names)
        self.declare_parameter(CLASS_NAMES, names, described, ignore_override=True)
        return partial(self.undeclare_parameter, CLASS_NAMES)

    def _stop_running(self) -> bool:
        """Undo activate; False: a frame hangs, and is left alone with the networks it holds."""
        while self._inputs:
            self.destroy_subscription(self._inputs.popitem()[1])
        worker = self._worker
        if worker is not None and not worker.stop(self._chosen.limits_frame_seconds):
            self._lost = worker
            self.get_logger().error(
                f'{worker.hanging()} and is not waited for: the networks are given up with it'
            )
        self._worker = None
        return worker is None or worker is not self._lost

    def _release(self) -> None:
        """Undo activate and configure, in that order, as far as they were done."""
        self._stop_running()
        _undo(self._undo_configure)
        self._perception = None
        self._outputs, self._label_infos = {}, []
        if self._lost is None:  # else the device might not answer
            free_memory()

    def _listen(self, worker: Worker) -> None:
        """Subscribe to the inputs that the parameters want, and to nothing else."""
        wanted = {
            topic_of(name, one.topic): (one, name)
            for name in self._chosen.cameras
            for one in INPUTS
            if one.wanted(self._chosen)
        }
        for topic in self._inputs.keys() - wanted.keys():
            self.destroy_subscription(self._inputs.pop(topic))
        for topic, (one, name) in wanted.items():
            if topic not in self._inputs:
                put = partial(self._put, one, worker, name, Gaps())
                qos = input_qos(one, self._chosen)
                self._inputs[topic] = self.create_subscription(one.message, topic, put, qos)
                if one.measures:
                    measured = self.resolve_topic_name(topic)
                    self.get_logger().info(f'metres are measured by {measured}')

    def _put(
        self,
        one: Input,
        worker: Worker,
        camera: str,
        gaps: Gaps,
        message: Any,
        info: Mapping[str, Any],
    ) -> None:
        """Leave a message with the worker; while paused, no images."""
        missed = gaps(info)
        if self._enabled or not one.is_image:
            one.put(worker, camera, message)
            if one.is_image:
                worker.miss(camera, missed)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pause or resume without unloading anything."""
        self._enabled = request.data
        response.success = True
        response.message = 'running' if request.data else 'paused; the networks stay loaded'
        self.get_logger().info(response.message)
        return response

    def _publish_label_info(self) -> None:
        """Say again what the classes are, for those who come later."""
        labels = self._perception and self._perception.labels
        if labels:
            header = Header(stamp=self.get_clock().now().to_msg())
            threshold = self._chosen.segmentation_min_confidence
            for publisher in self._label_infos:
                publisher.publish(encode_label_info(header, labels, threshold))

    def _publish_diagnostics(self, publisher: Any, perception: Perception) -> None:
        """Tell of the last second."""
        cameras = self._worker.counts if self._worker is not None else {}
        counts = Counter[str]()
        for name, its in cameras.items():
            counts.update(its)
            counts.update({f'{name}: {what}': count for what, count in its.items() if name})
        memory = {'device memory [MB]': f'{memory_in_use(perception.device) / 1e6:.0f}'}
        networks = {
            f'{task} network': f'{trained.name}, sha256 {trained.sha256[:16]}'
            for task, trained in perception.networks.items()
        }
        idle = 'inactive' if self._worker is None else '' if self._enabled else 'paused'
        came = {name: its['frames in'] for name, its in cameras.items()}
        silent = self._listen_for_silence(came) if not idle else []
        mode = self._chosen.scale_mode
        report = self._statistics.report(
            counts,
            {**networks, **memory, 'runtime': perception.runtime.state, 'scale mode': mode},
            idle,
            period=1.0,
            silent=silent,
            hanging=self._look_for_stall(),
        )
        now, name = self.get_clock().now().to_msg(), self.get_fully_qualified_name()
        hardware = str(perception.device)
        publisher.publish(encode_diagnostics(now, f'{name}: perception', hardware, report))

    def _listen_for_silence(self, came: dict[str, int]) -> list[str]:
        """Say which cameras gave no image since the last call, a second ago."""
        silent = []
        for name, count in came.items():
            quiet = count == self._came.get(name, 0)
            self._silence[name] = seconds = self._silence.get(name, 0) + 1 if quiet else 0
            if seconds:
                silent.append(f'no image for {seconds} s on {self._heard[name]}')
            if seconds >= SILENCE and (seconds - SILENCE) % 60 == 0:
                self.get_logger().warning(
                    f'no image for {seconds} s on {self._heard[name]}: {self._why[name]()}'
                )
        self._came = came
        return silent

    def _look_for_stall(self) -> str:
        """Say where the worker hangs, if it does; the log is told once."""
        patience = self._chosen.limits_frame_seconds
        hanging = self._worker.hanging(patience) if self._worker is not None else ''
        if hanging and not self._hung:
            self.get_logger().error(
                f'{hanging}, more than limits.frame_seconds ({patience:g} s): the next ones wait'
            )
        self._hung = hanging
        return hanging

    def _age(self, message: Image | CompressedImage) -> float:
        """Return the seconds since a message's stamp, whatever that is."""
        stamp = message.header.stamp  # rclpy's Time takes none before 1970
        told = stamp.sec * 10**9 + stamp.nanosec
        return (self.get_clock().now().nanoseconds - told) * 1e-9


def input_qos(one: Input, chosen: Parameters) -> QoSProfile:
    """Return the QoS of a subscription."""
    return QoSProfile(depth=5 if one.measures else 1, reliability=RELIABILITIES[chosen.qos_input])


def output_qos(chosen: Parameters) -> QoSProfile:
    """Return the QoS of the outputs of an image."""
    return QoSProfile(depth=2, reliability=RELIABILITIES[chosen.qos_output])


def _summary(perception: Perception) -> str:
    """Name the networks and the device in one line."""
    networks = (f'{task} by {trained.name}' for task, trained in perception.networks.items())
    return f'{", ".join(networks)} on {perception.device}, {perception.runtime.state}'


def _undo(steps: list[Callable[[], Any]]) -> None:
    """Take each step once, first to last."""
    while steps:
        steps.pop(0)()
