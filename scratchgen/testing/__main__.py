"""``python -m scratchgen.testing``."""

from .command import main

raise SystemExit(main())
