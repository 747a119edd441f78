/**
 * The steps of `podwire install`. May be repeated: units are renewed, settings and the certificate
 * stay unless `force` is set.
 */
import {
  ADMIN_KUBECONFIG,
  AGENT_ENV,
  AGENT_KUBECONFIG,
  AGENT_UNIT,
  APISERVER_ENV,
  APISERVER_UNIT,
  CNI_CONFIG,
  CNI_PLUGIN,
  NETWORKD_DROPIN,
  NETWORKD_UNITS,
  unitPath,
} from "./files.js";
import type { System } from "./System.js";
import {
  type AgentSettings,
  type ApiServerSettings,
  agentEnv,
  agentUnit,
  apiserverEnv,
  apiserverUnit,
  CNI_CONFIG_TEXT,
  cniPlugin,
  NETWORKD_TEXT,
  type Program,
} from "./units.js";

/** With what a node joins. */
export interface JoinLine {
  /** https://192.168.2.30:6443 */
  server: string;
  token: string;
  caHash: string;
}

export interface InstallOptions {
  program: Program;
  agent: AgentSettings;
  /** Null on nodes that have no API server. */
  apiserver: ApiServerSettings | null;
  /** Null where the node's own API server gives the certificate, or where it has one already. */
  join: JoinLine | null;
  /** Replaces settings and the certificate that are there. */
  force: boolean;
  /** Only writes files, though services could be started. */
  start: boolean;
}

/** What the steps need of the rest of podwire. */
export interface InstallParts {
  /** Waits until the API server of this machine answers at `url`; rejects where it does not. */
  waitForServer(url: string): Promise<void>;
  /** A new token of this machine's API server, good for a short time. */
  ownToken(): Promise<Omit<JoinLine, "server">>;
  /** Gets this node a certificate; the text of the kubeconfig with it. */
  join(line: JoinLine, node: string): Promise<string>;
}

/**
 * Installs, and says what it does. Rejects with an Error that says what to do where systemd, the API
 * server or the token refuses; a second try goes on from there.
 */
export async function install(
  options: InstallOptions,
  system: System,
  parts: InstallParts,
  say: (line: string) => void,
): Promise<void> {
  const { program, agent, apiserver, force } = options;
  const write = (path: string, text: string, mode: number) => {
    if (system.read(path) === text) return;
    system.write(path, text, mode);
    say(`wrote ${path}`);
  };
  const settle = (path: string, text: string) => {
    const there = system.read(path);
    if (there !== null && there !== text && !force)
      say(
        `kept ${path} as it was (--force writes it anew); this install would have written:\n${text.trim()}`,
      );
    else write(path, text, 0o644);
  };

  if (apiserver !== null) {
    settle(APISERVER_ENV, apiserverEnv(apiserver));
    write(unitPath(APISERVER_UNIT), apiserverUnit(program), 0o644);
  }
  settle(AGENT_ENV, agentEnv(agent));
  write(unitPath(AGENT_UNIT), agentUnit(program, agent.runPods), 0o644);
  if (!agent.runPods) {
    // The plugin first: a container runtime takes the network as soon as it is there.
    write(CNI_PLUGIN, cniPlugin(program), 0o755);
    write(CNI_CONFIG, CNI_CONFIG_TEXT, 0o644);
  }
  if (NETWORKD_UNITS.some((path) => system.exists(path)) && system.read(NETWORKD_DROPIN) !== NETWORKD_TEXT) {
    write(NETWORKD_DROPIN, NETWORKD_TEXT, 0o644);
    say("systemd-networkd, where it runs, takes that over when it starts again");
  }

  let joined = !force && system.exists(AGENT_KUBECONFIG);
  const join = async (line: JoinLine) => {
    if (joined) {
      say(`kept ${AGENT_KUBECONFIG}: this node has joined already (--force joins anew)`);
      return;
    }
    system.write(AGENT_KUBECONFIG, await parts.join(line, agent.node), 0o600);
    say(`${agent.node} has joined ${line.server}`);
    joined = true;
  };
  const serve = async (unit: string) => {
    await system.systemctl("enable", unit);
    await system.systemctl("restart", unit);
    say(`started ${unit}`);
  };

  if (!options.start || !system.startsServices) {
    if (options.join !== null) await join(options.join);
    say(options.start ? "systemd is not at work here: nothing was started" : "nothing was started");
    return;
  }
  await system.systemctl("daemon-reload");
  if (apiserver !== null) {
    const server = `https://${apiserver.address}:${apiserver.port}`;
    await serve(APISERVER_UNIT);
    await parts.waitForServer(server);
    say(`the API server answers at ${server}; its administrator: KUBECONFIG=${ADMIN_KUBECONFIG}`);
    if (!joined) await join({ server, ...(await parts.ownToken()) });
  } else if (options.join !== null) await join(options.join);
  if (!joined)
    throw new Error(
      `${AGENT_KUBECONFIG} is missing: this node has not joined. Name --server, --token and --ca-hash.`,
    );
  await serve(AGENT_UNIT);
}
