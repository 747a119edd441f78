/**
 * A program of its own: `node awaitConnect.js ADDRESS PORT` asks an HTTP server until it answers.
 * Prints "trying" after the first attempt that failed, and "connected NS" with the monotonic clock,
 * which all processes share. Attempts overlap: one whose SYN was dropped would only be repeated
 * after a second. A connection counts when something comes back over it: where an ICMP error
 * arrives at once, "connect" was seen without a single segment from the other end.
 */

import { connect } from "node:net";

const STEP_MS = 4;
const ATTEMPT_MS = 100;

const [address, port] = process.argv.slice(2);
let said = false;

function attempt(): void {
  const socket = connect({ host: address, port: Number(port) });
  const failed = () => {
    socket.destroy();
    if (!said) process.stdout.write("trying\n");
    said = true;
  };
  socket.setTimeout(ATTEMPT_MS, failed);
  socket.on("error", failed);
  socket.once("data", () => {
    process.stdout.write(`connected ${process.hrtime.bigint()}\n`, () => process.exit(0));
  });
  socket.write("HEAD / HTTP/1.0\r\n\r\n");
}

setInterval(attempt, STEP_MS);
