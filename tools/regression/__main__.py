"""`python -m regression`."""

from regression.cli.main import main

raise SystemExit(main())
