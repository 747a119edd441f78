/** One lifecycle hook of a container, once: exec, httpGet, sleep (pkg/kubelet/lifecycle). */
import type * as core from "kubernetes-types/core/v1.js";
import { type Clock, sleep } from "../kube/Clock.js";
import { type ProbeTarget, runProbe } from "./probe.js";

/** An httpGet hook may take as long as its container's grace period. */
const HTTP_SECONDS = 3_600;

/** In the API since 1.29, and not in the types. */
type Handler = core.LifecycleHandler & { sleep?: { seconds: number } };

/** Runs a hook until it ends, or `signal` says that its time is over. What went wrong, or null. Never rejects. */
export async function runHook(
  hook: Handler,
  target: ProbeTarget,
  signal: AbortSignal,
  clock: Clock,
): Promise<string | null> {
  const late = new Promise<string>((resolve) => {
    const tell = () => resolve("its time is over");
    if (signal.aborted) tell();
    signal.addEventListener("abort", tell, { once: true });
  });
  return Promise.race([late, run(hook, target, signal, clock)]);
}

async function run(
  hook: Handler,
  target: ProbeTarget,
  signal: AbortSignal,
  clock: Clock,
): Promise<string | null> {
  if (hook.exec !== undefined) return command(hook.exec.command ?? [], target, signal);
  if (hook.httpGet !== undefined) {
    const { ok, message } = await runProbe({ httpGet: hook.httpGet, timeoutSeconds: HTTP_SECONDS }, target);
    return ok ? null : message;
  }
  if (hook.sleep !== undefined) {
    await sleep(clock, hook.sleep.seconds * 1000, signal);
    return null;
  }
  return "the hook has no handler that is supported (exec, httpGet and sleep are)";
}

async function command(words: string[], { exec }: ProbeTarget, signal: AbortSignal): Promise<string | null> {
  try {
    const options = { command: words, stdin: false, stdout: true, stderr: true, tty: false };
    const session = await exec(options, signal);
    session.stdout?.resume();
    session.stderr?.resume();
    const { code, message } = await session.ended;
    const cause = message === undefined ? "" : `: ${message}`;
    return code === 0 ? null : `command ${JSON.stringify(words)} exited with ${code}${cause}`;
  } catch (error) {
    return (error as Error).message;
  }
}
