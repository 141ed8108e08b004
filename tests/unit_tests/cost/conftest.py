import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def recorded_requests() -> ModuleType:
    """The module ``recorded_requests.py`` beside this file: tests are no package, so it is loaded by its path."""
    path = Path(__file__).with_name("recorded_requests.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
