/** What run.ts tells the files, each of which is a process: where the suite goes. */

export interface Settings {
  kind: "lab" | "ssh";
  /** For ssh: its config file, which knows the nodes by their names; "" for ssh's own. */
  sshConfig: string;
  /** Whether there is a machine called pc. Without one this machine asks, which is on the nodes' LAN. */
  pc: boolean;
}

const VARIABLE = "PODWIRE_ACCEPTANCE";

/** The environment for a file of the suite. */
export function environmentOf(settings: Settings): Record<string, string> {
  return { [VARIABLE]: JSON.stringify(settings) };
}

/** What run.ts has put there. Throws an Error where a file is started by itself. */
export function settingsOf(env: NodeJS.ProcessEnv): Settings {
  const text = env[VARIABLE];
  if (text === undefined) throw new Error("run the suite by npm run acceptance -- --target lab|vagrant|ssh");
  return JSON.parse(text) as Settings;
}
