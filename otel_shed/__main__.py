"""``python -m otel_shed`` is the ``otel-shed`` command."""

import sys

from otel_shed.cli import main

sys.exit(main())
