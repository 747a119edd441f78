/** What a test runs over: where its clients are, and what they talk to. */

import type { RateProbe } from "./rateSearch.js";

/** Where a server is reached. */
export interface Place {
  address: string;
  port: number;
}

/** The servers, as they are reached over a path. */
export interface Target {
  iperf: Place;
  http: Place;
  redis: Place;
}

export interface TestPath {
  readonly target: Target;
  /** What UDP tests hand to one another within a repetition: the unpaced run by payload length. */
  readonly unpaced: Map<number, RateProbe>;
  /** The highest rate found in the repetition before, by payload length. */
  readonly lastRate: Map<number, number>;
  /** A client program as run at the path's beginning. */
  inClient(argv: readonly string[]): string[];
  /** Process ids of the agents on the way; empty where the kernel does the work. */
  agentPids(): number[];
  /** Ends and restarts the iperf3 server: after a client that failed it may still wait for it. */
  restartIperf(): Promise<void>;
}
