/** Command line of `npm run bench -- net --target`. */

import { parseArgs } from "node:util";
import { list, positive } from "../../arguments.js";
import type { Measure } from "../../testbed/measures.js";
import { MEASURES, selectMeasures } from "../measures.js";

export interface MachinesOptions {
  target: "vagrant" | "ssh";
  /** ssh's config file, "" for ssh's own; for "ssh" only. */
  sshConfig: string;
  /** The nodes at both ends: where the clients are, and where the servers. */
  nodes: readonly [client: string, server: string];
  repetitions: number;
  /** Length of each run; whole seconds (iperf3). */
  seconds: number;
  measures: Measure[];
  /** File for the raw figures, null for none. */
  json: string | null;
}

export const MACHINES_HELP = `npm run bench -- net --target vagrant|ssh [options]

Between pods of two nodes of a running cluster, beside a kernel vxlan device between the same two.

  --target T        vagrant: the machines of vagrant/Vagrantfile; ssh: those that an ssh config knows as
                    k8s-master and by the nodes' names
  -F FILE           for ssh: its config (default: ssh's own)
  --nodes a,b       from a to b (default k8s-worker01,k8s-worker02)
  --reps N          repetitions (default 3)
  --seconds S       length of each run, whole seconds (default 5)
  --quick           one repetition of one second
  --tests a,b       ${MEASURES.map((measure) => measure.key).join(",")} (default all)
  --json FILE       write the raw figures to FILE

Installs iperf3, wrk and nginx on the two nodes where they are missing. What it makes there, it removes.`;

/** Reads the options. Throws an Error for what is not one. */
export function parseMachinesOptions(args: readonly string[]): MachinesOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      target: { type: "string" },
      "ssh-config": { type: "string", short: "F", default: "" },
      nodes: { type: "string", default: "k8s-worker01,k8s-worker02" },
      reps: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      tests: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const { target } = values;
  if (target !== "vagrant" && target !== "ssh") throw new Error("--target takes vagrant or ssh");
  const [client, server, ...more] = list(values.nodes);
  if (client === undefined || server === undefined || more.length > 0 || client === server)
    throw new Error("--nodes takes two nodes");
  return {
    target,
    sshConfig: values["ssh-config"],
    nodes: [client, server],
    repetitions: positive("reps", values.reps ?? (values.quick ? "1" : "3")),
    seconds: positive("seconds", values.seconds ?? (values.quick ? "1" : "5")),
    measures: values.tests === undefined ? [...MEASURES] : selectMeasures(list(values.tests)),
    json: values.json ?? null,
  };
}
