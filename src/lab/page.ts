/**
 * Owns the way from this machine's loopback to the page of the lab's cluster: `podwire ui` runs on the API
 * server's node, where the API is reached, and listens on a unix socket, which no namespace hides. Must not
 * know what the page shows.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PODWIRE } from "./agents.js";
import { LabError } from "./errors.js";
import { ADMIN_KUBECONFIG, API_NODE, hostNamespace, inNamespace } from "./plan.js";
import { runAttached } from "./processes.js";

/** Runs `podwire ui` inside the lab, listening at `path`, until it is told to stop; returns its exit code. */
export function runPage(path: string): Promise<number> {
  const options = ["--kubeconfig", ADMIN_KUBECONFIG, "--socket", path, "--log-level", "warn"];
  const command = [process.execPath, PODWIRE, "ui", ...options];
  return runAttached(inNamespace(hostNamespace(API_NODE.name), command), process.env);
}

/**
 * Listens on 127.0.0.1 at `l4Port` (0: any) and hands connections on to what `serve` listens with at the path
 * that it is given, until that ends. Throws a LabError where the port is taken.
 */
export async function servePage(
  l4Port: number,
  serve: (path: string) => Promise<number>,
  say: (line: string) => void,
): Promise<number> {
  // For its owner only: whoever can connect may read.
  const directory = mkdtempSync(join(tmpdir(), "podwire-ui-"));
  const path = join(directory, "socket");
  const sockets = new Set<Socket>();
  const server = createServer((outside) => {
    const inside = connect(path);
    for (const [socket, other] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  try {
    const port = await listening(server, l4Port);
    say(`http://127.0.0.1:${port}/ shows the lab's cluster. Ctrl-C ends it.`);
    return await serve(path);
  } finally {
    server.close();
    for (const socket of sockets) socket.destroy();
    rmSync(directory, { recursive: true, force: true });
  }
}

function listening(server: Server, l4Port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new LabError(error.message, "LAB_PORT_TAKEN")));
    server.listen(l4Port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}
