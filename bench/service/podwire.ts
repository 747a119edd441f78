/**
 * podwire's agents with Services from their config files: the one file that knows how Services are
 * handed to them. An agent that does not know `services` refuses its file, and the variant is missing.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inNetns, type Launcher } from "../command.js";
import type { AgentFile, Agents } from "../testbed/Agents.js";
import { STOP_GRACE_MS } from "../testbed/reach.js";
import { sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import {
  netnsPath,
  POD_C_ADDRESS,
  type ServiceSet,
  SIDE_A,
  SIDES,
  type Side,
  workDirectory,
} from "../testbed/topology.js";
import { atClusterIp, type BenchService, SPREAD } from "./services.js";
import type { Translator } from "./Translator.js";
import type { Variant } from "./variants.js";

const CHECK_TIMEOUT_MS = 60_000;
const LOAD_TIMEOUT_MS = 60_000;
const READY_STEP_MS = 10;
const AWAIT_CONNECT = fileURLToPath(new URL("awaitConnect.js", import.meta.url));

export class PodwireTranslator implements Translator {
  readonly keepsClientAddress = true;

  constructor(
    private readonly launcher: Launcher,
    private readonly set: ServiceSet,
    private readonly index: number,
    private readonly agents: Agents,
    private readonly variant: Variant,
  ) {}

  async build(): Promise<void> {
    for (const [side, other] of SIDES) {
      const file = this.agents.write(side, this.fileOf(side, other, [SPREAD]));
      const { code, errors } = await this.agents.run(
        side,
        ["agent", "--config", file, "--check"],
        CHECK_TIMEOUT_MS,
      );
      if (code !== 0)
        throw new TestbedError(`the agent refuses a config with services: ${errors.trim().slice(0, 300)}`);
      this.agents.write(side, this.fileOf(side, other, []));
    }
    await this.agents.start();
  }

  /**
   * The time from when the file with the Services takes the place of the one without, the signal to
   * read it next, until a pod of this node gets an answer from one of them: reading, compiling and
   * publishing the tables included.
   */
  async load(side: Side, services: readonly BenchService[]): Promise<number> {
    const other = SIDES.find(([each]) => each === side)![1];
    const { address, port } = atClusterIp(SPREAD);
    const log = join(workDirectory(), `${this.index}-${side.node}-connect.log`);
    const client = this.launcher.start(
      inNetns(this.set[side.pod], [process.execPath, AWAIT_CONNECT, address, String(port)]),
      log,
    );
    try {
      await this.awaitLine(log, /^trying$/m);
      const replace = this.agents.prepare(side, this.fileOf(side, other, services));
      // Before the agent can know of the file: it watches the directory as well.
      const start = process.hrtime.bigint();
      replace();
      this.agents.reload(side);
      const connected = await this.awaitLine(log, /^connected (\d+)$/m);
      return Number(BigInt(connected[1]) - start) / 1e9;
    } finally {
      await this.launcher.stop([client], STOP_GRACE_MS);
    }
  }

  counted(): null {
    return null;
  }

  private fileOf(side: Side, other: Side, services: readonly BenchService[]): AgentFile {
    const file = this.agents.fileOf(side, other, this.variant.dataplane);
    if (side === SIDE_A)
      file.pods.push({ name: "bench/podC", netns: netnsPath(this.set.podC), address: POD_C_ADDRESS });
    return services.length === 0 ? file : { ...file, services };
  }

  /** Waits for a line in a program's log. */
  private async awaitLine(log: string, line: RegExp): Promise<RegExpExecArray> {
    const deadline = performance.now() + LOAD_TIMEOUT_MS;
    for (;;) {
      const text = readFileSync(log, "utf8");
      const found = line.exec(text);
      if (found !== null) return found;
      if (!this.agents.alive()) throw new TestbedError(`an agent ended\n${this.agents.logs()}`);
      if (performance.now() > deadline)
        throw new TestbedError(
          `the services are not in effect in time: nothing matches ${line}, the client says "${text.trim()}"\n${this.agents.logs()}`,
        );
      await sleep(READY_STEP_MS);
    }
  }
}
