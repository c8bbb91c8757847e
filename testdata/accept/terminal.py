#!/usr/bin/env python3
"""terminal.py [-t SECONDS] CMD... : runs CMD on a terminal of its own, as a person would, from a script on stdin.

    > text     type text and Enter
    ^ c        type Ctrl-C (^ z: Ctrl-Z)
    < regex    wait until the output since the last match matches
    ~ SECONDS  wait; bash takes a ^C that comes while it forks for its own
    = N        the size of the window becomes N columns
    . N        wait for CMD to end with exit code N

Everything CMD printed goes to stdout. Ends with 1, and says which line, when something does not come true
within SECONDS (default 120) each.
"""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

args = sys.argv[1:]
limit = 120.0
if args and args[0] == "-t":
    limit, args = float(args[1]), args[2:]
script = [l.rstrip("\n") for l in sys.stdin if l.strip() and not l.startswith("#")]

def resize(fd, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, cols, 0, 0))

pid, master = pty.fork()
if pid == 0:
    os.execvp(args[0], args)
resize(master, 120)

seen, status = "", None

def read(wait):
    """Takes what CMD printed within wait seconds; False once there is no more to come."""
    global seen
    ready, _, _ = select.select([master], [], [], wait)
    if not ready:
        return True
    try:
        data = os.read(master, 65536)
    except OSError:  # EIO: the last holder of the other side is gone
        return False
    if not data:
        return False
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    seen += data.decode("utf-8", "replace")
    return True

def fail(line, why):
    sys.stdout.flush()
    print(f"\nterminal.py: {line!r}: {why}; last output: {seen[-800:]!r}", file=sys.stderr)
    if status is None:
        os.kill(pid, signal.SIGKILL)
    sys.exit(1)

for line in script:
    op, _, text = line.partition(" ")
    deadline = time.monotonic() + limit
    if op == ">":
        os.write(master, text.encode() + b"\r")
    elif op == "^":
        os.write(master, bytes([ord(text.strip().upper()) & 0x1F]))
    elif op == "~":
        time.sleep(float(text))
    elif op == "=":
        resize(master, int(text))
    elif op == "<":
        while not (m := re.search(text, seen)):
            if not read(0.2):
                fail(line, "the output ended")
            if time.monotonic() > deadline:
                fail(line, "not seen in time")
        seen = seen[m.end():]
    elif op == ".":
        while True:
            open_ = read(0.05)
            done, raw = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if not open_:
                time.sleep(0.05)
            if time.monotonic() > deadline:
                fail(line, "still running")
        while read(0.05) and select.select([master], [], [], 0)[0]:
            pass
        status = os.waitstatus_to_exitcode(raw)
        if status != int(text):
            fail(line, f"exit code {status}")
    else:
        fail(line, "no such step")
if status is None:
    os.kill(pid, signal.SIGKILL)
    sys.exit("terminal.py: the script does not wait for the end (. N)")
