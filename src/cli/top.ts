/** `podwire top`: rates of this node's dataplane, renewed on a terminal, once elsewhere. */
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { ask } from "../agent/StatusServer.js";
import { type DirectoryOptions, directoryOptions, withAgent, write } from "./agentSocket.js";
import { interval } from "./arguments.js";
import { type TopStatus, topScreen } from "./topView.js";

interface Options extends DirectoryOptions {
  interval: number;
}

// ECMA-48: clear what is behind the cursor in the line, and below it; the alternate screen and the cursor are xterm's.
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const CTRL_C = "\x03";

/** The subcommand. */
export function topCommand(): Command {
  return directoryOptions(new Command("top"))
    .description(
      "Show rates of this node: per Service, per link, drops by reason, how long the dataplane's loop takes. On a\n" +
        "terminal it is renewed until q or Ctrl-C; elsewhere it is printed once.",
    )
    .option("--interval <seconds>", "time over which rates are taken", interval, 1)
    .action((options: Options) => withAgent(options, (socket) => top(socket, options.interval * 1000)));
}

async function top(socket: string, intervalMs: number): Promise<void> {
  const look = () => ask<TopStatus>(socket, "status");
  let before = await look();
  if (!process.stdout.isTTY) {
    await sleep(intervalMs);
    const size = { columns: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY };
    await write(`${topScreen(before, await look(), new Date(), size).join("\n")}\n`);
    return;
  }
  const quit = new AbortController();
  const restore = takeTerminal(() => quit.abort());
  try {
    while (!quit.signal.aborted) {
      await sleep(intervalMs, undefined, { signal: quit.signal }).catch(() => {});
      if (quit.signal.aborted) break;
      const now = await look();
      const { columns, rows } = process.stdout;
      const lines = topScreen(before, now, new Date(), { columns, rows });
      await write(HOME + lines.map((line) => line + CLEAR_LINE).join("\r\n") + CLEAR_BELOW);
      before = now;
    }
  } finally {
    restore();
  }
}

/** Takes screen and keyboard; `quit` is called by q, Ctrl-C or a signal. Returns what gives them back. */
function takeTerminal(quit: () => void): () => void {
  const { stdin, stdout } = process;
  const onKey = (key: Buffer) => {
    const text = key.toString();
    if (text === "q" || text === CTRL_C) quit();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, quit);
  if (stdin.isTTY) {
    stdin.setRawMode(true);
    stdin.on("data", onKey);
  }
  stdout.write(ENTER);
  return () => {
    stdout.write(LEAVE);
    if (stdin.isTTY) {
      stdin.setRawMode(false);
      stdin.off("data", onKey);
      stdin.pause();
    }
    for (const signal of signals) process.off(signal, quit);
  };
}
