/** `podwire uninstall`: removes podwire's services and every trace of them. */
import { Command } from "commander";
import type { Cleaned } from "../install/uninstall.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";

interface Options {
  keepData?: true;
  root: string;
}

/** The subcommand. */
export function uninstallCommand(): Command {
  return new Command("uninstall")
    .description(
      "Stop podwire's services, end the pods that they run, remove their devices, routes and rules, bring\n" +
        "sysctls back to what they were, and remove units, /etc/podwire and /var/lib/podwire: on a master the\n" +
        "cluster's objects and keys too. May be repeated. Not removed: the package itself (npm uninstall -g\n" +
        "podwire).",
    )
    .option("--keep-data", "leave /etc/podwire and /var/lib/podwire")
    .option("--root <directory>", "remove what install --root has written there", "/")
    .action(run);
}

async function run({ keepData, root }: Options): Promise<void> {
  const [{ uninstall }, { RealSystem }] = await Promise.all([
    import("../install/uninstall.js"),
    import("../install/System.js"),
  ]);
  try {
    if (root === "/" && process.getuid?.() !== 0) throw new Error("only root can remove services");
    const clean = root === "/" ? cleanMachine : async () => ({ done: [], failed: [] });
    const left = await uninstall({ keepData: keepData === true }, new RealSystem(root), clean, (line) =>
      process.stdout.write(`${line}\n`),
    );
    for (const line of left) process.stderr.write(`${line}\n`);
    if (left.length > 0) process.exitCode = 1;
  } catch (error) {
    process.stderr.write(`podwire uninstall: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** Ends pods and removes what agents made in the kernel: by their record, then what it does not name. */
async function cleanMachine(): Promise<Cleaned> {
  const [
    { cleanup },
    { DEFAULT_RUNTIME_DIR, removePods },
    { StateDir },
    { NetlinkHost },
    { native },
    { sweep },
  ] = await Promise.all([
    import("../agent/cleanup.js"),
    import("../agent/podRuntime.js"),
    import("../agent/StateDir.js"),
    import("../host/NetlinkHost.js"),
    import("../binding/index.js"),
    import("../install/sweep.js"),
  ]);
  const holder = new StateDir(DEFAULT_STATE_DIR).holder();
  if (holder !== 0)
    return { done: [], failed: [`an agent runs (process ${holder}), and no unit of ours: stop it first`] };
  const host = new NetlinkHost(native);
  const pods = await removePods(DEFAULT_STATE_DIR, DEFAULT_RUNTIME_DIR);
  const { removed, restored, failed } = await cleanup(DEFAULT_STATE_DIR, host, false);
  const swept = failed.length === 0 ? await sweep(host) : [];
  return {
    done: [
      ...pods.map((pod) => `removed pod ${pod}`),
      ...removed.map((device) => `removed ${device}`),
      ...restored.map((change) => `restored ${change}`),
      ...swept,
    ],
    failed: failed.map(({ device, message }) => `could not remove ${device}: ${message}`),
  };
}
