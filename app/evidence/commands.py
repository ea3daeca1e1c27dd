"""The commands `evidence`, `evidence-keys` and `verify-evidence`."""

import os
import secrets
from pathlib import Path

import click
from click.decorators import pass_meta_key

from app.cli.program import Failure, login, open_backend, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import printable
from app.evidence.documents import to_key_document
from app.evidence.hooks import EvidenceHooks, Recount, Subject
from app.evidence.maker import EvidenceMaker, check_subject
from app.evidence.signature import read_public_key
from app.evidence.sql_evidence import ensure_key, list_keys
from app.evidence.verification import verify_evidence
from app.store.ids import Ids
from app.store.query import parse_author

HOOKS = "app.evidence.hooks"
"""The key of click's context under which a program keeps its EvidenceHooks."""

RECOUNT = "app.evidence.recount"
"""The key under which it keeps its Recount."""

_pass_hooks = pass_meta_key(HOOKS)
_pass_recount = pass_meta_key(RECOUNT)
_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("metric")
@click.option("--customer", required=True, metavar="ID", help="The customer.")
@click.option("--month", required=True, metavar="YYYY-MM", help="The month, such as 2026-10.")
@click.option("--tz", metavar="ZONE", help="The IANA time zone whose month it is.  [default: TIME_ZONE]")
@click.option("--version", metavar="DIGEST", help="Use an earlier version: the first digits of its digest.")
@click.option("--output", required=True, metavar="FILE", type=_PATH, help="The ZIP file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@click.option("--author", help="Who; by default the user of this shell.")
@_pass_hooks
def evidence(
    hooks: EvidenceHooks,
    /,
    *,
    metric: str,
    customer: str,
    month: str,
    output: Path,
    overwrite: bool,
    **texts: str | None,
) -> None:
    """Write a signed file that proves the number of one customer and month: events, definition, and what changed."""
    zone, version = texts["tz"] or str(read_settings().time_zone), texts["version"]
    subject = check_subject(Subject(metric=metric, version=version, customer_id=customer, month=month, tz=zone))
    author = parse_author(texts["author"] or login())
    if output.exists() and not overwrite:
        raise Failure(f"{output} is there already: name another file, or give --overwrite")
    maker = EvidenceMaker(open_backend().database, Ids(secrets.randbelow), clock, hooks)
    # Beside it, and moved when it is whole: under its name there is never a part of it.
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            record = maker.make(subject, author, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{output}: manifest {record.manifest_digest.hex()}")


@click.command("evidence-keys")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def evidence_keys(*, as_json: bool) -> None:
    """Print the public keys that check evidence, the one that signs first; the first time, make it."""
    database = open_backend().database
    with database.writing() as conn:
        ensure_key(conn, clock())
    with database.reading() as conn:
        documents = [to_key_document(key, signs=place == 0) for place, key in enumerate(list_keys(conn))]
    for document in documents:
        click.echo(encode(document).decode() if as_json else document["public_key"])


@click.command("verify-evidence")
@click.argument("file", type=_PATH)
@click.option("--key", metavar="KEY", help="The public key of the service, or a file that holds it.")
@click.option("--no-key", is_flag=True, help="Do not check the signature, only what the file says about itself.")
@_pass_recount
def verify_evidence_(recount: Recount, /, *, file: Path, key: str | None, no_key: bool) -> None:
    """Check an evidence file, and compute its number again; needs no service and no database.

    Exit code 1 if anything differs. The key comes from whoever runs the service, by another way than the file.
    """
    if (key is None) == (not no_key):
        raise click.UsageError("Give the public key with --key, or --no-key to leave the signature unchecked.")
    result = verify_evidence(file, None if key is None else read_public_key(key), recount)
    about = result.manifest
    if about is not None:
        subject = f"{about.metric} of {about.customer_id}, {about.month} in {about.tz}, as of {about.moment}"
        click.echo(printable(subject))
        click.echo(f"manifest {result.manifest_digest}")
    for problem in result.problems:
        click.echo(printable(f"wrong: {problem}"), err=True)
    if result.problems:
        raise Failure(f"{file} proves nothing")
    if key is None:
        click.echo("The events give the number. The signature was not checked: anybody can have made this file.")
    else:
        click.echo("The signature and all digests are right, and the events give the number.")
