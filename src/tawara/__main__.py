"""`python -m tawara`, the same as `tawara`."""

import sys

from tawara.cli import main

sys.exit(main())
