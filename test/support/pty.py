"""Runs a command in a terminal of its own: stdin to it, its output to stdout, window sizes from descriptor 3.

pty.py COLUMNS ROWS COMMAND…   Lines "COLUMNS ROWS" on descriptor 3 change the size. Exits as the command does.
"""
import sys

# Not this file in place of the module of its name.
sys.path.pop(0)

import fcntl, os, pty, select, signal, struct, termios


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))


master, slave = pty.openpty()
resize(master, sys.argv[1], sys.argv[2])
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.close(master)
    os.execvp(sys.argv[3], sys.argv[3:])
os.close(slave)

signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGHUP))
sources = [0, 3, master]
while True:
    for fd in select.select(sources, [], [])[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        if fd == master:
            if not data:
                status = os.waitpid(pid, 0)[1]
                sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
            os.write(1, data)
        elif not data:
            sources.remove(fd)
            if fd == 0:
                # The user has hung up.
                os.kill(pid, signal.SIGHUP)
        elif fd == 3:
            for line in data.decode().splitlines():
                resize(master, *line.split())
        else:
            os.write(master, data)
