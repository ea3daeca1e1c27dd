"""Commands of the program without its start-up: a process that has imported it, and forks for each command.

python command_server.py SOCKET     serves; the folder of the program is the working folder

A walk through the documentation runs some thirty commands, and each of them would import for a second. What is run is
the same: arguments, folder, environment, and the three streams are those of whoever asks (`CLIENT`).
"""

import json
import os
import signal
import socket
import sys

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({path!r})
    socket.send_fds(asked, [b"x"], [0, 1, 2])
    asked.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    asked.shutdown(socket.SHUT_WR)
    sys.exit(int(asked.recv(9) or b"70"))
"""


def run(args: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run one command in this process; return its exit code."""
    from app.service.commands import main  # noqa: PLC0415 (the parent has it already)

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["segment-lotus", *args]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def answer(asked: socket.socket) -> None:
    """Run what is asked, on the streams that came with it."""
    _, streams, *_ = socket.recv_fds(asked, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    args, folder, environment = json.loads(asked.makefile("rb").read())
    asked.sendall(str(run(args, folder, environment)).encode())


def serve(path: str) -> None:
    """Fork for each command until SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        import app.service.commands  # noqa: F401, PLC0415 (once, for all)

        while True:
            asked, _ = door.accept()
            with asked:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    answer(asked)
                    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
