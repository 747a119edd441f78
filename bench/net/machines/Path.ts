/**
 * One variant between two machines: the namespaces at both ends, which others have made, and the servers
 * (iperf3, nginx), which are transient units of the server's systemd so that they outlive no run: whoever
 * clears up stops them by name.
 */

import { quote } from "../../../test/support/ssh.js";
import type { RateProbe } from "../../testbed/rateSearch.js";
import { HTTP_PORT, IPERF_PORT, nginxConfig, REDIS_PORT } from "../../testbed/Servers.js";
import { TestbedError } from "../../testbed/TestbedError.js";
import type { Target, TestPath } from "../../testbed/TestPath.js";
import type { Variant } from "../variants.js";
import type { Machine } from "./Machine.js";

/** Where servers keep files, a directory for each variant. */
export const WORK_DIRECTORY = "/run/podwire-bench";
/** Beginning of the units' names. */
export const UNIT_PREFIX = "podwire-bench-";
/** No client runs longer. */
const CLIENT_TIMEOUT_S = 120;
const REACH_ATTEMPTS = 60;

/** One end. */
export interface End {
  machine: Machine;
  /** Path of its network namespace. */
  netns: string;
  /** Dotted decimal. */
  address: string;
}

export class Path implements TestPath {
  readonly target: Target;
  readonly unpaced = new Map<number, RateProbe>();
  readonly lastRate = new Map<number, number>();

  constructor(
    readonly variant: Variant,
    private readonly client: End,
    private readonly server: End,
  ) {
    const at = (port: number) => ({ address: server.address, port });
    this.target = { iperf: at(IPERF_PORT), http: at(HTTP_PORT), redis: at(REDIS_PORT) };
  }

  /** Waits until the ends reach each other, and starts the servers. Throws TestbedError. */
  async up(): Promise<void> {
    const ping = `nsenter --net=${this.client.netns} ping -n -q -c 1 -W 1 ${this.server.address} > /dev/null`;
    await this.client.machine
      .run(`for i in $(seq ${REACH_ATTEMPTS}); do if ${ping}; then exit 0; fi; done; exit 1`)
      .catch(() => {
        const ends = `${this.client.machine.name} to ${this.server.machine.name}`;
        throw new TestbedError(`${this.variant.title}: no ping from ${ends}`);
      });
    const directory = `${WORK_DIRECTORY}/${this.variant.key}`;
    const nginx = nginxConfig(directory, [{ port: HTTP_PORT, answer: "ok" }]);
    await this.server.machine.run(`mkdir -p ${directory}
printf %s ${quote(nginx)} > ${directory}/nginx.conf
${this.unit("nginx", `nginx -e ${directory}/error.log -c ${directory}/nginx.conf`)}
${this.unit("iperf3", `iperf3 -s -p ${IPERF_PORT} --forceflush`)}`);
    const listening = `nsenter --net=${this.server.netns} ss -Hltn`;
    await this.server.machine.run(
      `for i in $(seq 100); do
  if ${listening} | grep -q ':${IPERF_PORT} ' && ${listening} | grep -q ':${HTTP_PORT} '; then exit 0; fi
  sleep 0.1
done
echo "the servers do not listen" >&2
exit 1`,
    );
  }

  inClient(argv: readonly string[]): string[] {
    return this.client.machine.inNamespace(this.client.netns, argv, CLIENT_TIMEOUT_S);
  }

  /** None that is seen from here. */
  agentPids(): number[] {
    return [];
  }

  async restartIperf(): Promise<void> {
    await this.server.machine.run(`systemctl restart ${this.unitName("iperf3")}; sleep 0.3`);
  }

  private unitName(program: string): string {
    return `${UNIT_PREFIX}${program}-${this.variant.key}`;
  }

  private unit(program: string, command: string): string {
    return `systemd-run --quiet --collect --unit=${this.unitName(program)} nsenter --net=${this.server.netns} ${command}`;
  }
}
