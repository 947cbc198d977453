"""Code in a file from outside is never run; for weights test/zoo/test_store.py shows the same."""

import os
from pathlib import Path
import pickle

from dpt_ros.tools.parameter_file import read_parameter_file
from dpt_ros.training.data import read_depth
from dpt_ros.training.train import resume
import numpy as np
import pytest
import torch


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


READERS = {
    'state.pt': lambda file: resume(None, file, {}),
    'depth.npy': read_depth,
    'dpt.yaml': lambda file: read_parameter_file(file, '/dpt'),
}


@pytest.mark.parametrize('name', READERS)
def test_code_in_a_file_is_not_run(name: str, tmp_path: Path):
    file, made = tmp_path / name, tmp_path / 'made'
    if name == 'state.pt':
        torch.save({'told': Trap(made)}, file)
    elif name == 'depth.npy':
        np.save(file, np.array([Trap(made)], object), allow_pickle=True)
    else:
        file.write_text(f'/dpt: !!python/object/apply:os.mkdir ["{made}"]')
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        READERS[name](file)
    assert not made.exists()
