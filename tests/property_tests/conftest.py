"""What the property tests share is in modules beside them; tests are no package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("conversations", "conversation_checks")
