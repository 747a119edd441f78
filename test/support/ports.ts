/** Ports for servers that are told theirs on their command line. */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Below the ports that the kernel gives to connections (ip_local_port_range, 32768-60999 where nobody has
 * changed it): one of those may be another's connection by the time that a server listens or listens again.
 */
const RANGE = { first: 10_000, last: 29_999 };

/** A TCP port of 127.0.0.1 at which nobody listens. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(RANGE.first, RANGE.last + 1);
    const server = createServer();
    try {
      await once(server.listen(port, "127.0.0.1"), "listening");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") continue;
      throw error;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
