/**
 * Whether Services do what they are for, before anything is measured: connections to one with two
 * backends on each node reach all four and come back, the pods see the source address that they
 * should, and the rules' own counters agree.
 */

import type { Launcher } from "../command.js";
import { TestbedError } from "../testbed/TestbedError.js";
import type { Place } from "../testbed/TestPath.js";
import { PC_ADDRESS, SIDE_A } from "../testbed/topology.js";
import type { ServiceBed } from "./ServiceBed.js";
import { atClusterIp, atNodePort, SPREAD } from "./services.js";

/** Connections over each way: the chance that random ones miss one of four backends is 4e-8. */
const CONNECTIONS = 64;
const TIMEOUT_MS = 20_000;

/** What nginx answers behind the checked Service: the backend, and the client as it sees it. */
export const SPREAD_ANSWER = "$server_addr:$server_port $remote_addr";

/** One answer. */
export interface Answer {
  backend: string;
  client: string;
}

/** What the check saw. */
export interface SpreadCheck {
  /** Connections by backend, over both ways. */
  backends: Record<string, number>;
  /** Client addresses that the pods saw at the NodePort. */
  nodePortClients: string[];
}

/** Checks a bed whose Services are in effect. Throws TestbedError for what is not as it should be. */
export async function checkSpread(launcher: Launcher, bed: ServiceBed): Promise<SpreadCheck> {
  const inside = await connectAll(launcher, bed.inPod.bind(bed), atClusterIp(SPREAD));
  const outside = await connectAll(launcher, bed.inPc.bind(bed), atNodePort(SPREAD));
  const problems = [
    ...spreadProblems("ClusterIP", inside, (client) => client === SIDE_A.podAddress),
    ...spreadProblems(
      "NodePort",
      outside,
      (client) => (client === PC_ADDRESS) === bed.translator.keepsClientAddress,
    ),
  ];
  const backends: Record<string, number> = {};
  for (const { backend } of [...inside, ...outside]) backends[backend] = (backends[backend] ?? 0) + 1;
  const counted = bed.translator.counted(SIDE_A, SPREAD);
  SPREAD.backends.forEach(({ address, port }, i) => {
    const answered = backends[`${address}:${port}`] ?? 0;
    if (counted !== null && counted[i] !== answered)
      problems.push(`${address}:${port} answered ${answered} connections, the rules counted ${counted[i]}`);
  });
  if (problems.length > 0) throw new TestbedError(problems.join("; "));
  return { backends, nodePortClients: [...new Set(outside.map(({ client }) => client))].sort() };
}

/** What is wrong with the answers over one way. Pure. */
export function spreadProblems(
  way: string,
  answers: readonly Answer[],
  rightClient: (client: string) => boolean,
): string[] {
  const problems: string[] = [];
  if (answers.length !== CONNECTIONS)
    problems.push(`${way}: ${answers.length} of ${CONNECTIONS} connections were answered`);
  const seen = new Set(answers.map(({ backend }) => backend));
  for (const { address, port } of SPREAD.backends)
    if (!seen.delete(`${address}:${port}`)) problems.push(`${way}: ${address}:${port} got no connection`);
  for (const stranger of seen) problems.push(`${way}: ${stranger} answered`);
  const wrong = answers.find(({ client }) => !rightClient(client));
  if (wrong !== undefined) problems.push(`${way}: ${wrong.backend} saw the client as ${wrong.client}`);
  return problems;
}

/** A new connection for each request, one after another. */
async function connectAll(
  launcher: Launcher,
  inClient: (argv: readonly string[]) => string[],
  { address, port }: Place,
): Promise<Answer[]> {
  const curl = ["curl", "-s", "--max-time", "2", "-H", "Connection: close"];
  const { output } = await launcher.run(
    inClient([...curl, `http://${address}:${port}/[1-${CONNECTIONS}]`]),
    TIMEOUT_MS,
  );
  return [...output.matchAll(/^(\S+:\d+) (\S+)$/gm)].map(([, backend, client]) => ({ backend, client }));
}
