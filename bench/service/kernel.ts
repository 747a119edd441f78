/** The kernel's vxlan and kube-proxy-shaped rules, of iptables or nftables. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inNetns, type Launcher, must } from "../command.js";
import { POD_POOL } from "../testbed/Agents.js";
import { TestbedError } from "../testbed/TestbedError.js";
import {
  buildKernelVxlan,
  buildRoutedPod,
  buildRoutedPods,
  POD_C_ADDRESS,
  type ServiceSet,
  type Side,
  workDirectory,
} from "../testbed/topology.js";
import { endpointChain as iptablesChain, iptablesRules } from "./iptables.js";
import { endpointChain as nftChain, nftRules } from "./nftables.js";
import type { IptablesKind } from "./options.js";
import { portsOf } from "./ruleNames.js";
import { type BenchService, SERVICE_CIDR } from "./services.js";
import type { Translator } from "./Translator.js";

const LOAD_TIMEOUT_MS = 300_000;

/** What the two kinds of rules differ in. */
interface RuleKind {
  /** The rules of a node, as text. */
  write(services: readonly BenchService[], side: Side): string;
  /** Loads them, from standard input. */
  readonly loader: readonly string[];
  /** Prints one backend's chain with its counters. */
  list(service: BenchService, backend: number): string[];
  /** The counter of its translating rule. */
  readonly counter: RegExp;
}

class KernelTranslator implements Translator {
  readonly keepsClientAddress = false;

  constructor(
    private readonly launcher: Launcher,
    private readonly set: ServiceSet,
    private readonly index: number,
    private readonly kind: RuleKind,
  ) {}

  async build(): Promise<void> {
    buildRoutedPods(this.set);
    buildRoutedPod(this.set.nodeA, "pod1", this.set.podC, POD_C_ADDRESS);
    buildKernelVxlan(this.set);
  }

  async load(side: Side, services: readonly BenchService[]): Promise<number> {
    const file = join(workDirectory(), `${this.index}-${side.node}-rules`);
    writeFileSync(file, this.kind.write(services, side));
    const command = ["sh", "-c", `exec ${this.kind.loader.join(" ")} < ${file}`];
    const start = performance.now();
    const result = await this.launcher.run(inNetns(this.set[side.node], command), LOAD_TIMEOUT_MS);
    const seconds = (performance.now() - start) / 1000;
    if (result.code !== 0)
      throw new TestbedError(
        `${this.kind.loader[0]}: ${result.timedOut ? "did not end in time" : result.errors.trim().slice(0, 400)}`,
      );
    return seconds;
  }

  counted(side: Side, service: BenchService): number[] {
    return service.backends.map((_, backend) => {
      const listed = must(inNetns(this.set[side.node], this.kind.list(service, backend)));
      return Number(this.kind.counter.exec(listed)?.[1] ?? 0);
    });
  }
}

/** iptables' rules, kept by the kernel's nf_tables or its own older tables. */
export function iptablesTranslator(
  launcher: Launcher,
  set: ServiceSet,
  index: number,
  kind: IptablesKind,
): Translator {
  return new KernelTranslator(launcher, set, index, {
    write: (services) => iptablesRules(services, POD_POOL),
    loader: [`iptables-${kind}-restore`, "--noflush"],
    list: (service, backend) => [
      ...[`iptables-${kind}`, "-t", "nat", "-v", "-x", "-n", "-L"],
      iptablesChain(portsOf([service])[0], backend),
    ],
    counter: /^\s*(\d+)\s+\d+\s+DNAT\b/m,
  });
}

/** nftables' rules. */
export function nftablesTranslator(launcher: Launcher, set: ServiceSet, index: number): Translator {
  return new KernelTranslator(launcher, set, index, {
    write: (services, side) =>
      nftRules(services, {
        podCidr: POD_POOL,
        serviceCidr: SERVICE_CIDR,
        nodePortAddresses: [side.address],
      }),
    loader: ["nft", "-f", "-"],
    list: (service, backend) => [
      ...["nft", "list", "chain", "ip", "kube-proxy"],
      nftChain(portsOf([service])[0], backend),
    ],
    counter: /counter packets (\d+)/,
  });
}
