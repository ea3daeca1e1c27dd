"""A stand-in for Lotus on this machine: `fake-lotus`."""

import contextlib
from collections.abc import Sequence

import click

from app.cli.program import Failure
from app.clock import clock
from app.forward.fake_lotus.faults import Faults, InjectedFault, PlannedFault, parse_fault
from app.forward.fake_lotus.server import RECEIVED, FakeLotus, make_server


class _FaultType(click.ParamType[PlannedFault]):
    name = "fault"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PlannedFault:
        if isinstance(value, PlannedFault):
            return value
        try:
            return parse_fault(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("fake-lotus")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8300,
    show_default=True,
    help="The port to listen on; 0 is any free one.",
)
@click.option("--key", default="a-key", show_default=True, help="The API key that it accepts.")
@click.option(
    "--fault",
    multiple=True,
    type=_FaultType(),
    metavar="KIND[:SHARE]",
    help=f"InjectedFault to inject, into all requests or a share of them: {', '.join(InjectedFault)}.",
)
@click.option(
    "--slow-seconds", type=click.FloatRange(0, 600), default=1.0, show_default=True, help="Delay of the fault slow."
)
def fake_lotus(*, port: int, key: str, fault: Sequence[PlannedFault], slow_seconds: float) -> None:
    """Run a stand-in for Lotus on this machine, to try forwarding. It keeps everything in memory only.

    `GET /_received` shows what it received, `DELETE /_received` clears it; `POST /_faults` replaces the faults, such as
    [{"fault": "error", "share": 0.5, "left": 10}].
    """
    lotus = FakeLotus(key, faults=Faults(fault), clock=clock, slow_seconds=slow_seconds)
    try:
        server = make_server(lotus, port=port)
    except OSError as error:
        raise Failure(f"cannot listen on port {port}: {error.strerror}; name another with --port") from error
    address = f"http://127.0.0.1:{server.server_address[1]}"
    click.echo(f"LOTUS_HOST={address}\nLOTUS_API_KEY={key}\nReceived events are shown at {address}{RECEIVED}")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
