/** The servers in one namespace: iperf3, nginx, redis. */

import type { ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inNetns, type Launcher } from "../command.js";
import { sleep } from "./session.js";
import type { Target } from "./TestPath.js";
import { SIDE_B, workDirectory } from "./topology.js";

export const IPERF_PORT = 5201;
export const HTTP_PORT = 8080;
export const REDIS_PORT = 6379;

/** The servers in the remote pod, reached at its own address. */
export const SERVERS_OF_POD_B: Target = {
  iperf: { address: SIDE_B.podAddress, port: IPERF_PORT },
  http: { address: SIDE_B.podAddress, port: HTTP_PORT },
  redis: { address: SIDE_B.podAddress, port: REDIS_PORT },
};

/** One port that nginx listens on, and its answer (nginx's variables allowed). */
export interface HttpAnswer {
  port: number;
  answer: string;
}

const STOP_GRACE_MS = 3_000;

/** The configuration of an nginx that keeps its files in `directory`. */
export function nginxConfig(directory: string, answers: readonly HttpAnswer[]): string {
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  const servers = answers.map(
    ({ port, answer }) => `server { listen ${port} backlog=4096; location / { return 200 "${answer}\\n"; } }`,
  );
  return `worker_processes 2;
daemon off;
pid ${directory}/nginx.pid;
error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  ${paths.join("\n  ")}
  ${servers.join("\n  ")}
}
`;
}

export class Servers {
  private iperf: ChildProcess | null = null;
  private readonly others: ChildProcess[] = [];

  /** @param name names its files; unlike every other instance's of the run */
  constructor(
    private readonly launcher: Launcher,
    private readonly netns: string,
    private readonly name: string,
  ) {}

  startIperf(): void {
    this.iperf = this.start(["iperf3", "-s", "-p", String(IPERF_PORT), "--forceflush"], "iperf3");
  }

  /** Ends and restarts the iperf3 server: after a client that failed it may still wait for it. */
  async restartIperf(): Promise<void> {
    if (this.iperf !== null) await this.launcher.stop([this.iperf], STOP_GRACE_MS);
    this.startIperf();
    await sleep(300);
  }

  startNginx(answers: readonly HttpAnswer[]): void {
    const directory = this.directory("nginx");
    writeFileSync(join(directory, "nginx.conf"), nginxConfig(directory, answers));
    this.others.push(
      this.start(["nginx", "-e", `${directory}/error.log`, "-c", `${directory}/nginx.conf`], "nginx"),
    );
  }

  startRedis(): void {
    const settings = {
      port: REDIS_PORT,
      bind: "0.0.0.0",
      "protected-mode": "no",
      save: "",
      appendonly: "no",
    };
    const args = Object.entries({ ...settings, dir: this.directory("redis") }).flatMap(([key, value]) => [
      `--${key}`,
      String(value),
    ]);
    this.others.push(this.start(["redis-server", ...args], "redis"));
  }

  /** Those that run. */
  processes(): ChildProcess[] {
    return this.iperf === null ? this.others : [this.iperf, ...this.others];
  }

  private start(argv: readonly string[], program: string): ChildProcess {
    const log = join(workDirectory(), `${this.name}-${program}.log`);
    return this.launcher.start(inNetns(this.netns, argv), log);
  }

  private directory(program: string): string {
    const directory = join(workDirectory(), `${this.name}-${program}`);
    mkdirSync(directory, { recursive: true });
    return directory;
  }
}
