/** Servers of the world's, for pods to run and for tests to ask. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestNet, waitFor } from "./netns.js";
import { startServer } from "./traffic.js";

/** Length of the page that startNginx() serves. */
export const PAGE_BYTES = 100_000;

/** nginx on port 80 of a namespace, with one page: /page. */
export async function startNginx(net: TestNet, ns: string): Promise<void> {
  const directory = net.directory();
  writeFileSync(join(directory, "page"), Buffer.alloc(PAGE_BYTES, "podwire "));
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  const config = join(directory, "nginx.conf");
  writeFileSync(
    config,
    `user root; daemon off; master_process off; pid ${directory}/pid; error_log stderr;
     events { worker_connections 64; }
     http { access_log off; ${paths.join(" ")} server { listen 80; root ${directory}; } }`,
  );
  const nginx = net.spawn(ns, "nginx", ["-c", config, "-e", "stderr"]);
  await waitFor(() => net.exec(ns, "curl", ["-sf", "-o", "/dev/null", "http://127.0.0.1/page"]), {
    what: "nginx",
  });
  if (nginx.code !== null) throw new Error(`nginx ended: ${nginx.stderr}`);
}

/** Redis on its port of a namespace, in memory only. */
export async function startRedis(net: TestNet, ns: string): Promise<void> {
  const args = ["--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", net.directory()];
  await startServer(net, ns, "redis-server", args, "Ready to accept connections");
}
