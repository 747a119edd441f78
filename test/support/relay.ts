/**
 * A port on 127.0.0.1 that leads to a server inside a namespace, so that a test outside can be its
 * client: TCP, a unix socket (files are the same in every network namespace), TCP again.
 *
 * Through it connections can be cut and refused, as a network does.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type TestNet, waitFor } from "./netns.js";

/** Runs in the namespace: every connection to the socket becomes one to ADDRESS PORT. */
const INSIDE = `
const { connect, createServer } = require("node:net");
const [path, address, port] = process.argv.slice(1);
createServer((a) => {
  const b = connect(Number(port), address);
  for (const [x, y] of [[a, b], [b, a]]) {
    x.pipe(y);
    x.on("error", () => y.destroy());
    x.on("close", () => y.destroy());
  }
}).listen(path);
`;

export class Relay {
  private readonly sockets = new Set<Socket>();
  private refusing = false;

  private constructor(private readonly server: Server) {}

  /** From 127.0.0.1 to ADDRESS:PORT as the namespace sees it. */
  static async into(net: TestNet, ns: string, address: string, port: number): Promise<Relay> {
    const path = join(net.directory(), "relay.sock");
    net.spawn(ns, process.execPath, ["-e", INSIDE, path, address, String(port)]);
    await waitFor(() => existsSync(path), { what: "relay" });
    return Relay.listen(() => connect(path));
  }

  /** From another port of 127.0.0.1 to this one. */
  static to(port: number): Promise<Relay> {
    return Relay.listen(() => connect(port, "127.0.0.1"));
  }

  private static async listen(dial: () => Socket): Promise<Relay> {
    const server = createServer((outer) => relay.serve(outer, dial));
    const relay = new Relay(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return relay;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Whether new connections are broken at once. */
  refuse(refusing: boolean): void {
    this.refusing = refusing;
    if (refusing) this.cut();
  }

  close(): void {
    this.server.close();
    this.cut();
  }

  private serve(outer: Socket, dial: () => Socket): void {
    if (this.refusing) return void outer.destroy();
    const inner = dial();
    for (const [from, to] of [
      [outer, inner],
      [inner, outer],
    ] as const) {
      this.sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        to.destroy();
        this.sockets.delete(from);
      });
    }
  }
}
