"""`python -m kerbseg`: the command line."""

from kerbseg.cli import main

main()
