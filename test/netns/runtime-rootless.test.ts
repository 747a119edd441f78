/** runc and conmon without root: a user's own namespaces with one identity, as a lab without root has them. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { netnsUnavailable } from "../support/netns.js";
import { runtimeUnavailable } from "../support/runtime.js";

const NOBODY = 65_534;
const PROGRAM = fileURLToPath(new URL("../support/rootlessPods.mjs", import.meta.url));
const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
/** What src/lab/rootless.ts makes for a lab: namespaces, and /proc and /run of their own. */
const INSIDE = [
  "unshare",
  "--user",
  "--map-root-user",
  "--net",
  "--mount",
  "--pid",
  "--fork",
  "--kill-child",
];
const PREPARE =
  'mount -t proc proc /proc && mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/netns && exec "$@"';

const asNobody = (command: string[]) =>
  spawnSync(command[0]!, command.slice(1), {
    encoding: "utf8",
    timeout: 100_000,
    ...(process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}),
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    cwd: "/",
  });

function unavailable(): string {
  const reason = netnsUnavailable() || runtimeUnavailable();
  if (reason !== "") return reason;
  const tried = asNobody([...INSIDE, process.execPath, "--check", PROGRAM]);
  return tried.status === 0 ? "" : "needs user namespaces for users, and a checkout that they may read";
}

const reason = unavailable();

test.skipIf(reason !== "")(`a user's pods run, are told apart, survive and go ${reason}`, () => {
  const home = mkdtempSync(join(tmpdir(), "podwire-rootless-"));
  try {
    spawnSync("chown", [String(NOBODY), home]);
    const inside = ["sh", "-c", PREPARE, "sh", process.execPath, PROGRAM, DIST, join(home, "pods")];
    const { status, stdout, stderr } = asNobody([...INSIDE, ...inside]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const report = JSON.parse(stdout);
    expect(report).toEqual({
      exitCode: 7,
      log: "hello\n0\n",
      exec: { stdout: "out\n", stderr: "err\n", code: 3 },
      page: "page on n1\n",
      // One identity, under another number.
      other: "1234\n2345\n",
      seccomp: "Seccomp:\t2\n",
      escape: expect.any(Number),
      survived: true,
      left: [false],
      errors: [],
    });
    expect(report.escape).not.toBe(0);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
