/** The tests of `bench net`, and what the ratio to the kernel's vxlan must reach. */

import { selectByKey } from "../arguments.js";
import type { Target } from "../stats.js";
import { http, type Measure, ping, tcp, udpHighest, udpUnpaced } from "../testbed/measures.js";
import type { Variant } from "./variants.js";

/** All tests, in the order in which they run. */
export const MEASURES: readonly Measure[] = [
  tcp("tcp1", "TCP, 1 stream", 1, false),
  tcp("tcp1R", "TCP, 1 stream, reverse", 1, true),
  tcp("tcp4", "TCP, 4 streams", 4, false),
  tcp("tcp4R", "TCP, 4 streams, reverse", 4, true),
  udpUnpaced(64),
  udpHighest(64),
  udpUnpaced(1400),
  udpHighest(1400),
  ping(),
  http(),
];

type Targets = Record<NonNullable<Variant["target"]>, Target>;

const TCP_1: Targets = { portable: { floor: 0.75, goal: 1 }, tunnel: { floor: 1, goal: 1.2 } };
const TCP_4: Targets = { portable: { floor: 0.35, goal: 0.8 }, tunnel: { floor: 0.5, goal: 1 } };
const UDP_64: Targets = { portable: { floor: 1.3, goal: 2 }, tunnel: { floor: 1.3, goal: 2 } };
const PING: Targets = { portable: { floor: 4, goal: 2 }, tunnel: { floor: 4, goal: 2 } };

/** What the ratio to kernel vxlan must reach, by figure and variant's kind. */
export const TARGETS: Readonly<Record<string, Targets>> = {
  tcp1: TCP_1,
  tcp1R: TCP_1,
  tcp4: TCP_4,
  tcp4R: TCP_4,
  udp64max: UDP_64,
  ping: PING,
};

/** Tests by key. Throws for an unknown one. */
export function selectMeasures(keys: readonly string[]): Measure[] {
  return selectByKey("test", MEASURES, keys);
}
