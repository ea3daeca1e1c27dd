"""`python -m app.cli`, as the Procfile calls it: no script needs to be on the path."""

from app.cli import main

main()
