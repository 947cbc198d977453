"""What the authors of the weights report: models, data sets, scores and where they stand."""

from typing import NamedTuple


class Published(NamedTuple):
    """One line of a published table."""

    source: str
    scores: dict[str, float]  # as `metrics` names and scales them


_DPT = 'Ranftl et al. 2021 (arXiv 2103.13413)'
_DPT_CODE = 'isl-org/DPT, EVALUATION.md'
_V1 = 'LiheYoung/Depth-Anything, README (aligned by their own code)'
_V2 = 'Depth Anything V2 (arXiv 2406.09414), Table 2 (aligned by their own code)'


def _percent(source: str, bad_pixels: float) -> list[Published]:
    return [Published(source, {'bad_pixels': bad_pixels})]


def _pair(source: str, abs_rel: float, delta1: float) -> list[Published]:
    return [Published(source, {'abs_rel': abs_rel, 'delta1': delta1})]


def _labels(pixel_accuracy: float, miou: float) -> list[Published]:
    return [
        Published(
            f'{_DPT}, Table 4, multi-scale', {'miou': miou, 'pixel_accuracy': pixel_accuracy}
        )
    ]


PUBLISHED: dict[tuple[str, str], list[Published]] = {
    ('dpt_large_midas', 'kitti'): _percent(f'{_DPT}, Table 1', 8.46),
    ('dpt_large_midas', 'nyu'): _percent(f'{_DPT}, Table 1', 8.32),
    ('dpt_hybrid_midas', 'kitti'): _percent(f'{_DPT}, Table 1', 11.56),
    ('dpt_hybrid_midas', 'nyu'): _percent(f'{_DPT}, Table 1', 8.69),
    ('dpt_hybrid_nyu', 'nyu'): [
        Published(
            f'{_DPT}, Table 2',
            {
                'delta1': 0.904,
                'delta2': 0.988,
                'delta3': 0.998,
                'abs_rel': 0.110,
                'rmse': 0.357,
                'log10': 0.045,
            },
        ),
        Published(
            _DPT_CODE,
            {
                'delta1': 0.904,
                'delta2': 0.988,
                'delta3': 0.998,
                'abs_rel': 0.109,
                'sq_rel': 0.054,
                'rmse': 0.357,
                'rmse_log': 0.129,
                'silog': 9.521,
                'log10': 0.045,
            },
        ),
    ],
    ('dpt_hybrid_kitti', 'kitti'): [
        Published(
            f'{_DPT}, Table 3',
            {
                'delta1': 0.959,
                'delta2': 0.995,
                'delta3': 0.999,
                'abs_rel': 0.062,
                'rmse': 2.573,
                'rmse_log': 0.092,
            },
        ),
        Published(
            _DPT_CODE,
            {
                'delta1': 0.959,
                'delta2': 0.995,
                'delta3': 0.999,
                'abs_rel': 0.062,
                'sq_rel': 0.222,
                'rmse': 2.575,
                'rmse_log': 0.092,
                'silog': 8.282,
                'log10': 0.027,
            },
        ),
    ],
    ('dpt_hybrid_ade20k', 'ade20k'): _labels(0.8311, 0.4902),
    ('dpt_large_ade20k', 'ade20k'): _labels(0.8270, 0.4763),
    ('depth_anything_v1_small', 'kitti'): _pair(_V1, 0.080, 0.936),
    ('depth_anything_v1_small', 'nyu'): _pair(_V1, 0.053, 0.972),
    ('depth_anything_v1_base', 'kitti'): _pair(_V1, 0.080, 0.939),
    ('depth_anything_v1_base', 'nyu'): _pair(_V1, 0.046, 0.979),
    ('depth_anything_v1_large', 'kitti'): _pair(_V1, 0.076, 0.947),
    ('depth_anything_v1_large', 'nyu'): _pair(_V1, 0.043, 0.981),
    ('depth_anything_v2_small', 'kitti'): _pair(_V2, 0.078, 0.936),
    ('depth_anything_v2_small', 'nyu'): _pair(_V2, 0.053, 0.973),
    ('depth_anything_v2_base', 'kitti'): _pair(_V2, 0.078, 0.939),
    ('depth_anything_v2_base', 'nyu'): _pair(_V2, 0.049, 0.976),
    ('depth_anything_v2_large', 'kitti'): _pair(_V2, 0.074, 0.946),
    ('depth_anything_v2_large', 'nyu'): _pair(_V2, 0.045, 0.979),
}
