/** The tests of `bench service`, and what podwire's figures are to reach. */

import { selectByKey } from "../arguments.js";
import type { Target } from "../stats.js";
import { http, httpInARow, type Measure, redis, tcp, udpHighest } from "../testbed/measures.js";
import type { Variant, Way } from "./variants.js";

/**
 * Runs of new connections without a pause, and their seconds: together tens of thousands of
 * connections, as many as there are ports to masquerade with, in less than the minute for which a
 * closed one is remembered.
 */
const RUNS_IN_A_ROW = 4;
const SECONDS_IN_A_ROW = 2;

/** All tests, in the order in which they run. */
export const MEASURES: readonly Measure[] = [
  tcp("tcp1", "TCP, 1 stream", 1, false),
  tcp("tcp4", "TCP, 4 streams", 4, false),
  udpHighest(64),
  redis(),
  http(),
  httpInARow(RUNS_IN_A_ROW, SECONDS_IN_A_ROW),
];

/** Tests by key. Throws for an unknown one. */
export function selectMeasures(keys: readonly string[]): Measure[] {
  return selectByKey("test", MEASURES, keys);
}

/** Tests made from pod to pod as well, to see what a ClusterIP costs. */
const COST_TESTS = ["tcp1", "udp64max", "http"];
const ROW_TEST = "httpRow";

/** Whether a test is made over a way. Falling over was only ever seen of masquerading, at NodePorts. */
export function applies(measure: Measure, way: Way): boolean {
  if (way === "pod") return COST_TESTS.includes(measure.key);
  return measure.key !== ROW_TEST || way === "nodePort";
}

/** Whether a test is made in every repetition: one that fills the tables of closed connections is not. */
export function isRepeated(measure: Measure): boolean {
  return measure.key !== ROW_TEST;
}

/** Where the ratio to the kernel with `translator` is to be, at `services` Services; null where nothing is asked. */
export function wantedRatio(
  figure: string,
  translator: Variant["translator"],
  services: number,
): Target | null {
  if (figure === "udp64max") return exactly(1.8);
  if (figure === "tcp1") return exactly(1);
  if (figure === "http" && translator === "iptables") {
    if (services === 1) return exactly(0.9);
    if (services >= 10_000) return exactly(4);
  }
  return null;
}

/** A ClusterIP's cost: its figure over that from pod to pod. */
export const WANTED_OF_POD = { higher: exactly(0.95), lower: exactly(1.05) } as const;
/** Of the first run in a row, the last one's share. */
export const WANTED_KEPT = exactly(0.9);
/** Times that loading is to be faster than the kernel's, from this many Services on. */
export const WANTED_LOAD = { from: 10_000, target: exactly(20) } as const;

function exactly(bound: number): Target {
  return { floor: bound, goal: bound };
}
