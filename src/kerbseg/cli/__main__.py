"""`python -m kerbseg.cli`, as `python -m kerbseg`."""

from kerbseg.cli import main

main()
