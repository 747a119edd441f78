/** Half a minute of `npm run soak -- api`: clients that are not ours miss nothing and are told nothing twice. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { PODWIRE } from "../../support/agent.js";
import { apiSoak, judgeMemory } from "../../support/apiSoak.js";
import { temporaryDirectory } from "../../support/apiserver.js";

const SEED = 1;
const SECONDS = 30;
const RATE = 200;
/** MiB. Half a minute has few collections to measure between: ten minutes are what shows a slow leak. */
const MAY_GROW = 64;

function missing(): string {
  if (!existsSync(PODWIRE)) return "needs npm run build";
  try {
    execFileSync("kubectl", ["version", "--client"], { stdio: "ignore" });
    return "";
  } catch {
    return "needs kubectl";
  }
}

const reason = missing();

test.skipIf(reason !== "")(
  `informers of client-node and kubectl -w hold what a fresh list says ${reason}`,
  async () => {
    const directory = temporaryDirectory();
    try {
      const result = await apiSoak({ seed: SEED, seconds: SECONDS, rate: RATE, directory: directory.path });
      expect(result.changes).toBe(SECONDS * RATE);
      for (const watcher of result.watchers) {
        // Each was told of most changes, lost its watch often, and its place in the history at least once.
        expect(watcher.events, watcher.name).toBeGreaterThan(result.changes / 20);
        expect(watcher.relisted, watcher.name).toBeGreaterThan(0);
      }
      for (const { name, resumed, relisted } of result.watchers)
        if (name.startsWith("informer")) expect(resumed, name).toBeGreaterThan(relisted + 2);
      judgeMemory(result, MAY_GROW);
    } finally {
      directory.remove();
    }
  },
  // The rate is kept up where the machine can; else it takes longer.
  400_000,
);
