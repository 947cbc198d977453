"""What the package says of itself, in four files, agrees; what was installed is complete."""

import ast
from importlib import metadata
import os
from pathlib import Path
import re
import sys
from xml.etree import ElementTree

import dpt_ros
import pytest
from test_architecture import imports, module_name, PACKAGE

ROOT = PACKAGE.parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
# Else as the project is named.
IMPORTED_AS = {'opencv_python_headless': 'cv2', 'pillow': 'PIL', 'pyyaml': 'yaml'}
# For comparison in `dpt bench`, and for one form of NYU Depth v2 in `dpt evaluate`; whoever runs
# that installs requirements/test.txt. Ray is for `dpt bag --ray`: requirements/cluster.txt.
OPTIONAL = {'transformers', 'h5py', 'scipy', 'ray'}
FOR_GPUS = {'torch_tensorrt'}  # without a GPU it cannot even be imported


def setup_argument(name: str) -> str:
    """Read a literal keyword of setup() without running setup.py."""
    tree = ast.parse((ROOT / 'setup.py').read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (setup,) = (call for call in calls if ast.unparse(call.func) == 'setup')
    (value,) = (keyword.value for keyword in setup.keywords if keyword.arg == name)
    return ast.literal_eval(value)


def requirements(file: str) -> set[str]:
    """List the modules that a requirements file brings, as they are imported."""
    lines = (ROOT / 'requirements' / file).read_text().splitlines()
    names = {re.match(r'[\w-]+', line)[0] for line in lines if line[:1].isalpha()}
    names = {name.lower().replace('-', '_') for name in names}
    return {IMPORTED_AS.get(name, name.removeprefix('ros_')) for name in names}


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the prefix that the package is installed under, as an ament index of its own."""
    installed = Path(sys.prefix, 'share/ament_index/resource_index/packages/dpt_ros')
    if not installed.exists():
        pytest.skip('dpt_ros is not installed beside this Python: run `make test`')
    monkeypatch.setenv('AMENT_PREFIX_PATH', sys.prefix)
    return Path(sys.prefix)


@pytest.mark.parametrize('field', ['name', 'version', 'license'])
def test_package_xml_and_setup_py_agree(field: str):
    text = (ROOT / 'setup.py').read_text()
    said = re.search(r"^NAME = '(.*)'", text, re.M)[1] if field == 'name' else None
    assert MANIFEST.findtext(field) == (said or setup_argument(field))


def test_the_module_knows_its_version():
    assert dpt_ros.__version__ == MANIFEST.findtext('version')


def test_pyproject_is_no_second_truth():
    tables = re.findall(r'^\[([\w-]+)', (ROOT / 'pyproject.toml').read_text(), re.M)
    assert set(tables) == {'tool'}


def test_every_import_is_a_declared_dependency():
    manifest = {element.text for element in MANIFEST.iter('exec_depend')}
    declared = manifest | requirements('run.in') | sys.stdlib_module_names | {'dpt_ros'}
    undeclared = {
        f'{file.relative_to(ROOT)}:{line} imports {name}'
        for file in PACKAGE.rglob('*.py')
        for line, name in imports(file.read_text(), module_name(file))
        if name.split('.')[0] not in declared | OPTIONAL | FOR_GPUS
    }
    assert not undeclared


def test_optional_imports_are_tested():
    assert '-r cluster.in' in (ROOT / 'requirements/test.in').read_text()
    assert requirements('test.in') | requirements('cluster.in') >= OPTIONAL


def test_what_is_required_is_pinned():
    for name in ('run', 'test'):
        assert requirements(f'{name}.in') <= requirements(f'{name}.txt')


def test_ament_finds_the_share_folder(prefix: Path):
    index = pytest.importorskip('ament_index_python')
    assert Path(index.get_package_share_directory('dpt_ros')) == prefix / 'share/dpt_ros'


def test_launch_and_config_files_are_installed_as_they_are(prefix: Path):
    sources = [*ROOT.glob('launch/*.py'), *ROOT.glob('config/**/*.yaml'), ROOT / 'package.xml']
    sources += ROOT.glob('config/rviz/*.rviz')
    for source in sources:
        installed = prefix / 'share/dpt_ros' / source.relative_to(ROOT)
        assert installed.read_bytes() == source.read_bytes()


@pytest.mark.usefixtures('prefix')
def test_labels_and_weights_are_installed():
    installed = {Path(file) for file in metadata.files('dpt_ros') or ()}
    for folder in ('labels', 'weights'):
        sources = {f.relative_to(ROOT) for f in (PACKAGE / 'zoo' / folder).glob('[!._]*')}
        assert sources <= installed


@pytest.mark.parametrize('script', ['dpt', 'dpt_camera', 'dpt_node'])
def test_scripts_are_executable(prefix: Path, script: str):
    assert os.access(prefix / 'bin' / script, os.X_OK)
