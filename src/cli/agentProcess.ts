/** What an agent's process needs wherever its config comes from: the real parts, a log, signals. */
import type { AgentParts } from "../agent/Agent.js";
import { makeLog } from "./log.js";

/** The real host, worker and log. */
export async function agentParts(node: string, logLevel: string): Promise<AgentParts> {
  const [{ NetlinkHost }, { native }, { startWorker }, { probeLan }, { buildTableImage }] = await Promise.all(
    [
      import("../host/NetlinkHost.js"),
      import("../binding/index.js"),
      import("../worker/Dataworker.js"),
      import("../worker/probeLan.js"),
      import("../tables/TableImage.js"),
    ],
  );
  const log = await makeLog(logLevel, { node });
  // A fault of the control side must not stop the dataplane, which has a thread of its own.
  process.on("uncaughtException", (err) => log.error({ err }, "uncaught exception; forwarding goes on"));
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection; forwarding goes on"));
  return {
    host: new NetlinkHost(native),
    startWorker,
    buildImage: buildTableImage,
    log,
    mapFile: native.mapFile,
    probeLan: (options) => probeLan({ native, netns: "", ...options }),
  };
}

/**
 * SIGTERM and SIGINT stop, SIGHUP reloads. `stop` may be called before there is anything to stop:
 * then `ifAsked`, at the end of the start, calls it once more.
 */
export function onSignals(work: { stop: () => Promise<void>; reload: () => void }): {
  asked: () => boolean;
  ifAsked: () => Promise<void>;
} {
  let asked = false;
  const stop = async () => {
    asked = true;
    await work.stop();
    // Nothing should be left to keep the process; if something does, it does not keep it long.
    setTimeout(() => process.exit(), 1000).unref();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop());
  process.on("SIGHUP", work.reload);
  return {
    asked: () => asked,
    ifAsked: async () => {
      if (asked) await stop();
    },
  };
}
