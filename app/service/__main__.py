"""`python -m app.service`, as the Procfile calls it: no script needs to be on the path."""

from app.service.commands import main

main()
