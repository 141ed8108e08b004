"""What every test stands on: no network but loopback, no keys of the developer, a home of its own."""

import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# What several test modules import; tests are no package.
sys.path.insert(0, str(Path(__file__).with_name("integration_tests")))
pytest.register_assert_rewrite("loopback_tills")

_LOOPBACK = ["127.0.0.1", "::1", "localhost"]
_PRIVATE_VARIABLES = re.compile(
    r".*_API_KEY|(OPENAI|ANTHROPIC|AZURE|GOOGLE)_.*|(LANGSMITH|LANGCHAIN|LCR)_.*|.*_proxy", re.IGNORECASE
)
_CI = os.environ.get("CI") == "true"

settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if _CI else "developer")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Before pytest-socket reads its options: they belong to the suite, not to each caller's command line.
    config.option.allow_hosts = _LOOPBACK
    config.option.allow_unix_socket = True


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if _PRIVATE_VARIABLES.fullmatch(name):
                patch.delenv(name)
        patch.setenv("LCR_HOME", str(tmp_path_factory.mktemp("lcr-home")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recorded data beside the clone; on CI its absence is a failure, since its tests must run there."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        reason = "the recorded data (../shared/data beside the clone) is not here"
        if _CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def loopback() -> ModuleType:
    """The module ``integration_tests/loopback_provider.py``."""
    return import_module("loopback_provider")
