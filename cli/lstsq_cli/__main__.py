"""``python -m lstsq_cli`` is ``lstsq``."""

from lstsq_cli import main

main()
