/**
 * The peer: keepalived (VRRP) on two nodes, with nginx on both. Its address lies in the owner's kernel,
 * which goes on answering whatever becomes of the daemon: so `kill` takes the node's link too, as a node
 * that dies does, and there is no `freeze`.
 */

import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { attempt, inNetns, type Launcher, must } from "../command.js";
import { STOP_GRACE_MS } from "../testbed/reach.js";
import { Servers } from "../testbed/Servers.js";
import { sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import { ip, removeSets, workDirectory } from "../testbed/topology.js";
import type { Bed, Fault } from "./Bed.js";
import { monotonicMs } from "./clock.js";
import {
  type BedNode,
  buildFailoverLan,
  type FailoverSet,
  NODES,
  nameFailoverSet,
  OWNER,
  VIP,
} from "./nodes.js";

const PAIR = NODES.slice(0, 2);
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLE_STEP_MS = 50;
const LOG_TAIL = 600;

export class KeepalivedBed implements Bed {
  readonly set: FailoverSet;
  readonly faults: readonly Fault[] = ["kill", "link", "drain"];
  readonly url = `http://${VIP}/`;
  private readonly daemons = new Map<BedNode, ChildProcess>();
  private readonly servers: Servers[] = [];

  /** @param advertSeconds VRRP's advertisement interval; below one second needs version 3 */
  constructor(
    private readonly launcher: Launcher,
    private readonly index: number,
    private readonly advertSeconds: number,
  ) {
    this.set = nameFailoverSet(
      index,
      PAIR.map(({ name }) => name),
      [],
    );
  }

  get pc(): string {
    return this.set.pc;
  }

  async up(): Promise<void> {
    buildFailoverLan(this.set, PAIR.length);
    for (const node of PAIR) {
      const servers = new Servers(this.launcher, this.set[node.name]!, `${this.index}-${node.name}`);
      servers.startNginx([{ port: 80, answer: node.name }]);
      this.servers.push(servers);
      this.start(node);
    }
    await this.settled();
  }

  async inject(fault: Fault): Promise<number> {
    const daemon = this.daemons.get(OWNER)!;
    const at = monotonicMs();
    if (fault === "drain") daemon.kill("SIGTERM");
    else {
      if (fault === "kill") this.kill(OWNER);
      ip(this.set[OWNER.name]!, "link set e0 down");
    }
    return at;
  }

  async recover(fault: Fault): Promise<void> {
    // What it left in the kernel: a node that died comes back without.
    if (fault === "kill")
      attempt(["ip", "-n", this.set[OWNER.name]!, "addr", "del", `${VIP}/24`, "dev", "e0"]);
    if (fault !== "drain") ip(this.set[OWNER.name]!, "link set e0 up");
    if (fault !== "link") {
      await this.launcher.stop([this.daemons.get(OWNER)!], STOP_GRACE_MS);
      this.start(OWNER);
    }
    await this.settled();
  }

  logs(): string {
    return PAIR.map(
      (node) => `${node.name}: ${readFileSync(this.file(node, "log"), "utf8").trim().slice(-LOG_TAIL)}`,
    ).join("\n");
  }

  async down(): Promise<void> {
    const servers = this.servers.flatMap((each) => each.processes());
    await this.launcher.stop([...servers, ...this.daemons.values()], STOP_GRACE_MS);
    removeSets([this.set]);
  }

  private start(node: BedNode): void {
    mkdirSync(this.directory(node), { recursive: true });
    writeFileSync(
      this.file(node, "conf"),
      `global_defs {
  router_id ${node.name}
  vrrp_version ${this.advertSeconds < 1 ? 3 : 2}
  vrrp_garp_master_repeat 3
}
vrrp_instance VI {
  state BACKUP
  interface e0
  virtual_router_id 51
  priority ${node === OWNER ? 150 : 100}
  advert_int ${this.advertSeconds}
  virtual_ipaddress { ${VIP}/24 }
}
`,
    );
    // It does not start where a killed one's files are.
    for (const name of ["pid", "vrrp.pid"]) rmSync(this.file(node, name), { force: true });
    const argv = ["keepalived", "-n", "-l", "-D", "-P", "-f", this.file(node, "conf")];
    argv.push("-p", this.file(node, "pid"), "-r", this.file(node, "vrrp.pid"));
    this.daemons.set(node, this.launcher.start(inNetns(this.set[node.name]!, argv), this.file(node, "log")));
  }

  /** Kills the VRRP process, which would say good-bye if its parent went first, and the daemon. */
  private kill(node: BedNode): void {
    for (const name of ["vrrp.pid", "pid"])
      process.kill(Number(readFileSync(this.file(node, name), "utf8")), "SIGKILL");
  }

  /** Waits until the owner's kernel has the address, and the other's has not. */
  private async settled(): Promise<void> {
    const deadline = performance.now() + SETTLE_TIMEOUT_MS;
    const has = (node: BedNode) =>
      must(["ip", "-n", this.set[node.name]!, "-o", "addr", "show", "dev", "e0"]).includes(` ${VIP}/`);
    while (PAIR.some((node) => has(node) !== (node === OWNER))) {
      if (performance.now() > deadline)
        throw new TestbedError(`the address is not at its owner in time\n${this.logs()}`);
      await sleep(SETTLE_STEP_MS);
    }
  }

  private directory(node: BedNode): string {
    return join(workDirectory(), `${this.index}-keepalived-${node.name}`);
  }

  private file(node: BedNode, name: string): string {
    return join(this.directory(node), name);
  }
}
