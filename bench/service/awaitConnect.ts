/**
 * A program of its own: `node awaitConnect.js ADDRESS PORT` tries to connect until it succeeds.
 * Prints "trying" after the first attempt that failed, and "connected NS" with the monotonic clock,
 * which all processes share. Attempts overlap: one whose SYN was dropped would only be repeated
 * after a second.
 */

import { connect } from "node:net";

const STEP_MS = 4;
const ATTEMPT_MS = 100;

const [address, port] = process.argv.slice(2);
let said = false;

function attempt(): void {
  const socket = connect({ host: address, port: Number(port) });
  socket.setTimeout(ATTEMPT_MS, () => failed());
  socket.once("error", () => failed());
  socket.once("connect", () => {
    process.stdout.write(`connected ${process.hrtime.bigint()}\n`, () => process.exit(0));
  });
  const failed = () => {
    socket.destroy();
    if (!said) process.stdout.write("trying\n");
    said = true;
  };
}

setInterval(attempt, STEP_MS);
