/** Waiting until one end of a set reaches another. */

import { inNetns, type Launcher } from "../command.js";
import { sleep } from "./session.js";
import { TestbedError } from "./TestbedError.js";

const READY_TIMEOUT_MS = 20_000;
const READY_STEP_MS = 200;
/** Between asking a program to end and killing it. */
export const STOP_GRACE_MS = 3_000;

/** Waits until `address` answers a ping from `netns`. Throws TestbedError with what `logs` says. */
export async function awaitReach(
  launcher: Launcher,
  netns: string,
  address: string,
  logs: () => string,
): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  const ping = inNetns(netns, ["ping", "-n", "-q", "-c", "1", "-W", "1", address]);
  for (;;) {
    if ((await launcher.run(ping, 5_000)).code === 0) return;
    if (performance.now() > deadline)
      throw new TestbedError(`${address} does not answer from ${netns}\n${logs()}`);
    await sleep(READY_STEP_MS);
  }
}
