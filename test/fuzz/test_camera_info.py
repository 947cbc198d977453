"""camera_info that nobody calibrated: any number, size, lens, binning and region of interest."""

from damage import check_refusal, SHORT, UINT32
from dpt_ros.perception.camera import DISTORTIONS
from dpt_ros.ros.messages import decode_camera, decode_info, encode_camera_info
from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

WIDTH, HEIGHT = 16, 12
NAN = float('nan')
number = st.sampled_from([0.0, -0.0, 1.0, -1.0, 8.0, 1e308, -1e308, 5e-324, NAN]) | st.floats()
matrix = st.just([9.0, 0.0, 8.0, 0.0, 9.0, 6.0, 0.0, 0.0, 1.0]) | st.lists(
    number, min_size=9, max_size=9
)
projection = st.just([9.0, 0.0, 8.0, 0.0, 0.0, 9.0, 6.0, 0.0, 0.0, 0.0, 1.0, 0.0]) | st.lists(
    number, min_size=12, max_size=12
)
infos = st.builds(
    CameraInfo,
    width=st.just(WIDTH) | UINT32,
    height=st.just(HEIGHT) | UINT32,
    distortion_model=st.sampled_from(list(DISTORTIONS)) | st.text(max_size=60),
    d=st.lists(number, max_size=20) | st.just([0.1, 0.01, 0.0, 0.0]),
    k=matrix,
    r=matrix,
    p=projection,
    binning_x=st.integers(0, 3) | UINT32,
    binning_y=st.integers(0, 3) | UINT32,
    roi=st.just(RegionOfInterest())
    | st.builds(RegionOfInterest, x_offset=UINT32, y_offset=UINT32, width=UINT32, height=UINT32),
)


@given(infos, st.sampled_from('KP'))
@SHORT
@example(CameraInfo(width=WIDTH, height=HEIGHT, k=[NAN] * 9), 'K')
@example(CameraInfo(width=WIDTH, height=HEIGHT, k=[5e-324] * 9, p=[1e308] * 12), 'K')
def test_any_camera_info_gives_a_camera_or_is_refused(info: CameraInfo, use: str):
    try:
        told = decode_info(info)
        camera = decode_camera(told, WIDTH, HEIGHT, use)
    except ValueError as error:
        check_refusal(error)
        return
    if camera is not None:
        with np.errstate(over='ignore'):
            rays = camera.rays()
        assert rays.shape == (HEIGHT, WIDTH, 2)
        assert not np.isinf(rays).any()
    made = encode_camera_info(Header(), told, (WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2))
    assert (made.width, made.height) == (WIDTH // 2, HEIGHT // 2)
    assert not np.isnan([*made.k, *made.p]).any()
