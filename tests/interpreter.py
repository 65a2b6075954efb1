"""What the interpreter that runs the tests is."""

from __future__ import annotations

import sysconfig
from typing import Final

IS_FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether it was built without its lock."""
