"""The published tables name models, data sets and scores that there are."""

from dpt_ros.evaluation.datasets import DATASETS
from dpt_ros.evaluation.metrics import DEPTH, LABELS
from dpt_ros.evaluation.published import PUBLISHED, Published
from dpt_ros.zoo.checkpoints import CHECKPOINTS
import pytest


@pytest.mark.parametrize(('model', 'dataset'), PUBLISHED)
def test_a_line_is_of_a_model_and_data_set_that_there_are(model: str, dataset: str):
    assert model in CHECKPOINTS and dataset in DATASETS
    for line in PUBLISHED[model, dataset]:
        assert line.source and line.scores.keys() <= {*DEPTH, *LABELS}


def numbers(lines: list[Published], metric: str) -> list[float]:
    return [line.scores[metric] for line in lines if metric in line.scores]


def test_the_tables_of_the_paper():
    # Typed from arXiv 2103.13413, Tables 1 to 4, and EVALUATION.md of isl-org/DPT.
    assert numbers(PUBLISHED['dpt_large_midas', 'kitti'], 'bad_pixels') == [8.46]
    assert numbers(PUBLISHED['dpt_hybrid_midas', 'nyu'], 'bad_pixels') == [8.69]
    assert numbers(PUBLISHED['dpt_hybrid_nyu', 'nyu'], 'abs_rel') == [0.110, 0.109]
    assert numbers(PUBLISHED['dpt_hybrid_kitti', 'kitti'], 'rmse') == [2.573, 2.575]
    assert numbers(PUBLISHED['dpt_hybrid_ade20k', 'ade20k'], 'miou') == [0.4902]
    assert numbers(PUBLISHED['dpt_large_ade20k', 'ade20k'], 'pixel_accuracy') == [0.8270]
