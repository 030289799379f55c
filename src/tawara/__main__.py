"""`python -m tawara`, the same as `tawara`."""

from tawara.cli import main

main()
