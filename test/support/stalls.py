#!/usr/bin/env python3
"""How late a process is woken that may run: one on each processor, at the priority of a dataplane thread.

  stalls.py THRESHOLD…   until SIGTERM; then prints how often a sleep of 2 ms was longer by more than each
                         THRESHOLD (milliseconds), and the longest, in milliseconds, as JSON
"""
import json
import os
import signal
import sys
import time

SLEEP = 0.002
NICE = -10


def sample(thresholds):
    over = [0] * len(thresholds)
    longest = 0.0
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    while running:
        before = time.monotonic()
        time.sleep(SLEEP)
        late = (time.monotonic() - before - SLEEP) * 1000
        longest = max(longest, late)
        for n, threshold in enumerate(thresholds):
            over[n] += late > threshold
    return over, longest


def main():
    thresholds = [float(each) for each in sys.argv[1:]]
    try:
        os.nice(NICE)
    except PermissionError:
        pass
    children = []
    for processor in sorted(os.sched_getaffinity(0)):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.sched_setaffinity(0, {processor})
            os.write(write, json.dumps(sample(thresholds)).encode())
            os._exit(0)
        os.close(write)
        children.append((child, read))

    def stop(*_):
        for child, _ in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    results = []
    for child, read in children:
        with os.fdopen(read) as stream:
            results.append(json.loads(stream.read()))
        os.waitpid(child, 0)
    over = [sum(each) for each in zip(*(result[0] for result in results))]
    longest = max(result[1] for result in results)
    print(json.dumps({"over": over, "longest": longest}), flush=True)


main()
